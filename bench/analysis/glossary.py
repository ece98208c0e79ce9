"""The glossary: plain names of methods and conditions, and what the words of the pages mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bench.analysis.words import MEANINGS, WORDS, method_name
from plugins_manifest.schema.kinds import kinds_where

__all__ = [
    "function_word",
    "glossary",
    "kind_name",
    "legend_name",
    "meaning_of",
    "meanings_of",
    "method_name",
    "metric_meaning",
    "metric_name",
]
# the names of references where nothing around them explains them, as in the legend of a chart
_LEGEND_NAMES: Mapping[str, str] = {
    "oracle": "Native plugin (ceiling)",
    "floor": "New model without plugin",
    "base-floor": "Old model without plugin",
}
_TERMS: Mapping[str, str] = {
    "Base model": "the old model that the plugin was made for; there it counts as 1 (at home)",
    "New model without plugin": "the upgraded model by itself; it counts as 0, the floor",
    "Native plugin (ceiling)": "a plugin of the same purpose that was trained for the new model: "
    "what one could hope for; the method oracle",
    "Hires fix": "the base model alone: it enlarges its own image and redraws a part of it at the "
    "new model's size",
    "SDEdit": "the base model makes an image with the plugin, the new model redraws a part of it",
    "X-Adapter": "as SDEdit, and while the new model redraws, the base model runs beside it and "
    "a trained mapper passes its features on",
    "Delta Sampling": "as SDEdit, and while the new model redraws, the base model runs beside it "
    "with and without the plugin; the difference is added, nothing is trained",
    "Direct load": "the plugin's own file, loaded into the new model as it is",
    "Converted file": "the new model with a file that was made from the plugin's for it",
    "t0": "how much is redrawn by the new model: 0.1 little, 1 all of it",
    "Keeps": "the share of the plugin's effect that is left: 100 % as on the base model, 0 % as "
    "without the plugin; brackets hold the 95 % interval over prompts",
    "Function": "what a plugin is for, as a number of each image: how well a condition is found "
    "again, or how much of a style is there",
    "Distance of the look": "how far the images are from what they should look like, apart from "
    "what the plugin is for; lower is better",
    "Setting": "a method with its t0 and the strengths of plugin and adapter",
    "Images like the new model's": "apart from the plugin's own style they are shown to look more "
    "like the new model's own images than the old model's images do",
}
# metrics by id: name, and what the number is
_FOUND = "how well {} can be found again in the image; 1: all of it and nothing else"
_EDGES = _FOUND.format("the edges of the condition")
_STYLE = "how much an image looks like the base model's images with the plugin"
_PLACE = "place of an image between the new model without plugin (0) and the base model with it (1)"
_LOOK = "how far the images as a set are from {}; 0: the same, lower is better"
_NEW = "the new model's own images without plugin"
_NATIVE = "the images of the native plugin"
_BETWEEN = "all that lies between the new model's own images and those of the native plugin"
_SET_PLACE = "place of the images as a set between the new model's own (0) and the native plugin's"
_KEPT = (
    "what the plugin changes in an image, along what it changes on the base model; 0: nothing of "
    "it, 1: as much"
)
_STRENGTH = "how large the plugin's mean change of images is, as a share of that on the base model"
_DIRECTION = "whether the plugin changes images in the same way as on the base model; 1: the same"
_CONSISTENCY = "how alike the plugin's changes of different images are; 1: the same in all"
_SAMPLES = "how much an image looks like the plugin's own sample pictures"
_TEXT = "how well an image agrees with its prompt"
_TASTE = "how much people would like an image, as a model estimates it"
_PIXELS = (
    "how different an image is from the base model's image of the same prompt; lower is nearer"
)
_METRICS: Mapping[str, tuple[str, str]] = {
    "edge-f1": ("Edges found", _EDGES),
    "edge-f1-1px": ("Edges found, within 1 px", _EDGES),
    "edge-f1-2px": ("Edges found, within 2 px", _EDGES),
    "edge-f1-kornia": ("Edges found, as in ControlNet++", _EDGES),
    "edge-iou": ("Overlap of edges", _EDGES),
    "edge-precision": (
        "Edges that belong",
        "the share of the image's edges that the condition has",
    ),
    "edge-recall": ("Edges not missed", "the share of the condition's edges that the image has"),
    "mask-iou": ("Overlap with the mask", _FOUND.format("the mask")),
    "seg-iou": ("Overlap with the segments", _FOUND.format("each segment")),
    "seg-miou": ("Overlap with the segments, all images", _FOUND.format("each segment")),
    "depth-rmse": ("Error of depth", "difference of the image's depth to the condition's"),
    "depth-aligned-rmse": (
        "Error of depth, aligned",
        "difference of the image's depth to the condition's, apart from scale and shift",
    ),
    "depth-spearman": ("Order of depths", "how far the order of near and far is the condition's"),
    "pose-oks": ("Pose found", _FOUND.format("the pose")),
    "pose-pck": ("Joints found", "the share of joints that are where the condition has them"),
    "hed-ssim": ("Soft edges found (HED)", _FOUND.format("the soft edges")),
    "hed-ms-ssim": ("Soft edges found (HED), all scales", _FOUND.format("the soft edges")),
    "lineart-ssim": ("Lines found", _FOUND.format("the line drawing")),
    "lineart-ms-ssim": ("Lines found, all scales", _FOUND.format("the line drawing")),
    "softedge-ssim": ("Soft edges found", _FOUND.format("the soft edges")),
    "softedge-ms-ssim": ("Soft edges found, all scales", _FOUND.format("the soft edges")),
    "tile-lpips": ("Difference to the tile", "how different the image is from the picture given"),
    "tile-psnr": ("Agreement with the tile", "how exactly the picture given is kept, in dB"),
    "style-projection": ("Share of the style", _PLACE),
    "style-projection-clip-i": ("Share of the style (CLIP)", _PLACE),
    "style-clip-i": ("Likeness of style (CLIP)", _STYLE),
    "style-clip-i-paper": ("Likeness to the base image (CLIP)", _STYLE),
    "style-csd": ("Likeness of style (CSD)", _STYLE),
    "style-csd-mmd": ("Distance of style (CSD)", _LOOK.format("the base model's with the plugin")),
    "style-gram": ("Likeness of textures", _STYLE),
    "pocket-style": ("Likeness of style", _STYLE),
    "pocket-style-paper": ("Likeness to the base image", _STYLE),
    "pocket-style-projection": ("Share of the style", _PLACE),
    "pocket-style-rate": ("Drawn in the style", "the share of images in the style of the plugin"),
    **{
        f"{prefix}effect-{part}{suffix}": (f"{name}{network}", meaning)
        for prefix, suffix, network in (
            ("", "", " (CLIP)"),
            ("", "-dinov2", " (DINOv2)"),
            ("pocket-", "", ""),
        )
        for part, name, meaning in (
            ("kept", "Share of the effect", _KEPT),
            ("strength", "Strength of the effect", _STRENGTH),
            ("direction", "Direction of the effect", _DIRECTION),
            ("consistency", "Consistency of the effect", _CONSISTENCY),
        )
    },
    "dino-i": ("Likeness to the samples (DINO)", _SAMPLES),
    "clip-i": ("Likeness to the samples (CLIP)", _SAMPLES),
    "pocket-identity": ("Likeness to the samples", _SAMPLES),
    "clip-score": ("Agreement with the prompt (CLIP)", _TEXT),
    "pocket-clip": ("Agreement with the prompt", _TEXT),
    "pocket-oracle": (
        "True statements",
        "the share of the prompt's statements that an image shows",
    ),
    "hpsv2": ("Preference (HPS v2.1)", _TASTE),
    "imagereward": ("Preference (ImageReward)", _TASTE),
    "pickscore": ("Preference (PickScore)", _TASTE),
    "lpips": ("Difference to the base image", _PIXELS),
    "lpips-vgg": ("Difference to the base image (VGG)", _PIXELS),
    "pocket-lpips": ("Difference to the base image", _PIXELS),
    "lpips-diversity": ("Variety", "how much the images of different seeds differ"),
    "fid": ("Distance of the look (FID)", _LOOK.format(_NEW)),
    "fid-infinity": ("Distance of the look (FID, unbiased)", _LOOK.format(_NEW)),
    "fd-dinov2": ("Distance of the look (DINOv2)", _LOOK.format(_NEW)),
    "mind": ("Distance of the look (MIND)", _LOOK.format(_NEW)),
    "mind-dinov2": ("Distance of the look (MIND, DINOv2)", _LOOK.format(_NEW)),
    "pocket-mind": ("Distance of the look (MIND)", _LOOK.format(_NEW)),
    "pocket-fid": ("Distance of the look (FID)", _LOOK.format(_NEW)),
    **{
        f"{prefix}{end}": (f"{name} ({network})", meaning)
        for prefix, network in (("cmmd", "CMMD"), ("kid", "KID"))
        for end, name, meaning in (
            ("", "Distance of the look", _LOOK.format(_NEW)),
            ("-floor", "Distance to the new model", _LOOK.format(_NEW)),
            ("-oracle", "Distance to the native plugin", _LOOK.format(_NATIVE)),
            ("-rest", "Distance of the look, without style", _LOOK.format(_BETWEEN)),
            ("-place", "Place between new model and native plugin", _SET_PLACE),
        )
    },
    "pocket-kid": ("Distance of the look (KID)", _LOOK.format(_NEW)),
    "pocket-kid-floor": ("Distance to the new model", _LOOK.format(_NEW)),
    "pocket-kid-oracle": ("Distance to the native plugin", _LOOK.format(_NATIVE)),
    "pocket-rest": ("Distance of the look, without style", _LOOK.format(_BETWEEN)),
    "pocket-place": ("Place between new model and native plugin", _SET_PLACE),
}
_KIND_NAMES: Mapping[str, str] = {
    "lora": "LoRA",
    "lycoris": "LyCORIS",
    "controlnet": "ControlNet",
    "t2i_adapter": "T2I-Adapter",
    "ip_adapter": "IP-Adapter",
    "textual_inversion": "Textual inversion",
}
_WITH_CONDITION = frozenset(kinds_where(lambda kind: kind.needs_condition))
_WITH_REFERENCE = frozenset(kinds_where(lambda kind: kind.needs_reference))
_WITH_STYLE = frozenset(kinds_where(lambda kind: kind.changes_style))


def legend_name(method: str) -> str:
    """Return a method's plain name for a legend: a reference with what it stands for."""
    return _LEGEND_NAMES.get(method) or method_name(method)


def metric_name(metric: str) -> str:
    """Return a metric's plain name; one that is not listed keeps its id."""
    return _METRICS[metric][0] if metric in _METRICS else metric


def metric_meaning(metric: str) -> str:
    """Return what a metric's number is, with its id as tables and commands have it."""
    text = f"{_METRICS[metric][1]}. " if metric in _METRICS else ""
    return f"{text[:1].upper()}{text[1:]}In tables: {metric}"


def meaning_of(term: str) -> str:
    """Return the meaning of a term of the glossary as one sentence, for a hover text."""
    return f"{term}: {dict(glossary())[term]}."


def meanings_of(terms: Iterable[str]) -> str:
    """Return the meanings of several terms, a paragraph each."""
    return "\n\n".join(meaning_of(term) for term in terms)


def kind_name(kind: str) -> str:
    """Return a kind of plugins as its authors spell it; one that is not listed keeps its id."""
    return _KIND_NAMES.get(kind, kind)


def function_word(kind: str) -> str:
    """Return what a number of a plugin's function counts, in plain words."""
    if kind in _WITH_CONDITION:
        return "condition found"
    if kind in _WITH_REFERENCE:
        return "likeness"
    return "style" if kind in _WITH_STYLE else "function"


def glossary() -> list[tuple[str, str]]:
    """Return every term with its meaning: models, methods, numbers, then the verdicts."""
    verdicts = ((word.capitalize(), MEANINGS[word]) for word in WORDS)
    return [*_TERMS.items(), *verdicts]
