"""Pixels: those that torchvision's own transform would see; and bytes that are no image never raise."""

import io
import struct
import subprocess
import sys
import warnings
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFile
from torchvision.models import ResNet50_Weights
from torchvision.transforms import functional

from pipeline.records import ImageFailure, ImageRef, Sample, Transform
from pipeline.stages.decode import MAX_PIXELS, decode, geometry

REF = ImageRef("s3://bucket/a.jpg", "etag", 1)

V1 = Transform(256, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
V2 = Transform(232, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
AS_STORED = Transform(32, 32, (0, 0, 0), (1, 1, 1))
"""Leaves an image of 32 x 32 as it is."""

TOO_LARGE = f"larger than {MAX_PIXELS:,} pixels"
NO_IMAGE = "not a JPEG, PNG or WebP image"

ORIENTATION = 0x0112


def encoded(image: Image.Image, file_format: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    """Return coloured clouds with enough contrast that a shift by one pixel shows."""
    rng = np.random.default_rng(seed)
    tile = rng.integers(0, 256, (max(2, height // 5), max(2, width // 5), 3), dtype=np.uint8)
    return Image.fromarray(tile).resize((width, height), Image.Resampling.BICUBIC)


def pixels_of(data: bytes, transform: Transform) -> NDArray[np.uint8]:
    sample = decode(REF, data, transform)
    assert isinstance(sample, Sample), sample
    return sample.pixels


def reason_of(data: bytes, transform: Transform = V2) -> str:
    failure = decode(REF, data, transform)
    assert isinstance(failure, ImageFailure)
    assert (failure.ref, failure.stage) == (REF, "decode")
    return failure.reason


def torchvision_pixels(data: bytes, transform: Transform) -> NDArray[np.uint8]:
    """Return what torchvision's resizing and cropping make of an image, (3, H, W)."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    resized = functional.resize(image, [transform.resize_size], functional.InterpolationMode.BILINEAR, antialias=True)
    return np.asarray(functional.center_crop(resized, [transform.crop_size])).transpose(2, 0, 1)


def share_within_one_level(ours: NDArray[np.uint8], theirs: NDArray[np.uint8]) -> float:
    assert ours.shape == theirs.shape
    return float((np.abs(ours.astype(int) - theirs) <= 1).mean())


# The pixels of a good image


@pytest.mark.parametrize("transform", [V1, V2], ids=["V1", "V2"])
@given(short=st.integers(1, 700), ratio=st.floats(1, 12), upright=st.booleans(), seed=st.integers(0, 9))
@example(short=375, ratio=500 / 375, upright=False, seed=0)
@example(short=1, ratio=1, upright=False, seed=0)
@example(short=233, ratio=1.0043, upright=True, seed=0)
@settings(max_examples=60, deadline=None)
def test_the_pixels_are_those_of_torchvision_s_resizing_and_cropping_to_the_bit(
    transform: Transform, short: int, ratio: float, upright: bool, seed: int
):
    long = min(700, round(short * ratio))
    data = encoded(noise(*((short, long) if upright else (long, short)), seed))

    ours = pixels_of(data, transform)

    assert (ours == torchvision_pixels(data, transform)).all()


@pytest.mark.parametrize(("width", "height"), [(1, 300), (300, 1), (700, 3), (20, 390)])
def test_slivers_that_would_be_huge_when_resized_are_within_one_level_of_torchvision_s(width: int, height: int):
    data = encoded(noise(width, height))

    assert share_within_one_level(pixels_of(data, V2), torchvision_pixels(data, V2)) >= 0.999


@pytest.mark.parametrize("size", [(1, 65_500), (65_500, 1), (1, 1), (1, 1000)], ids=str)
def test_no_shape_is_too_odd_to_be_cropped_and_none_is_blown_up(size: tuple[int, int]):
    data = encoded(Image.new("RGB", size, "white"))
    Image.core.reset_stats()

    pixels = pixels_of(data, V2)

    assert pixels.shape == (3, 224, 224)
    assert pixels.min() >= 254
    assert Image.core.get_stats()["allocated_blocks"] < 10


@pytest.mark.parametrize(
    ("transform", "weights"),
    [(V1, ResNet50_Weights.IMAGENET1K_V1), (V2, ResNet50_Weights.IMAGENET1K_V2)],
    ids=["V1", "V2"],
)
@pytest.mark.parametrize("size", [(500, 375), (333, 500), (224, 224), (90, 61)], ids=str)
def test_normalising_the_pixels_gives_what_the_weights_own_transform_gives(
    transform: Transform, weights: ResNet50_Weights, size: tuple[int, int]
):
    data = encoded(noise(*size))
    theirs = weights.transforms()(Image.open(io.BytesIO(data))).numpy()

    mean, std = (np.array(values).reshape(3, 1, 1) for values in (transform.mean, transform.std))
    ours = (pixels_of(data, transform) / 255 - mean) / std

    assert np.abs(ours - theirs).max() < 1e-5


@pytest.mark.parametrize("transform", [V1, V2], ids=["V1", "V2"])
@given(width=st.integers(1, 65_500), height=st.integers(1, 65_500))
@example(width=1, height=65_500)
def test_the_crop_lies_within_the_resized_image_and_in_its_middle(transform: Transform, width: int, height: int):
    shape = geometry(width, height, transform)

    right = shape.width - shape.left - transform.crop_size
    lower = shape.height - shape.upper - transform.crop_size
    assert min(shape.width, shape.height) == transform.resize_size
    assert min(shape.left, shape.upper, right, lower) >= 0
    assert max(abs(shape.left - right), abs(shape.upper - lower)) <= 1


def test_a_sample_is_uint8_with_channels_first_and_knows_the_stored_size():
    sample = decode(REF, encoded(noise(100, 60)), V2)

    assert isinstance(sample, Sample)
    assert (sample.ref, sample.width, sample.height) == (REF, 100, 60)
    assert sample.pixels.shape == (3, 224, 224)
    assert sample.pixels.dtype == np.uint8


GRADIENT = np.arange(32 * 32, dtype=np.uint16).reshape(32, 32)
COLOURS = np.asarray(noise(32, 32, seed=5))


def of_stored(channels_last: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return channels_last.transpose(2, 0, 1)


@pytest.mark.parametrize("file_format", ["PNG", "WEBP"])
def test_a_colour_image_s_pixels_are_the_stored_ones(file_format: str):
    data = encoded(Image.fromarray(COLOURS), file_format, lossless=True)

    assert (pixels_of(data, AS_STORED) == of_stored(COLOURS)).all()


def test_greyscale_is_the_same_in_every_channel():
    grey = COLOURS[..., 0]

    assert (pixels_of(encoded(Image.fromarray(grey), "PNG"), AS_STORED) == np.stack([grey] * 3)).all()


def test_black_and_white_is_0_and_255():
    bits = Image.fromarray(COLOURS[..., 0]).convert("1")

    assert (pixels_of(encoded(bits, "PNG"), AS_STORED) == np.asarray(bits) * np.uint8(255)).all()


@pytest.mark.parametrize("alpha", [0, 128, 255])
def test_transparency_is_dropped_and_the_colours_beneath_it_stay(alpha: int):
    image = Image.fromarray(COLOURS)
    image.putalpha(alpha)

    assert (pixels_of(encoded(image, "PNG"), AS_STORED) == of_stored(COLOURS)).all()


@pytest.mark.parametrize("options", [{}, {"transparency": 1}, {"transparency": b"\x00\x80\xff"}], ids=str)
def test_a_palette_gives_its_colours_with_transparency_or_without(options: dict[str, Any]):
    palette = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90]], np.uint8)
    indices = (GRADIENT % 3).astype(np.uint8)
    image = Image.fromarray(indices)
    image.putpalette(palette.tobytes())

    assert image.mode == "P"
    assert (pixels_of(encoded(image, "PNG", **options), AS_STORED) == of_stored(palette[indices])).all()


def test_sixteen_bits_a_channel_keep_the_upper_eight():
    image = Image.fromarray(GRADIENT * 64)
    data = encoded(image, "PNG")

    assert image.mode == Image.open(io.BytesIO(data)).mode == "I;16"
    assert (pixels_of(data, AS_STORED) == (GRADIENT * 64 >> 8).astype(np.uint8)).all()


def test_cmyk_is_turned_into_rgb():
    image = Image.fromarray(COLOURS).convert("CMYK")
    ours = pixels_of(encoded(image, quality=100), AS_STORED)

    assert np.abs(ours.astype(int) - of_stored(COLOURS)).mean() < 6


def test_the_turn_that_exif_asks_for_is_not_made_since_torchvision_does_not_make_it():
    half_white = np.zeros((32, 64, 3), np.uint8)
    half_white[:, :32] = 255
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    data = encoded(Image.fromarray(half_white), exif=exif)

    sample = decode(REF, data, AS_STORED)

    assert isinstance(sample, Sample)
    assert Image.open(io.BytesIO(data)).getexif()[ORIENTATION] == 6
    assert (sample.width, sample.height) == (64, 32)
    assert sample.pixels[0, :, 0].mean() > 250
    assert sample.pixels[0, :, -1].mean() < 5


def test_the_ending_of_the_name_does_not_matter():
    png_named_jpg = ImageRef("s3://bucket/a.jpg", "", 1)

    assert isinstance(decode(png_named_jpg, encoded(noise(40, 30), "PNG"), V2), Sample)


@pytest.mark.parametrize("file_format", ["PNG", "WEBP"])
def test_the_first_frame_stands_for_an_animation(file_format: str):
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], file_format, save_all=True, append_images=frames[1:], lossless=True)

    assert (pixels_of(data, AS_STORED) == np.array([255, 0, 0]).reshape(3, 1, 1)).all()


def jpeg_with_broken_exif() -> bytes:
    """Return a photo without density in its JFIF header, so that Pillow looks for one in an EXIF that breaks off."""
    exif = b"Exif\0\0" + b"II*\0" + struct.pack("<IH", 8, 5) + struct.pack("<HHII", 0x011A, 5, 1, 0xFFFF)
    jpeg = encoded(noise(32, 32))
    after_jfif = 4 + struct.unpack(">H", jpeg[4:6])[0]
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[after_jfif:]


def test_a_photo_with_broken_exif_is_an_image_all_the_same():
    assert isinstance(decode(REF, jpeg_with_broken_exif(), AS_STORED), Sample)


DECODE_STDIN = """
import sys
from pipeline.records import ImageRef, Transform
from pipeline.stages.decode import decode
print(type(decode(ImageRef("", "", 1), sys.stdin.buffer.read(), Transform(32, 32, (0, 0, 0), (1, 1, 1)))).__name__)
"""


@pytest.mark.parametrize("name", ["broken EXIF", "144 million pixels"])
def test_pillow_s_warnings_do_not_reach_a_worker_s_log(name: str):
    data, kind = {
        "broken EXIF": (jpeg_with_broken_exif(), b"Sample"),
        "144 million pixels": (jpeg_that_claims(12_000, 12_000), b"ImageFailure"),
    }[name]

    worker = subprocess.run([sys.executable, "-c", DECODE_STDIN], input=data, capture_output=True, check=True)

    assert (worker.stdout.strip(), worker.stderr) == (kind, b"")


# What is no image


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_that_claims(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(b"\0" * 64)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def jpeg_that_claims(width: int, height: int, *, progressive: bool = False) -> bytes:
    jpeg = encoded(noise(32, 32), progressive=progressive)
    size_at = jpeg.index(b"\xff\xc2" if progressive else b"\xff\xc0") + 5
    return jpeg[:size_at] + struct.pack(">HH", height, width) + jpeg[size_at + 4 :]


JPEG, PNG, WEBP = (encoded(noise(200, 150), file_format) for file_format in ("JPEG", "PNG", "WEBP"))


def animated(file_format: str) -> bytes:
    frames = [noise(32, 32, seed) for seed in (1, 2, 3)]
    return encoded(frames[0], file_format, save_all=True, append_images=frames[1:])


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encoded(noise(40, 30), exif=exif)


USABLE = {
    "JPEG": JPEG,
    "PNG, whatever its name": PNG,
    "WebP": WEBP,
    "CMYK": encoded(noise(40, 30).convert("CMYK")),
    "greyscale": encoded(noise(40, 30).convert("L")),
    "greyscale and transparency": encoded(noise(40, 30).convert("LA"), "PNG"),
    "RGBA": encoded(noise(40, 30).convert("RGBA"), "PNG"),
    "palette": encoded(noise(40, 30).convert("P"), "PNG"),
    "black and white": encoded(noise(40, 30).convert("1"), "PNG"),
    "16 bits": encoded(Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40)), "PNG"),
    "1 x 1": encoded(Image.new("RGB", (1, 1))),
    "animated WebP": animated("WEBP"),
    "animated PNG": animated("PNG"),
    **{f"EXIF {orientation}": turned(orientation) for orientation in range(1, 9)},
}

UNUSABLE = {
    "empty": (b"", "empty file"),
    "html": (b"<!DOCTYPE html><html><body>403 Forbidden</body></html>", NO_IMAGE),
    "text": (b"hello", NO_IMAGE),
    "zeros": (bytes(1000), NO_IMAGE),
    "random bytes": (np.random.default_rng(0).bytes(5000), NO_IMAGE),
    "GIF": (encoded(noise(32, 32).convert("P"), "GIF"), NO_IMAGE),
    "animated GIF": (animated("GIF"), NO_IMAGE),
    "BMP": (encoded(noise(32, 32), "BMP"), NO_IMAGE),
    "TIFF": (encoded(noise(32, 32), "TIFF"), NO_IMAGE),
    "JPEG cut in half": (JPEG[: len(JPEG) // 2], "truncated image"),
    "JPEG without its end": (JPEG[:-300], "truncated image"),
    "JPEG of two bytes": (JPEG[:2], NO_IMAGE),
    "PNG cut in half": (PNG[: len(PNG) // 2], "truncated image"),
    "PNG without pixels": (PNG[:60], "truncated image"),
    "PNG of 20,000 x 20,000": (png_that_claims(20_000, 20_000), TOO_LARGE),
    "JPEG of 20,000 x 20,000": (jpeg_that_claims(20_000, 20_000), TOO_LARGE),
    "JPEG of 10,000 x 10,000 without the bytes": (jpeg_that_claims(10_000, 10_000), "truncated image"),
    "progressive one": (jpeg_that_claims(10_000, 10_000, progressive=True), "truncated image"),
    "PNG of 10,000 x 10,000 without the bytes": (png_that_claims(10_000, 10_000), "truncated image"),
}


@pytest.mark.parametrize("data", USABLE.values(), ids=list(USABLE))
def test_what_is_odd_but_an_image_has_pixels(data: bytes):
    assert pixels_of(data, V2).shape == (3, 224, 224)


EMPTIEST = {
    "black and white PNG": (Image.new("1", (8000, 8000)), "PNG", {"optimize": True}),
    "greyscale PNG": (Image.new("L", (4000, 4000)), "PNG", {"optimize": True}),
    "palette PNG of 1 bit": (Image.new("P", (8000, 8000)), "PNG", {"bits": 1, "optimize": True}),
    "PNG": (Image.new("RGB", (4000, 4000)), "PNG", {"optimize": True}),
    "RGBA PNG": (Image.new("RGBA", (4000, 4000)), "PNG", {"optimize": True}),
    "16 bit PNG": (Image.fromarray(np.zeros((4000, 4000), np.uint16)), "PNG", {"optimize": True}),
    "greyscale JPEG": (Image.new("L", (8000, 8000)), "JPEG", {"optimize": True}),
    "progressive JPEG": (Image.new("L", (8000, 8000)), "JPEG", {"progressive": True}),
    "WebP": (Image.new("RGB", (4000, 4000)), "WEBP", {"lossless": True}),
}
"""As few bytes for their size as an encoder can make."""


@pytest.mark.parametrize(("image", "file_format", "options"), EMPTIEST.values(), ids=list(EMPTIEST))
def test_no_image_is_too_plain_to_be_believed_its_size(image: Image.Image, file_format: str, options: dict[str, Any]):
    data = encoded(image, file_format, **options)

    assert isinstance(decode(REF, data, V2), Sample), image.width * image.height / len(data)


def test_having_no_memory_is_not_a_fault_of_the_image(monkeypatch: pytest.MonkeyPatch):
    def load(image: Image.Image) -> None:
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)

    with pytest.raises(MemoryError):
        decode(REF, JPEG, V2)


@pytest.mark.parametrize("size", [(6000, 4000), (8160, 6120)], ids=str)
def test_a_large_photograph_has_torchvision_s_pixels_to_the_bit(size: tuple[int, int]):
    data = encoded(noise(*size))

    assert (pixels_of(data, V2) == torchvision_pixels(data, V2)).all()


@pytest.mark.parametrize(("data", "reason"), UNUSABLE.values(), ids=list(UNUSABLE))
def test_what_cannot_be_used_is_a_failure_that_says_why_in_the_same_words_each_time(data: bytes, reason: str):
    assert [reason_of(data), reason_of(bytes(bytearray(data)))] == [reason, reason]


def test_a_webp_cut_short_is_a_failure():
    assert {reason_of(WEBP[:length]) for length in (len(WEBP) // 2, len(WEBP) - 9)} == {
        "OSError: could not create decoder object"
    }


def test_no_prefix_of_a_jpeg_passes_for_the_whole():
    small = encoded(noise(16, 16))
    reasons = {reason_of(small[:length]) for length in range(len(small) - 2)}

    assert reasons == {"empty file", NO_IMAGE, "truncated image", "OSError: cannot load this image"}


SIZES_TOO_LARGE = [(20_000, 20_000), (14_000, 14_000), (12_000, 12_000), (10_001, 10_000)]


@pytest.mark.parametrize("size", SIZES_TOO_LARGE, ids=str)
@pytest.mark.parametrize("that_claims", [png_that_claims, jpeg_that_claims])
def test_a_size_beyond_the_limit_is_refused_by_the_header_and_nothing_is_allocated(
    that_claims: Any, size: tuple[int, int]
):
    data = that_claims(*size)
    stats = Image.core  # Pillow's own count of the images that it has made room for
    stats.reset_stats()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in a worker: Pillow's warning stops nothing there
        reason = reason_of(data)

    assert reason == TOO_LARGE
    assert stats.get_stats()["new_count"] == 0
    decode(REF, JPEG, V2)
    assert stats.get_stats()["new_count"] > 0


@pytest.mark.parametrize("that_claims", [png_that_claims, jpeg_that_claims])
def test_a_size_beyond_the_limit_has_one_reason_and_no_warning(that_claims: Any):
    assert reason_of(that_claims(12_000, 12_000)) == TOO_LARGE


def assert_decodes_or_says_why(data: bytes) -> None:
    result = decode(REF, data, AS_STORED)
    again = decode(REF, data, AS_STORED)

    if isinstance(result, Sample):
        assert result.pixels.shape == (3, 32, 32)
        return
    assert isinstance(again, ImageFailure)
    assert result.reason == again.reason
    assert 0 < len(result.reason) <= 200
    assert result.reason.isprintable()
    assert "0x" not in result.reason


@given(
    st.binary(max_size=200), st.sampled_from([b"", JPEG[:20], PNG[:33], WEBP[:30], b"GIF89a", b"RIFF", b"\xff\xd8\xff"])
)
@settings(max_examples=150, deadline=None)
def test_no_bytes_whatever_raise(data: bytes, head: bytes):
    assert_decodes_or_says_why(head + data)


SMALL = [encoded(noise(40, 30), "JPEG"), encoded(noise(40, 30), "PNG"), encoded(noise(40, 30), "WEBP")]
SPOT = st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255))


@given(st.sampled_from(SMALL), st.lists(SPOT, min_size=1, max_size=5), st.floats(0, 1), st.floats(0, 1), st.booleans())
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_spoiled_image_raises(whole: bytes, spots: list[tuple[float, int]], start: float, stop: float, cuts: bool):
    spoiled = bytearray(whole)
    for place, value in spots:
        spoiled[int(place * len(spoiled))] = value
    if cuts:
        assume(start <= stop)
        del spoiled[int(start * len(spoiled)) : int(stop * len(spoiled))]

    assert_decodes_or_says_why(bytes(spoiled))


def test_two_broken_png_files_have_the_same_reason():
    header, pixels = PNG[:33], PNG[41:1000]
    broken = [header + png_chunk(b"IDAT", pixels) + png_chunk(kind, b"abcd") for kind in (b"Y\x0bK\xef", b"\1\2\3\4")]

    assert len({reason_of(data) for data in broken}) == 1
