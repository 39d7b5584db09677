"""How far a JPEG's own scaling (Pillow's ``draft``) is from the pixels of the whole image, and what it saves.

``python -m benchmarks.jpeg_scaling`` draws images of 12 million pixels, lying and upright: scenes as a lens and a
sensor would see them (edges blurred by 1.2 pixels, noise of 4 levels) in grey, muted and vivid colours, and drawings
with edges as hard as a pixel. Each is stored in several qualities and chroma subsamplings, decoded whole, by halves and
by quarters, then resized and cropped for the model. What is compared are the model's pixels, in levels of 255.
"""

import io
import json
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from benchmarks.machine import machine
from pipeline.records import Transform
from pipeline.stages.decode import geometry

TRANSFORM = Transform(232, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SIZES = ((4000, 3000), (3000, 4000))
KINDS = {"grey": 0.0, "muted": 0.3, "vivid": 0.6, "hard edges": 1.0}
"""Saturation by kind of image; the last goes through no lens."""

STORED = ((95, "4:4:4"), (90, "4:2:2"), (90, "4:2:0"), (75, "4:2:0"))
"""Quality and chroma subsampling."""

RESULT = Path(__file__).parent / "results" / "jpeg_scaling.json"


@click.command()
def main() -> None:
    """Measure the parity and the speed of decoding by halves and quarters; print a table, keep the figures."""
    circumstances = {"machine": machine()}
    runs = []
    click.echo(
        f"{'size':<10} {'image':<10} {'quality':>7} {'chroma':<6} {'by':>2} {'within 1':>10} {'most':>4} {'faster':>6}"
    )
    for run in measured():
        runs.append(run)
        click.echo(
            f"{run['size']:<10} {run['image']:<10} {run['quality']:>7} {run['chroma']:<6} {run['by']:>2} "
            f"{run['share_within_1']:>10.4%} {run['most']:>4} {run['times_as_fast']:>5.1f}x"
        )
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(circumstances | {"runs": runs}, indent=2) + "\n", encoding="utf-8")


def measured() -> Iterator[dict[str, Any]]:
    """Yield what each image shows."""
    for (width, height), (kind, saturation) in product(SIZES, KINDS.items()):
        image = drawn(width, height, saturation, through_lens=kind != "hard edges")
        for quality, chroma in STORED:
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=quality, subsampling=chroma)
            whole, whole_s = decoded(buffer.getvalue(), 1)
            for by in (2, 4):
                ours, ours_s = decoded(buffer.getvalue(), by)
                off = np.abs(ours.astype(int) - whole)
                about = {"size": f"{width}x{height}", "image": kind, "quality": quality, "chroma": chroma, "by": by}
                shares = {"share_within_1": float((off <= 1).mean()), "most": int(off.max())}
                yield about | shares | {"times_as_fast": round(whole_s / ours_s, 2)}


def decoded(data: bytes, by: int) -> tuple[NDArray[np.uint8], float]:
    """Return the model's pixels of a JPEG that is decoded at one in `by` of its width, and the seconds it takes."""
    began = time.perf_counter()
    image = Image.open(io.BytesIO(data))
    shape, (width, height) = geometry(*image.size, TRANSFORM), image.size
    if by > 1:
        image.draft("RGB", (width // by, height // by))
    size, box = (shape.width, shape.height), (0, 0, width / by, height / by)
    small = image.convert("RGB").resize(size, Image.Resampling.BILINEAR, box=box)
    side = TRANSFORM.crop_size
    crop = small.crop((shape.left, shape.upper, shape.left + side, shape.upper + side))
    return np.asarray(crop), time.perf_counter() - began


def drawn(width: int, height: int, saturation: float, *, through_lens: bool) -> Image.Image:
    """Return a scene: clouds of several sizes, 200 bodies, 150 lines, and a sensor's noise."""
    rng = np.random.default_rng(width)
    image = Image.fromarray(np.clip(_clouds(width, height, rng), 0, 255).astype(np.uint8))
    _draw_things(ImageDraw.Draw(image), width, height, rng)
    pixels = np.asarray(image).astype(np.float32)
    grey = pixels.mean(axis=-1, keepdims=True)
    image = Image.fromarray(np.clip(grey + saturation * (pixels - grey), 0, 255).astype(np.uint8))
    if through_lens:
        image = image.filter(ImageFilter.GaussianBlur(1.2))
    noise = rng.normal(0, 4, (height, width, 3)).astype(np.float32)
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


def _clouds(width: int, height: int, rng: np.random.Generator) -> NDArray[np.float32]:
    clouds = np.full((height, width, 3), rng.uniform(60, 190), np.float32)
    for n_across, strength in ((6, 60), (24, 30), (100, 15), (400, 8)):
        tile = rng.normal(0, strength, (3, n_across, n_across)).astype(np.float32)
        planes = [np.asarray(Image.fromarray(one).resize((width, height), Image.Resampling.BICUBIC)) for one in tile]
        clouds += np.stack(planes, axis=-1)
    return clouds


def _draw_things(pen: ImageDraw.ImageDraw, width: int, height: int, rng: np.random.Generator) -> None:
    short = min(width, height)
    for number in range(200):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        a, b = rng.uniform(0.005, 0.15, 2) * short
        shape = pen.ellipse if number % 2 else pen.rectangle
        shape((x - a, y - b, x + a, y + b), fill=tuple(rng.integers(0, 256, 3).tolist()))
    for _ in range(150):
        x, y, angle = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0, 2 * np.pi)
        length = rng.uniform(0.02, 0.3) * short
        end = (x + length * np.cos(angle), y + length * np.sin(angle))
        pen.line((x, y, *end), fill=tuple(rng.integers(0, 256, 3).tolist()), width=int(rng.integers(1, 12)))


if __name__ == "__main__":
    main()
