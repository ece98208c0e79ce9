"""What a picture of the pocket world shows, found analytically, without a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from metrics.base import Better, Families, References, Role, Score, ScoredImage, expect
from metrics.pocket_scorer import POCKET_FAMILIES
from pocket.scenes import STYLE_WORDS, Style, render, scene_at


@dataclass(frozen=True)
class PocketOracle:
    """Share of the caption's statements that hold, found analytically."""

    name: str = "pocket-oracle"
    better: Better = "higher"
    level: Literal["image"] = "image"
    needs: tuple[str, ...] = ()

    def recipe(self) -> str:
        """Return the procedure."""
        return "pocket.oracle.check at 128 px: mean of the statements that apply"

    def applies_to(self, image: ScoredImage) -> bool:
        """Return whether the image shows a pocket scene, which has ground truth."""
        return image.scene is not None

    def score(self, images: Sequence[ScoredImage], references: References) -> list[Score]:
        """Return one accuracy for each image, 0..1."""
        return [self._score(image) for image in images]

    def selftest(self) -> None:
        """Check that drawn scenes agree with their own ground truth and not with others'."""
        from pocket.oracle import check

        scenes = [scene_at(6, i) for i in range(12)]
        pictures = [render(scene, "flat", 128) for scene in scenes]
        own = [check(p, s).accuracy for p, s in zip(pictures, scenes, strict=True)]
        other = [check(p, s).accuracy for p, s in zip(pictures[1:], scenes, strict=False)]
        expect(sum(own) / len(own) > 0.9, "the oracle does not recognize drawn scenes")
        expect(sum(other) / len(other) < 0.6, "the oracle accepts scenes that are not drawn")

    def _score(self, image: ScoredImage) -> Score:
        from pocket.oracle import check

        if image.scene is None:
            return Score(None, "the case is not a pocket scene")
        seed, index = image.scene
        return Score(float(check(image.load_picture(), scene_at(seed, index)).accuracy))


@dataclass(frozen=True)
class PocketStyleRate:
    """Whether the picture is drawn in the style that the plugin teaches."""

    name: str = "pocket-style-rate"
    role: Role | None = "function"
    rank: int = 170
    family: Families = POCKET_FAMILIES
    better: Better = "higher"
    level: Literal["image"] = "image"
    needs: tuple[str, ...] = ()

    def recipe(self) -> str:
        """Return the procedure."""
        return (
            "pocket.oracle.read_style at 128 px, gaps of contours closed, pieces weighted by area, "
            "equals the style of the plugin's trigger"
        )

    def applies_to(self, image: ScoredImage) -> bool:
        """Return whether the plugin's trigger names a pocket style."""
        return style_of(image.trigger) is not None

    def score(self, images: Sequence[ScoredImage], references: References) -> list[Score]:
        """Return 0 or 1 for each image; an image without objects has no style and gets 0."""
        from pocket.oracle import read_style

        return [
            Score(float(read_style(image.load_picture()) == style_of(image.trigger)))
            for image in images
        ]

    def selftest(self) -> None:
        """Check that each style is recognized in drawings."""
        from pocket.oracle import read_style

        for style in STYLE_WORDS:
            read = [read_style(render(scene_at(5, i), style, 128)) for i in range(8)]
            expect(read.count(style) >= 6, f"style {style} is read as {read}")


def style_of(trigger: str | None) -> Style | None:
    """Return the pocket style that a trigger names."""
    for style, words in STYLE_WORDS.items():
        if words == trigger:
            return style
    return None


POCKET_ORACLE = PocketOracle()
POCKET_STYLE_RATE = PocketStyleRate()
