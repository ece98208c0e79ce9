"""Turn every mode that a decoder returns into uint8 RGB, as an image viewer shows it.

16-bit gray is scaled, never clipped; transparent parts show white; float pixels are read as 0 to 1.
What has no one meaning is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

_STRIP_PIXELS = 4 << 20  # converted at a time: the peak stays at 7 bytes a pixel
_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262  # tags of TIFF
_SCREEN_GAMMA = 0.45455
_SRGB = (b"sRGB", "sRGB".encode("utf-16-be"))
_WHITE = 255
Convert = Callable[[Image.Image], np.ndarray]  # of a strip, into uint8 [h, w, 3] or [h, w, 1]


@dataclass
class Modes:
    """The conversion of one picture; `remarks` is complete once `to_rgb` has returned."""

    picture: Image.Image
    remarks: list[str] = field(default_factory=list)

    def to_rgb(self) -> np.ndarray:
        """Return the loaded picture as uint8 RGB [height, width, 3]; `ValueError` if refused."""
        picture = self.picture
        convert = self._find()
        pixels = np.empty((picture.height, picture.width, 3), np.uint8)
        for top, bottom in _strips(picture):
            is_whole = bottom - top == picture.height
            box = (0, top, picture.width, bottom)
            pixels[top:bottom] = convert(picture if is_whole else picture.crop(box))
        self._remark_profile()
        return pixels

    def _find(self) -> Convert:
        mode = self.picture.mode
        if mode.startswith("I;16"):
            return self._gray16
        if mode in ("I", "F", "LAB"):
            return {"I": self._integer, "F": self._float, "LAB": self._lab}[mode]
        if self.picture.has_transparency_data:
            return self._on_white
        return lambda strip: np.asarray(strip.convert("RGB"))

    def _gray16(self, strip: Image.Image) -> np.ndarray:
        return self._scaled(np.asarray(strip).astype(np.int64), self._highest())

    def _integer(self, strip: Image.Image) -> np.ndarray:
        values = np.asarray(strip).astype(np.int64)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise ValueError(
                f"gray values from {values.min()} to {values.max()}: save it with 8 or 16 bits"
            )
        if self.picture.format == "TIFF":
            self._remark("gray values of 32 bits are read as 0 to 65535")
        return self._scaled(values, 0xFFFF)

    def _scaled(self, values: np.ndarray, highest: int) -> np.ndarray:
        gray = ((values * 255 + highest // 2) // highest).astype(np.uint8)
        if self._is_white_zero():
            gray = 255 - gray
        clear = self.picture.info.get("transparency")
        if isinstance(clear, int):  # one gray value of a PNG that is transparent
            self._remark("transparent parts are shown on white")
            gray[values == clear] = _WHITE
        return gray[..., None]

    def _float(self, strip: Image.Image) -> np.ndarray:
        values = np.asarray(strip)
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
            raise ValueError("float pixels outside of 0 to 1: save it with 8 or 16 bits")
        self._remark("float pixels are read as 0 to 1")
        gray = np.rint(values * 255).astype(np.uint8)
        return (255 - gray if self._is_white_zero() else gray)[..., None]

    def _lab(self, strip: Image.Image) -> np.ndarray:
        from PIL import ImageCms

        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        found = ImageCms.profileToProfile(strip, lab, srgb, outputMode="RGB")
        if found is None:
            raise ValueError("CIELAB cannot be converted")
        return np.asarray(found)

    def _on_white(self, strip: Image.Image) -> np.ndarray:
        rgba = np.asarray(strip.convert("RGBA")).astype(np.uint16)
        alpha = rgba[..., 3:]
        if alpha.min() == 255:
            return rgba[..., :3].astype(np.uint8)
        self._remark("transparent parts are shown on white")
        return ((rgba[..., :3] * alpha + _WHITE * (255 - alpha) + 127) // 255).astype(np.uint8)

    def _highest(self) -> int:
        bits = self._tag(_BITS_PER_SAMPLE)
        return 0xFFF if bits in (12, (12,)) else 0xFFFF

    def _is_white_zero(self) -> bool:
        """Whether 0 is white: Pillow inverts 8 bits and fewer itself."""
        return self._tag(_PHOTOMETRIC) == 0

    def _tag(self, number: int) -> object:
        return getattr(self.picture, "tag_v2", {}).get(number)

    def _remark(self, text: str) -> None:
        if text not in self.remarks:
            self.remarks.append(text)

    def _remark_profile(self) -> None:
        info, mode = self.picture.info, self.picture.mode
        profile = info.get("icc_profile") or b""
        if profile and not any(name in profile for name in _SRGB):
            self._remark("its color profile is ignored")
        elif mode == "CMYK":
            self._remark("CMYK is converted without a color profile")
        gamma = info.get("gamma")
        if gamma and not profile and "srgb" not in info and abs(gamma - _SCREEN_GAMMA) > 0.01:
            self._remark(f"its gamma of {gamma:.2f} is ignored")


def _strips(picture: Image.Image) -> Iterator[tuple[int, int]]:
    n_rows = max(1, _STRIP_PIXELS // picture.width)
    for top in range(0, picture.height, n_rows):
        yield top, min(top + n_rows, picture.height)
