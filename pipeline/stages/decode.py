"""From an image's bytes to the pixels that the model's own transform would see. Pure; the one owner of Pillow.

The image is resized whole and then cropped, with torchvision's integer rounding
(``torchvision.transforms.functional.resize`` and ``center_crop``), so that the pixels equal those of
``weights.transforms()`` to the bit. Letting Pillow resize only the box that the crop keeps is a fifth faster but rounds
differently: up to a fifth of the values are off by 1/255 in some shapes, and probabilities by more than 1e-4. It is
kept for images so long and thin that the whole would be huge.

EXIF orientation is not applied, because ``weights.transforms()`` does not apply it: a model's accuracy is comparable
with the published one only on the pixels that it was measured with.
"""

import io
import re
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pipeline.records import ImageFailure, ImageRef, Sample, Transform

# Pillow warns of damaged metadata and of large images; here the first is no fault and the second is a record.
warnings.filterwarnings("ignore", module="PIL")

FORMATS = ("JPEG", "PNG", "WEBP")
"""The decoders that are let near a byte; the name's ending does not matter."""

MAX_PIXELS = 100_000_000
"""Larger images are refused by their header, before room is made for their pixels.

It is what bounds the memory of a decode: at this size a JPEG or PNG takes 0.4 to 1 GB, a WebP up to 1.6 GB.
"""

_JPEG_PIXELS_PER_BYTE = 512
"""At most: a JPEG spends a bit or more on each block of 8 x 8 pixels, since no Huffman code is shorter."""

_PNG_BYTES_PER_BYTE = 1032
"""At most: deflate makes 258 bytes of two bits. https://zlib.net/zlib_tech.html"""

_PNG_BITS_PER_PIXEL = {"1": 1, "P": 1, "L": 2, "LA": 16, "RGB": 24, "RGBA": 32}
"""At least, by Pillow's mode; 8 where none is given."""

_METHODS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}

_MAX_RESIZED_PIXELS = 1_000_000
"""Images that would be larger after resizing, about 19 times as long as wide, are cropped while they are resized."""


def decode(ref: ImageRef, data: bytes, transform: Transform) -> Sample | ImageFailure:
    """Return the image's pixels, or why there are none: bad bytes never raise.

    Raises
    ------
    MemoryError
        If there is no memory for it now: that is no fault of the image's.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                return ImageFailure(ref, "decode", f"larger than {MAX_PIXELS:,} pixels")
            if len(data) < _least_bytes(image):
                return ImageFailure(ref, "decode", "truncated image")
            pixels = _crop(_rgb(image), transform)
            return Sample(ref, pixels.transpose(2, 0, 1), image.width, image.height)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  Pillow's decoders raise whatever their format makes them raise
        return ImageFailure(ref, "decode", _reason(data, error))


@dataclass(frozen=True, slots=True)
class Geometry:
    """How an image is resized and where it is cropped, in pixels."""

    width: int
    """After resizing."""

    height: int
    """After resizing."""

    left: int
    """Of the crop, in the resized image."""

    upper: int
    """Of the crop, in the resized image."""


def geometry(width: int, height: int, transform: Transform) -> Geometry:
    """Return what torchvision makes of an image of this size."""
    short = min(width, height)
    resized_width = int(transform.resize_size * width / short)
    resized_height = int(transform.resize_size * height / short)
    left = round((resized_width - transform.crop_size) / 2)
    upper = round((resized_height - transform.crop_size) / 2)
    return Geometry(resized_width, resized_height, left, upper)


def _least_bytes(image: Image.Image) -> int:
    """Return how many bytes an image of this size has at the very least, its pixels all alike.

    A header that claims more costs no room for pixels that cannot be there; libjpeg would paint them grey.
    """
    n_pixels = image.width * image.height
    if image.format == "PNG":
        return n_pixels * _PNG_BITS_PER_PIXEL.get(image.mode, 8) // (8 * _PNG_BYTES_PER_BYTE)
    return 0 if image.format == "WEBP" else n_pixels // _JPEG_PIXELS_PER_BYTE


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    # Converting RGB to RGB would copy it: half of what a large photograph takes.
    return image if image.mode == "RGB" else image.convert("RGB")


def _crop(image: Image.Image, transform: Transform) -> NDArray[np.uint8]:
    side, shape = transform.crop_size, geometry(image.width, image.height, transform)
    method = _METHODS[transform.interpolation]
    if shape.width * shape.height <= _MAX_RESIZED_PIXELS:
        whole = image.resize((shape.width, shape.height), method)
        return np.asarray(whole.crop((shape.left, shape.upper, shape.left + side, shape.upper + side)))
    across, down = image.width / shape.width, image.height / shape.height
    box = (shape.left * across, shape.upper * down, (shape.left + side) * across, (shape.upper + side) * down)
    return np.asarray(image.resize((side, side), method, box=box))


def _reason(data: bytes, error: Exception) -> str:
    """Name a fault in the same words each time: Pillow's own may hold a memory address."""
    if not data:
        return "empty file"
    if isinstance(error, UnidentifiedImageError):
        return "not a JPEG, PNG or WebP image"
    if isinstance(error, Image.DecompressionBombError):
        return f"larger than {MAX_PIXELS:,} pixels"
    if "truncated" in str(error).lower():
        return "truncated image"
    plain_words = re.match(r"[A-Za-z ,.:/'-]*", str(error))
    return f"{type(error).__name__}: {plain_words[0].strip() if plain_words else ''}"[:200]
