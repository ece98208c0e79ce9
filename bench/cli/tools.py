"""The commands around a run: conditions, training, cache, doctor."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from plugins_manifest.errors import UserError


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
def conditions(folder: Path, detector: str, out: Path, size: str) -> None:
    """Make condition images from a folder of photos, NAME.png for each.

    A photo is scaled to fill the size and cropped to its middle. A manifest reads the images from
    condition_images/DETECTOR.
    """
    from tqdm import tqdm

    from bench.cli.output import bar_disabled
    from bench.plan.conditions import convert_folder, parse_size

    made = list(
        tqdm(
            convert_folder(folder, out, detector=detector, size_px=parse_size(size)),
            unit="image",
            disable=bar_disabled(),
        )
    )
    click.echo(f"{len(made)} condition images in {out}")


@click.command()
@click.option("--family", type=click.Choice(["pocket"]), default="pocket", show_default=True)
@click.option("--steps", type=click.IntRange(min=1), help="Training steps.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Output folder.")
def train(family: str, steps: int | None, seed: int, out: Path) -> None:
    """Train a mapper; the same command resumes. Use it with: xbench run --adapter OUT/mapper."""
    from bench.cli.output import is_quiet
    from bench.train import train_pocket_mapper

    try:
        result = train_pocket_mapper(steps=steps, out_dir=out, seed=seed, progress=not is_quiet())
    except ValueError as error:
        raise UserError(str(error)) from error
    except OSError as error:
        from bench.errors import disk_error

        raise disk_error(error, out) from error
    click.echo(f"mapper in {result.mapper_path} after {result.steps} steps")


@click.group()
def cache() -> None:
    """Show or clean the image cache that all runs share."""


@cache.command("info")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show_cache(as_json: bool) -> None:
    """Print the folder and the size of the cache."""
    from bench.store.image_cache import cache_info

    info = cache_info()
    if as_json:
        facts = {"folder": str(info.folder), "images": info.n_images, "bytes": info.n_bytes}
        click.echo(json.dumps(facts))
        return
    click.echo(f"{info.folder}: {info.n_images} images, {info.n_bytes / 2**20:.1f} MiB")


@cache.command("clean")
@click.option("--unused-days", type=float, help="Only images unused for this many days.")
def clean(unused_days: float | None) -> None:
    """Remove cached images; run directories are not changed."""
    from bench.store.image_cache import clean_cache

    removed = clean_cache(unused_days=unused_days)
    click.echo(f"removed {removed.n_images} images, {removed.n_bytes / 2**20:.1f} MiB")


@click.command()
def doctor() -> None:
    """Check whether this machine is ready for a run."""
    from bench.cli.doctor import examine

    n_problems = 0
    for finding in examine():
        fix = f" -> {finding.fix}" if finding.fix else ""
        click.echo(f"{finding.state:<8} {finding.name}: {finding.detail}{fix}")
        n_problems += finding.state != "ok"
    if n_problems:
        sys.exit(1)
