"""Closed vocabularies and bounds of the manifest that several packages share. Imports nothing."""

from typing import Literal

Side = Literal["base", "upgraded"]
PluginKindName = Literal[
    "lora", "lycoris", "controlnet", "t2i_adapter", "ip_adapter", "textual_inversion"
]
LoraSemantics = Literal["standard", "xadapter-official"]
DTypeName = Literal["float32", "float16", "bfloat16"]
PresetName = Literal["sound", "released"]
Stage1Mode = Literal["full", "truncated"]
PromptSyntax = Literal["plain", "weights"]
DeltaRoute = Literal["pixel", "latent"]
DeltaGuidance = Literal["unguided", "guided"]
DeltaSchedule = Literal["constant", "early", "linear"]
ConversionWay = Literal["distill", "copy", "prolora", "theseus", "random-rotation"]
TeacherName = Literal["delta", "xadapter"]

MAX_SEED = 2**63 - 1  # torch's generators take 63 bits
MAX_CASES = 100_000
MAX_SIDE_PX = 8192
MAX_CLIP_SKIP = 64  # layers of the largest CLIP text encoders; a model has its own bound
MAX_STRENGTH = 1e6  # beyond it float16 and float32 overflow in the first layers
MAX_ENTRIES = 1_000  # plugins, stacks, methods, values of a setting
MAX_PROMPTS = 100_000

# Conditions without a detector: their images always come finished, with the cases
FINISHED_CONDITIONS = (
    *("color", "face", "inpaint", "keypose", "lineart-anime", "mlsd", "normal", "normalbae"),
    *("qrcode", "scribble", "shuffle", "sketch", "zoedepth"),
)
# Conditions whose networks are trained on light lines on a dark ground
LINE_CONDITIONS = (
    *("canny", "hed", "lineart", "lineart-anime", "mlsd", "scribble", "sketch", "softedge"),
)
# Conditions that no image file can hold: masked pixels are -1
UNSTORABLE_CONDITIONS = ("inpaint",)
