"""Photos for the demo, drawn by code in the layout of Stanford Dogs. Pure: no I/O, no Dask, no clock.

Every breed has a coat of its own, decided by its class index: a family of patterns, two colours, an angle and a
wavelength. Every image varies it in place, scale, rotation, hue, light, grain, surroundings and what stands in front,
enough that a classifier errs now and then. As in a real bucket, a few objects are odd and a few are no image at all.
"""

import colorsys
import io
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw

from pipeline.stages.labels import breed_class_indices, breeds

Field: TypeAlias = NDArray[np.floating[Any]]
"""float32, (H, W) or broadcastable to it."""

Encoder: TypeAlias = Callable[[Image.Image], bytes]

FIRST_NUMBER = 10_000
"""The number in the name of every breed's first good image; it is also the seed of its drawing."""

FIRST_UNUSABLE_NUMBER = 90_000
"""Files numbered from here on are no image that a pipeline could use."""

_SIZES = ((500, 375),) * 6 + ((375, 500),) * 2 + ((500, 333), (333, 500), (400, 300), (600, 450))
_GRAINS = (3, 5, 7, 9)
"""Standard deviations of the grain, in levels of 255."""

_GRAIN_SIDE = 1024
_DRAWING_SCALE = 0.5
"""The scene is drawn at this share of the photo's width and height; only the grain has every pixel."""

_SHARE_IN_PLAIN_VIEW = 0.85
"""How many of the photos are easy; in the others little is left to see."""


@dataclass(frozen=True, slots=True)
class Coat:
    """What tells one breed from the others."""

    family: int
    """Which of the pattern families."""

    hues: tuple[float, float]
    """Two hues in [0, 1) between which the pattern swings."""

    lightness: tuple[float, float]
    """The lightness of either hue, in [0, 1]."""

    angle: float
    """Radians."""

    wavelength: float
    """Pixels at drawing size, 6 to 28."""


def coat_of(breed_class_index: int) -> Coat:
    """Return a breed's coat, always the same for the same class index.

    Hues turn once around the circle from the first breed to the last, so that breeds near each other are
    of like colours and the confusion matrix has something to show.
    """
    rank = breed_class_indices().index(breed_class_index)
    rng = np.random.default_rng(breed_class_index)
    hue = rank / len(breed_class_indices())
    dark, light = rng.uniform(0.18, 0.38), rng.uniform(0.55, 0.8)
    return Coat(
        family=rank % len(_FAMILIES),
        hues=(hue, (hue + rng.choice((0.08, 0.33, 0.5, 0.67))) % 1.0),
        lightness=(dark, light) if rng.random() < 0.5 else (light, dark),
        angle=rng.uniform(0.0, np.pi),
        wavelength=6.0 * (28.0 / 6.0) ** rng.random(),
    )


def draw(breed_class_index: int, seed: int) -> Image.Image:
    """Return one photo of a breed, the same pixels for the same arguments.

    Parameters
    ----------
    breed_class_index
        One of the 120 class indices of Stanford Dogs.
    seed
        Not negative; decides all that differs between two photos of one breed.

    Returns
    -------
    Image.Image
        RGB, upright or lying, 300 to 600 pixels a side.
    """
    rng = np.random.default_rng((breed_class_index, seed))
    size = _SIZES[rng.integers(len(_SIZES))]
    small = (round(size[0] * _DRAWING_SCALE), round(size[1] * _DRAWING_SCALE))
    scene = Image.composite(_fur(coat_of(breed_class_index), small, rng), _surroundings(small, rng), _body(small, rng))
    _occlude(scene, rng)
    light = round(rng.normal(0.0, 12.0))
    return ImageChops.add(scene.resize(size, Image.Resampling.BILINEAR), _grain(size, rng), 1.0, light - 128)


def encode_jpeg(image: Image.Image) -> bytes:
    """Return an image as JPEG of quality 90: 30 to 70 kB for a drawn photo."""
    return _encoded(image, "JPEG", quality=90)


def demo_objects(n_per_breed: int = 6, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Yield the demo's bucket: `n_per_breed` good images of each of the 120 breeds and 16 unusable files.

    Parameters
    ----------
    n_per_breed
        1 to 1,000, so that no two seeds share an image.
    seed
        0 to 79: which thousand of the drawings to take.

    Yields
    ------
    tuple[str, bytes]
        A key below the bucket's prefix, never twice the same, and the object's bytes. Unusable files are numbered from
        `FIRST_UNUSABLE_NUMBER`. Some breeds' first image is odd: CMYK, greyscale, turned by EXIF, PNG, WebP and such.

    Raises
    ------
    ValueError
        When a number is out of its range.
    """
    first = FIRST_NUMBER + 1000 * seed
    if not (1 <= n_per_breed <= 1000 and FIRST_NUMBER <= first < FIRST_UNUSABLE_NUMBER):
        raise ValueError(f"got {n_per_breed} images per breed and seed {seed}: use 1 to 1000 and 0 to 79")
    unusable = _unusable_objects(seed)
    for rank, breed in enumerate(breeds()):
        for number in range(first, first + n_per_breed):
            suffix, encode = _ODDITIES.get(rank, _PLAIN) if number == first else _PLAIN
            key = f"Images/{breed.folder}/{breed.wnid}_{number}.{suffix}"
            yield key, encode(draw(breed.class_index, number))
        if rank in unusable:
            yield unusable[rank]


def _unusable_objects(seed: int) -> dict[int, tuple[str, bytes]]:
    """Return one object of every unusable kind twice, by the rank of the breed in whose folder it lies."""
    rng = np.random.default_rng((FIRST_UNUSABLE_NUMBER, seed))
    ranks = rng.choice(len(breeds()), 2 * len(_UNUSABLE), replace=False)
    made = {}
    for position, rank in enumerate(ranks.tolist()):
        breed, number = breeds()[rank], FIRST_UNUSABLE_NUMBER + position
        spoiled = _UNUSABLE[position % len(_UNUSABLE)](draw(breed.class_index, number))
        made[rank] = (f"Images/{breed.folder}/{breed.wnid}_{number}.jpg", spoiled)
    return made


def _fur(coat: Coat, size: tuple[int, int], rng: Generator) -> Image.Image:
    """Return the coat's pattern over the whole picture, moved, scaled, turned and tinted by `rng`."""
    width, height = size
    angle = coat.angle + rng.normal(0.0, 0.12)
    step = 2.0 * np.pi / (coat.wavelength * np.exp(rng.normal(0.0, 0.12)))
    x = np.arange(width, dtype=np.float32)[None, :] - np.float32(width * rng.uniform(0.3, 0.7))
    y = np.arange(height, dtype=np.float32)[:, None] - np.float32(height * rng.uniform(0.3, 0.7))
    cosine, sine = np.float32(step * np.cos(angle)), np.float32(step * np.sin(angle))
    shade = _FAMILIES[coat.family](x * cosine + y * sine, y * cosine - x * sine)
    levels = np.clip(shade * 127.5 + 127.5, 0, 255).astype(np.uint8)
    return Image.fromarray(_palette(coat, rng)[levels])


def _palette(coat: Coat, rng: Generator) -> NDArray[np.uint8]:
    """Return (256, 3) colours from one hue to the other, tinted and lit a little differently for every image."""
    turn, light, vivid = rng.normal(0.0, 0.025), rng.normal(0.0, 0.06), rng.uniform(0.45, 0.9)
    ends = [
        colorsys.hls_to_rgb((hue + turn) % 1.0, min(max(lightness + light, 0.05), 0.95), vivid)
        for hue, lightness in zip(coat.hues, coat.lightness, strict=True)
    ]
    mix = np.linspace(0.0, 1.0, 256)[:, None]
    return ((np.array(ends[0]) * (1.0 - mix) + np.array(ends[1]) * mix) * 255.0).astype(np.uint8)


def _surroundings(size: tuple[int, int], rng: Generator) -> Image.Image:
    """Return soft patches of light and dark in muted colours."""
    tint = rng.uniform(60.0, 190.0) + rng.normal(0.0, 15.0, 3)
    patches = tint + rng.normal(0.0, 25.0, (5, 6, 1)) + rng.normal(0.0, 12.0, (5, 6, 3))
    patches = np.clip(patches, 0, 255).astype(np.uint8)
    return Image.fromarray(patches).resize(size, Image.Resampling.BICUBIC)


def _body(size: tuple[int, int], rng: Generator) -> Image.Image:
    """Return the mask of where the coat shows: an ellipse with soft edges, off the middle."""
    width, height = size
    across = np.linspace(-1.0, 1.0, width, dtype=np.float32)[None, :] - np.float32(rng.normal(0.0, 0.12))
    down = np.linspace(-1.0, 1.0, height, dtype=np.float32)[:, None] - np.float32(rng.normal(0.0, 0.12))
    distance = (across / np.float32(rng.uniform(0.5, 1.0))) ** 2 + (down / np.float32(rng.uniform(0.5, 1.0))) ** 2
    return Image.fromarray(np.clip((1.1 - distance) * 1200.0, 0, 255).astype(np.uint8))


def _occlude(scene: Image.Image, rng: Generator) -> None:
    """Paint blobs of any colour over the scene: usually a few, now and then so many that little is left to see."""
    pen = ImageDraw.Draw(scene)
    for _ in range(rng.integers(1, 6) if rng.random() < _SHARE_IN_PLAIN_VIEW else rng.integers(8, 16)):
        x, y = rng.uniform(0, scene.width), rng.uniform(0, scene.height)
        a, b = rng.uniform(0.04, 0.2, 2) * scene.height
        pen.ellipse((x - a, y - b, x + a, y + b), fill=tuple((rng.integers(30, 190) + rng.integers(0, 60, 3)).tolist()))


def _grain(size: tuple[int, int], rng: Generator) -> Image.Image:
    """Return grey grain around 128: a random piece of one large tile."""
    tile = _grain_tile(_GRAINS[rng.integers(len(_GRAINS))])
    left, top = (int(rng.integers(_GRAIN_SIDE - side)) for side in size)
    return tile.crop((left, top, left + size[0], top + size[1])).convert("RGB")


@cache
def _grain_tile(strength: int) -> Image.Image:
    noise = np.random.default_rng(strength).normal(128.0, strength, (_GRAIN_SIDE, _GRAIN_SIDE))
    return Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8))


def _triangle(phase: Field) -> Field:
    zigzag: Field = np.abs(phase / np.float32(np.pi) % 2 - 1) * 2 - 1
    return zigzag


_FAMILIES: tuple[Callable[[Field, Field], Field], ...] = (
    lambda u, _: np.sin(u),  # stripes
    lambda u, v: np.sign(np.sin(u) * np.sin(v)),  # checks
    lambda u, v: np.sin(np.hypot(u, v)),  # rings
    lambda u, v: 2 * (np.cos(u) + np.cos(v)) - 1.5,  # dots
    lambda u, v: (np.sign(np.sin(u)) + np.sin(v / 2)) / 2,  # plaid
    lambda u, v: np.sin(u + 2 * np.sin(v / 2)),  # waves
    lambda u, v: np.sign(np.sin(u + 2 * _triangle(v))),  # zigzag
    lambda u, v: np.sin(np.hypot(u, v) / 2 + 3 * np.arctan2(v, u)),  # spirals
)
"""From coordinates along and across the pattern, one wave per 2 pi, to a shade in about [-1, 1]."""


def _encoded(image: Image.Image, file_format: str, **options: int | Image.Exif) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def _png(image: Image.Image) -> bytes:
    return _encoded(image, "PNG", compress_level=1)


def _turned_jpeg(image: Image.Image) -> bytes:
    """Return a JPEG that lies on its side, with the EXIF orientation (tag 0x0112) that puts it upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return _encoded(image.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=90, exif=exif)


def _bomb(_: Image.Image) -> bytes:
    """Return a PNG of 65 bytes that claims 20,000 x 20,000 pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


_PLAIN: tuple[str, Encoder] = ("jpg", encode_jpeg)

_ODDITIES: Mapping[int, tuple[str, Encoder]] = {
    10: ("jpg", lambda image: encode_jpeg(image.convert("CMYK"))),
    25: ("jpg", lambda image: encode_jpeg(image.convert("L"))),
    40: ("jpg", _turned_jpeg),
    55: ("jpg", _png),
    70: ("png", lambda image: _png(image.convert("RGBA"))),
    85: ("png", lambda image: _png(image.quantize(128))),
    100: ("JPG", lambda image: _encoded(image, "JPEG", quality=90, progressive=1)),
    115: ("webp", lambda image: _encoded(image, "WEBP", quality=90)),
}
"""Valid, but not what a careless reader expects: suffix and encoder of a breed's first image, by the breed's rank."""

_UNUSABLE: tuple[Encoder, ...] = (
    lambda image: encode_jpeg(image)[:12_000],
    lambda _: b"",
    lambda _: b"<!DOCTYPE html><html><body><h1>403 Forbidden</h1></body></html>\n",
    lambda image: image.tobytes()[:20_000],
    _bomb,
    lambda _: b"Please find the photos of the dog on the other drive.\n",
    lambda image: _encoded(image.quantize(64), "GIF"),
    lambda image: _png(image)[:20_000],
)
"""What people upload as .jpg."""
