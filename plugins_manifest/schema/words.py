"""The closed vocabularies of the manifest that several packages share. Imports nothing."""

from typing import Literal

Side = Literal["base", "upgraded"]
PluginKindName = Literal[
    "lora", "lycoris", "controlnet", "t2i_adapter", "ip_adapter", "textual_inversion"
]
CONDITION_KINDS = ("controlnet", "t2i_adapter")  # a condition image drives them
LoraSemantics = Literal["standard", "xadapter-official"]
DTypeName = Literal["float32", "float16", "bfloat16"]
PresetName = Literal["sound", "released"]
Stage1Mode = Literal["full", "truncated"]

# Conditions whose images a detector of this project makes
DetectorName = Literal[
    "canny", "mask", "tile", "depth", "hed", "lineart", "openpose", "seg", "softedge"
]
WEIGHTLESS_DETECTORS: tuple[DetectorName, ...] = ("canny", "mask", "tile")
# Conditions without a detector: their images always come finished, with the cases
FINISHED_CONDITIONS = (
    *("color", "face", "inpaint", "keypose", "lineart-anime", "mlsd", "normal", "normalbae"),
    *("qrcode", "scribble", "shuffle", "sketch", "zoedepth"),
)
