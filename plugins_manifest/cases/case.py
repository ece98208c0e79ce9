"""A case: what every method gets. Apart from its sources, which all import it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """A prompt with an optional source picture: a file, or a scene (seed, index) of pocket.

    `condition_paths` are finished condition images, (condition name, path); `reference_path` is
    the picture for image prompts, if it is not the source picture.
    """

    case_id: str
    prompt: str
    negative_prompt: str = ""
    image_path: str | None = None
    scene: tuple[int, int] | None = None
    condition_paths: tuple[tuple[str, str], ...] = ()
    reference_path: str | None = None

    def condition_path(self, condition: str) -> str | None:
        """Return the finished image of a condition; None if it is made from the picture."""
        return dict(self.condition_paths).get(condition)

    @property
    def has_picture(self) -> bool:
        """Whether conditions can be made from a picture."""
        return self.image_path is not None or self.scene is not None
