"""Score the images of a run."""

from typing import TYPE_CHECKING

from plugins_manifest.lazy import lazy_names

if TYPE_CHECKING:
    from bench.scoring.images import ImageToScore as ImageToScore
    from bench.scoring.images import RunImages as RunImages
    from bench.scoring.images import read_images as read_images
    from bench.scoring.score import read_ceilings as read_ceilings
    from bench.scoring.score import read_scores as read_scores
    from bench.scoring.score import score_run as score_run
    from bench.scoring.suite import score_by_names as score_by_names
    from bench.scoring.suite import selftests as selftests

__all__ = [
    "ImageToScore",
    "RunImages",
    "read_ceilings",
    "read_images",
    "read_scores",
    "score_by_names",
    "score_run",
    "selftests",
]
__getattr__ = lazy_names(
    __name__,
    {
        "ImageToScore": "bench.scoring.images",
        "RunImages": "bench.scoring.images",
        "read_ceilings": "bench.scoring.score",
        "read_images": "bench.scoring.images",
        "read_scores": "bench.scoring.score",
        "score_by_names": "bench.scoring.suite",
        "score_run": "bench.scoring.score",
        "selftests": "bench.scoring.suite",
    },
)
