"""Score the images of a run."""

from bench.scoring.ceilings import read_ceilings
from bench.scoring.device import recorded_device
from bench.scoring.images import ImageToScore, RunImages, content_prompts, read_images
from bench.scoring.score import read_scores, score_run
from bench.scoring.suite import score_by_names, selftests

__all__ = [
    "ImageToScore",
    "RunImages",
    "content_prompts",
    "read_ceilings",
    "recorded_device",
    "read_images",
    "read_scores",
    "score_by_names",
    "score_run",
    "selftests",
]
