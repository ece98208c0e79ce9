"""The pairs of images that lost most: found with the scores, written or linked for a comment.

Comments of GitHub display pictures from public addresses alone, neither data URLs nor files beside
them. Pictures of a run that was published to the Hub are linked there; others are written beside
the comment, for an address that the caller names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from bench.errors import UserError
from bench.gate.pairs import KNOBS, Pair, Side, image_differences
from bench.gate.policy import Policy
from bench.publish.download import picture_urls
from bench.publish.pictures import Thumbnails
from bench.site.addresses import checked_url
from bench.store import Row, RunStore, read_image
from bench.store.files import sha256_of, write_bytes
from plugins_manifest.folders import refuse_others

MAX_PAIRS = 3
HERE = "."  # as the address: pictures are linked relative to the comment
_OPTION = "--pictures-url"
_PICTURES = Thumbnails(small_quality=90)
_SIDES = ("baseline", "candidate")


@dataclass(frozen=True)
class PictureFolder:
    """Where pictures are written, and the address that links to them begin with."""

    folder: Path
    url: str

    @classmethod
    def beside(cls, markdown: Path, url: str) -> PictureFolder:
        """Return the folder beside a comment; raise `UserError` for what cannot be written."""
        folder = markdown.with_name(f"{markdown.stem}-pictures")
        refuse_others(folder, ["pair-"], option=_OPTION)
        base = "" if url == HERE else str(checked_url(url, option=_OPTION))
        return cls(folder, f"{base}{folder.name}/".replace("(", "%28").replace(")", "%29"))


def worst_pairs(
    baseline: Side, candidate: Side, policy: Policy, *, prompts: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return the pairs that lost most, in margins: one margin or more, a plugin's prompt once."""
    found = []
    for spec in policy.metrics:
        for plugin, trials in baseline.trials.items():
            for pair, values, sign in image_differences(baseline, candidate, plugin, spec.name):
                loss = sign * (values[0] - values[1]) / spec.margin
                if loss >= 1:
                    rows = trials[pair], candidate.trials[plugin][pair]
                    facts = _facts(plugin, spec.name, pair, values, rows)
                    found.append((loss, facts))
    found.sort(key=lambda one: (-one[0], one[1]["baseline_trial"], one[1]["metric"]))
    chosen: dict[tuple[str, str], dict[str, Any]] = {}
    for _, facts in found:
        prompt = prompts.get(facts["case_id"], "")
        chosen.setdefault((facts["plugin"], facts["case_id"]), {**facts, "prompt": prompt})
        if len(chosen) == MAX_PAIRS:
            break
    return list(chosen.values())


def _facts(
    plugin: str,
    metric: str,
    pair: Pair,
    values: tuple[float, float],
    rows: tuple[Row, Row],
) -> dict[str, Any]:
    knobs, case_id, seed = pair
    settings = dict(zip(KNOBS, knobs, strict=True))
    if settings["adapter"] is None:
        del settings["adapter"]
    return {
        "plugin": plugin,
        "metric": metric,
        **settings,
        "case_id": case_id,
        "seed": seed,
        **dict(zip(_SIDES, values, strict=True)),
        **{f"{side}_trial": row["trial_id"] for side, row in zip(_SIDES, rows, strict=True)},
        **{f"{side}_image": row["image"] for side, row in zip(_SIDES, rows, strict=True)},
    }


def link_pictures(
    facts: Mapping[str, Any], runs: tuple[Path, Path], target: PictureFolder | None
) -> list[dict[str, str]]:
    """Return for each of the worst pairs side -> address, as far as there is one.

    Writes pictures that are published nowhere into the target; those of earlier calls are removed.
    """
    pairs: Sequence[Mapping[str, Any]] = facts.get("worst_pairs") or ()
    found: list[dict[str, str]] = [{} for _ in pairs]
    written: set[str] = set()
    for side, folder in zip(_SIDES, runs, strict=True):
        store = RunStore(folder)
        published = _published(store, {pair[f"{side}_trial"] for pair in pairs})
        for number, (pair, links) in enumerate(zip(pairs, found, strict=True), start=1):
            if url := published.get(pair[f"{side}_trial"]):
                links[side] = url
            elif target and (content := _picture(store, pair[f"{side}_image"])):
                # another name for other pixels: hosts keep what they once displayed
                name = f"pair-{number}-{side}-{sha256_of(content)[:8]}.webp"
                write_bytes(target.folder / name, content)
                written.add(name)
                links[side] = target.url + name
    if target is not None:
        for path in target.folder.glob("pair-*"):
            if path.name not in written:
                path.unlink()
    return found


def _published(store: RunStore, trials: set[str]) -> Mapping[str, str]:
    with suppress(UserError):  # a store that is gone has no pictures; the outcome stands
        return picture_urls(store, trials) if trials else {}
    return {}


def _picture(store: RunStore, image: str | None) -> bytes | None:
    if not image:
        return None
    with suppress(UserError):
        return _PICTURES.encode(Image.fromarray(read_image(store.folder / image)))
    return None
