"""The commands around a run: conditions, pictures, cache, doctor."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.cli.exits import NEGATIVE, finish
from bench.cli.output import echo, echo_json, echo_lines, json_option, wrapped
from plugins_manifest.errors import UserError
from plugins_manifest.extras import require_extra
from plugins_manifest.progress import Progress
from plugins_manifest.schema.words import MAX_CASES, MAX_SEED

if TYPE_CHECKING:
    from bench.plan.photo_folder import Converted
    from pocket.scenes import Style


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--detector",
    required=True,
    metavar="NAME",
    help="canny, mask or tile; with weights of xbench metrics fetch also depth, hed, lineart, "
    "openpose, seg or softedge.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Output folder.")
@click.option("--size", default="512x512", show_default=True, metavar="WxH", help="Size in px.")
@json_option
def conditions(folder: Path, detector: str, out: Path, size: str, as_json: bool) -> None:
    """Make condition images from a folder of photos, NAME.png for each.

    A photo is scaled to fill the size and cropped to its middle. A manifest reads OUT as
    condition_images. Exit code 1: some photos could not be used, the others were.
    """
    from bench.cli.output import is_quiet
    from bench.plan.photo_folder import convert_folder, parse_size

    require_extra("render")
    made: list[Converted] = []
    with Progress("detecting conditions", unit="photo", has_bar=not is_quiet()) as bar:
        for one in convert_folder(folder, out, detector=detector, size_px=parse_size(size)):
            made.append(one)
            bar.update()
    problems = list(dict.fromkeys(one.problem for one in made if one.problem is not None))
    n_made = sum(one.image is not None for one in made)
    if not n_made:
        raise UserError.collect(problems)
    if as_json:
        facts = {"images": n_made, "folder": str(out), "skipped": problems}
        echo_json({**facts, "remarks": _remarks(made)})
        if problems:
            finish(NEGATIVE)
        return
    for line in _remarks(made):
        echo(line, err=True)
    echo(f"{n_made} condition images in {out}")
    if problems:
        echo(f"{len(made) - n_made} photos were skipped:", err=True)
        for problem in problems:
            echo(f"  - {problem}", err=True)
        finish(NEGATIVE)


def _remarks(made: Sequence[Converted]) -> list[str]:
    """Return the remarks about photos, each once, with the first of its photos."""
    from plugins_manifest.text import shortened

    found: dict[str, list[str]] = {}
    for one in made:
        for remark in one.remarks:
            found.setdefault(remark, []).append(one.photo.name)
    return [f"{shortened(names, 3)}: {remark}" for remark, names in found.items()]


@click.group()
def pocket() -> None:
    """Draw pictures of the pocket world."""


@pocket.command("pictures")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Output folder.")
@click.option("--n", type=click.IntRange(1, MAX_CASES), default=200, show_default=True)
@click.option("--seed", type=click.IntRange(0, MAX_SEED), default=0, show_default=True)
@click.option("--size", type=click.IntRange(16, 1024), default=64, show_default=True, help="In px.")
@click.option(
    "--style",
    type=click.Choice(["flat", "shaded", "outline", "hatched"]),
    default="flat",
    show_default=True,
)
@json_option
def pictures(out: Path, n: int, seed: int, size: int, style: Style, *, as_json: bool) -> None:
    """Draw scenes with their captions, to train plugins on: PNG files and metadata.jsonl."""
    from bench.errors import shown_path
    from plugins_manifest.folders import refuse_others
    from pocket.pictures import METADATA, picture_name, write_pictures

    refuse_others(out, (METADATA, *map(picture_name, range(n))))
    try:
        write_pictures(out, n_pictures=n, seed=seed, size_px=size, style=style)
    except OSError as error:
        from bench.errors import disk_error

        raise disk_error(error, out) from error
    if as_json:
        echo_json({"folder": str(out), "pictures": n})
    else:
        echo(f"{n} pictures and metadata.jsonl in {shown_path(out)}")


@click.group()
def cache() -> None:
    """Show or clean the image cache that all runs share."""


@cache.command("info")
@json_option
def show_cache(as_json: bool) -> None:
    """Print the folder and the size of the cache."""
    from bench.store.image_cache import cache_info

    info = cache_info()
    if as_json:
        facts = {"folder": str(info.folder), "images": info.n_images, "bytes": info.n_bytes}
        echo_lines(json.dumps(facts))
        return
    echo(f"{info.folder}: {info.n_images} images, {info.n_bytes / 2**20:.1f} MiB")


@cache.command("clean")
@click.option("--unused-days", type=float, help="Only images unused for this many days.")
@json_option
def clean(unused_days: float | None, as_json: bool) -> None:
    """Remove cached images; run directories are not changed."""
    from bench.store.image_cache import clean_cache

    removed = clean_cache(unused_days=unused_days)
    if as_json:
        echo_json({"images": removed.n_images, "bytes": removed.n_bytes})
        return
    echo(f"removed {removed.n_images} images, {removed.n_bytes / 2**20:.1f} MiB")


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Check whether this machine is ready for a run, and conclude what it can run.

    Exit code 1: a problem was found.
    """
    from bench.cli.doctor import Finding, examine
    from bench.cli.readiness import conclude

    found: list[Finding] = []
    for finding in examine():
        found.append(finding)
        if not as_json:
            fix = f" -> {finding.fix}" if finding.fix else ""
            text = f"{finding.state:<8} {finding.name}: {finding.detail}{fix}"
            echo_lines(wrapped(text, hanging=9))
    answers = [*conclude(found)]
    if as_json:
        rows = [Finding(a.question, "ok", a.answer, "; ".join(a.steps) or None) for a in answers]
        echo_json([vars(one) for one in [*found, *rows]])
    else:
        for answer in answers:
            echo_lines("\n" + wrapped(f"{answer.question}: {answer.answer}"))
            echo_lines("\n".join(wrapped(f"  {step}", hanging=4) for step in answer.steps))
    if any(finding.state != "ok" for finding in found):
        finish(NEGATIVE)
