"""Pictures that stand in a page itself, as data URIs. Pure."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_JPEG_QUALITY = 80

_RIGHT = (63, 126, 201)
_WRONG = (220, 78, 50)
_FAINTEST = 60
"""Opacity, of 255, of a cell that holds one image of many."""


def jpeg(pixels: NDArray[np.uint8], side: int) -> str:
    """Return (3, H, W) RGB pixels as a JPEG of `side` by `side` pixels."""
    image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    return _data_uri(image.resize((side, side), Image.Resampling.LANCZOS), "JPEG", quality=_JPEG_QUALITY)


def heatmap(counts: NDArray[np.int64]) -> str:
    """Return a (K, K) confusion matrix as a PNG, a pixel for each cell: the darker, the larger the share of its row.

    What is right is of one colour, what is not of another; where there is nothing, the page's ground shows through.
    """
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    pixels = np.empty((*counts.shape, 4), np.uint8)
    pixels[..., :3] = _WRONG
    pixels[np.arange(len(counts)), np.arange(len(counts)), :3] = _RIGHT
    # By the root, or a tenth of a class would not be seen.
    opacity = _FAINTEST + (255 - _FAINTEST) * np.sqrt(shares)
    pixels[..., 3] = np.where(counts > 0, np.round(opacity), 0)
    return _data_uri(Image.fromarray(pixels), "PNG", optimize=True)


def _data_uri(image: Image.Image, kind: str, **settings: int | bool) -> str:
    sink = io.BytesIO()
    image.save(sink, kind, **settings)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(sink.getvalue()).decode()}"
