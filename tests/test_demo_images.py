"""The demo's bucket: drawn twice, it is the same; what should be an image is one, and nothing else is."""

import io
import re
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from pipeline.demo.images import FIRST_UNUSABLE_NUMBER, demo_objects, draw
from pipeline.stages.labels import breeds, truth_index, wnid_of

KEY = re.compile(r"Images/(n\d{8}-[^/]+)/n\d{8}_(\d{5})\.(?:jpg|JPG|png|webp)")


@pytest.fixture(scope="module")
def objects() -> list[tuple[str, bytes]]:
    """Return the smallest bucket that has every breed, oddity and unusable kind."""
    return list(demo_objects(n_per_breed=1))


def decoded(body: bytes) -> Image.Image:
    return Image.open(io.BytesIO(body), formats=["JPEG", "PNG", "WEBP"]).convert("RGB")


def is_unusable(key: str) -> bool:
    match = KEY.fullmatch(key)
    assert match, key
    return int(match[2]) >= FIRST_UNUSABLE_NUMBER


def test_the_same_breed_and_seed_give_the_same_pixels():
    assert draw(151, 7).tobytes() == draw(151, 7).tobytes()


@pytest.mark.parametrize("other", [(151, 8), (152, 7)], ids=["seed", "breed"])
def test_another_seed_or_breed_gives_another_photo(other: tuple[int, int]):
    assert draw(151, 7).tobytes() != draw(*other).tobytes()


def test_a_bucket_is_made_the_same_twice(objects: list[tuple[str, bytes]]):
    assert list(demo_objects(n_per_breed=1)) == objects


def test_every_breed_has_its_photos_in_its_own_folder(objects: list[tuple[str, bytes]]):
    folders = Counter(key.split("/")[1] for key, _ in objects if not is_unusable(key))

    assert folders == dict.fromkeys((breed.folder for breed in breeds()), 1)


def test_the_truth_can_be_read_from_every_key(objects: list[tuple[str, bytes]]):
    truths = {truth_index(wnid_of(key)) for key, _ in objects}

    assert truths == {breed.class_index for breed in breeds()}


def test_no_key_occurs_twice_and_other_seeds_have_other_keys_and_bytes(objects: list[tuple[str, bytes]]):
    ours = dict(objects)
    theirs = {key: body for key, body in demo_objects(n_per_breed=1, seed=1) if not is_unusable(key)}

    assert len(ours) == len(objects)
    assert not ours.keys() & theirs.keys()
    assert not set(ours.values()) & set(theirs.values())


def test_all_but_the_unusable_files_decode_to_rgb(objects: list[tuple[str, bytes]]):
    images = [decoded(body) for key, body in objects if not is_unusable(key)]

    assert {image.mode for image in images} == {"RGB"}
    assert all(np.asarray(image).std() > 10 for image in images)


def test_no_unusable_file_can_be_decoded(objects: list[tuple[str, bytes]]):
    unusable = [body for key, body in objects if is_unusable(key)]

    assert len(unusable) == 16
    for body in unusable:
        with pytest.raises((OSError, Image.DecompressionBombError)):
            decoded(body)


def test_the_bomb_is_small_and_claims_400_million_pixels(
    objects: list[tuple[str, bytes]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    bombs = [body for key, body in objects if is_unusable(key) and len(body) < 100 and body.startswith(b"\x89PNG")]

    assert {Image.open(io.BytesIO(bomb)).size for bomb in bombs} == {(20_000, 20_000)}


def test_the_odd_ones_are_odd_in_different_ways(objects: list[tuple[str, bytes]]):
    opened = [Image.open(io.BytesIO(body)) for key, body in objects if not is_unusable(key)]

    assert {image.mode for image in opened} == {"RGB", "RGBA", "CMYK", "L", "P"}
    assert {image.format for image in opened} == {"JPEG", "PNG", "WEBP"}
    assert [image.getexif().get(0x0112) for image in opened if image.getexif()] == [6]


@pytest.mark.parametrize(("n_per_breed", "seed"), [(0, 0), (1001, 0), (1, -1), (1, 80)])
def test_numbers_out_of_range_are_refused(n_per_breed: int, seed: int):
    with pytest.raises(ValueError, match="1 to 1000 and 0 to 79"):
        next(demo_objects(n_per_breed, seed))
