"""Images of unknown origin: decoded in one place, bounded, as an image viewer shows them."""

from plugins_manifest.images.decode import (
    MAX_PIXELS,
    SUFFIXES,
    DecodedImage,
    ImageError,
    decode_image,
    image_size,
    is_one_color,
    load_image,
    parse_image,
    read_image,
)

__all__ = [
    "MAX_PIXELS",
    "SUFFIXES",
    "DecodedImage",
    "ImageError",
    "decode_image",
    "image_size",
    "is_one_color",
    "load_image",
    "parse_image",
    "read_image",
]
