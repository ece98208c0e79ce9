"""Ways to make an image, one module for each idea; importing them loads no torch."""

from runners.methods.base import BaseModel
from runners.methods.delta import Delta
from runners.methods.direct import Direct
from runners.methods.floor import Floor, Oracle
from runners.methods.hires import Hires
from runners.methods.sdedit import SDEdit
from runners.methods.x_adapter import XAdapterMethod

__all__ = [
    "BaseModel",
    "Delta",
    "Direct",
    "Floor",
    "Hires",
    "Oracle",
    "SDEdit",
    "XAdapterMethod",
]
