"""Ground truth: an image's folder says exactly which of ImageNet's classes it shows, and nothing is guessed."""

from importlib.resources import files

import pytest
from torchvision.models import ResNet50_Weights

from pipeline.stages.labels import (
    Breed,
    breed_class_indices,
    breeds,
    categories,
    display_name,
    truth_index,
    wnid_of,
)

DALMATIAN = 251
COLLIE, BORDER_COLLIE = "n02106030", "n02106166"
CHIHUAHUA, TENCH = "n02085620", "n01440764"
UNKNOWN = "n99999999"

NAMED = [
    (CHIHUAHUA, 151, "Chihuahua"),
    ("n02085936", 153, "Maltese dog"),
    (COLLIE, 231, "collie"),
    (BORDER_COLLIE, 232, "Border collie"),
    ("n02113978", 268, "Mexican hairless"),
    ("n02115641", 273, "dingo"),
    ("n02116738", 275, "African hunting dog"),
]


def every_wnid() -> list[str]:
    """Return the ids of ImageNet's classes in no meaningful order, with nothing of what the table says beside them."""
    lines = files("pipeline.stages").joinpath("imagenet_1k.csv").read_text(encoding="utf-8").splitlines()[1:]
    return [line.split(",")[1] for line in lines][::-1]


def test_the_thousand_ids_in_sorted_order_are_the_class_indices():
    ids = sorted(set(every_wnid()))

    assert len(ids) == 1000
    assert [truth_index(wnid) for wnid in ids] == list(range(1000))


def test_each_of_the_thousand_ids_is_read_from_a_folder_and_named():
    for wnid in every_wnid():
        assert wnid_of(f"s3://bucket/val/{wnid}/ILSVRC2012_val_00000001.JPEG") == wnid
        assert display_name(wnid)


def test_the_categories_are_those_that_torchvision_ships_with_the_weights():
    assert list(categories()) == ResNet50_Weights.IMAGENET1K_V2.meta["categories"]


def test_there_are_120_breeds_and_they_are_no_contiguous_range():
    indices = breed_class_indices()

    assert len(indices) == 120
    assert set(indices) == set(range(151, 269)) - {DALMATIAN} | {273, 274, 275}
    assert list(indices) == sorted(indices)


@pytest.mark.parametrize("breed", breeds(), ids=lambda breed: breed.folder)
def test_every_folder_of_stanford_dogs_gives_its_own_truth(breed: Breed):
    wnid = wnid_of(f"s3://bucket/dogs/Images/{breed.folder}/{breed.wnid}_10074.jpg")

    assert wnid == breed.wnid == breed.folder[:9]
    assert truth_index(wnid) == breed.class_index
    assert breeds()[breed_class_indices().index(breed.class_index)] == breed


def test_no_two_breeds_share_an_id_a_folder_or_a_class():
    for field in ("wnid", "folder", "class_index", "name"):
        assert len({getattr(breed, field) for breed in breeds()}) == 120


@pytest.mark.parametrize(("wnid", "class_index", "name"), NAMED, ids=[name for *_, name in NAMED])
def test_an_id_has_its_class_and_the_name_that_stanford_dogs_gives_it(wnid: str, class_index: int, name: str):
    assert truth_index(wnid) == class_index
    assert display_name(wnid) == name


def test_an_id_that_is_no_breed_is_called_as_imagenet_calls_it():
    assert display_name(TENCH) == "tench"


def test_a_border_collie_is_no_collie():
    collie = wnid_of("Images/n02106030-collie/1.jpg")
    border_collie = wnid_of("Images/n02106166-Border_collie/1.jpg")

    assert (collie, border_collie) == (COLLIE, BORDER_COLLIE)
    assert truth_index(collie) != truth_index(border_collie)


@pytest.mark.parametrize(
    "image",
    [
        "n02085620-Chihuahua/1.jpg",
        "/data/n02085620-Chihuahua/1.jpg",
        "file:///data/n02085620-Chihuahua/a b.jpg",
        "s3://bucket/train/n02085620/1.JPEG",
        "s3://bucket/n02085620-Chihuahua/puppies/indoors/1.jpg",
        "s3://bucket/n02085620-Chihuahua#2 (new)/ü.jpg",
        "s3://bucket/n02106030-collie/n02085620-Chihuahua/1.jpg",
        "s3://bucket/n02085620-Chihuahua/n02106030_1.jpg",
        "s3://bucket/unsorted/n02085620_10074.jpg",
        "n02085620_10074.jpg",
    ],
)
def test_the_nearest_folder_decides_and_where_there_is_none_the_file_s_name(image: str):
    assert wnid_of(image) == CHIHUAHUA


@pytest.mark.parametrize(
    "image",
    [
        "",
        "beach.jpg",
        "s3://bucket/holiday/beach.jpg",
        "s3://bucket/collie/Chihuahua.jpg",
        "s3://bucket/n99999999-Nothing/1.jpg",
        "s3://bucket/unsorted/n99999999_1.jpg",
        "s3://bucket/n020856201-Chihuahua/1.jpg",
        "s3://bucket/n2085620-Chihuahua/1.jpg",
        "s3://bucket/N02085620-Chihuahua/1.jpg",
        "s3://bucket/my-n02085620-Chihuahua/1.jpg",
        "s3://bucket/n02085620Chihuahua/1.jpg",
        "s3://bucket/photos/n02085620.jpg",
        "s3://bucket/photos/of_n02085620_1.jpg",
    ],
)
def test_a_path_without_a_known_id_has_no_truth(image: str):
    assert wnid_of(image) is None


def test_a_nearer_folder_with_an_unknown_id_does_not_hide_a_known_one():
    assert wnid_of("s3://bucket/n02085620-Chihuahua/n99999999-Nothing/1.jpg") == CHIHUAHUA


def test_a_newline_in_a_folder_s_name_does_not_cost_the_truth():
    assert wnid_of("s3://bucket/n02085620-Chihuahua\n(copy)/1.jpg") == CHIHUAHUA


@pytest.mark.parametrize("wnid", [None, UNKNOWN, "", "collie"])
def test_an_unknown_id_has_no_class(wnid: str | None):
    assert truth_index(wnid) is None


def test_without_a_truth_there_is_no_name():
    assert display_name(None) is None


def test_an_unknown_id_has_no_name():
    assert display_name(UNKNOWN) is None
