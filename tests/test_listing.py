"""Which objects become images of the run: all that end as an image does, in order, and no page before its time."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UsageError
from pipeline.records import ImageRef
from pipeline.stages.listing import Selection, select

DOGS = "s3://bucket/dogs"

TREE = ("a.jpg", "b.png", "x/a.jpg", "x/b.webp", "x/y/a.jpg", "xy/a.jpg")


@dataclass(frozen=True)
class Entry:
    """What a listing tells of an object."""

    url: str
    etag: str = "etag"
    size_bytes: int = 1


def selected(names: tuple[str, ...] | list[str], selection: Selection) -> list[str]:
    """Return the names below DOGS that a selection takes out of one page."""
    refs = select([[Entry(f"{DOGS}/{name}") for name in names]], selection)
    return [ref.url.removeprefix(f"{DOGS}/") for ref in refs]


@pytest.mark.parametrize("name", ["a.jpg", "a.JPG", "a.jpeg", "a.JpEg", "a.png", "a.PNG", "a.webp", "a.WebP", ".jpg"])
def test_a_name_that_ends_as_an_image_does_is_taken_in_any_case(name: str):
    assert selected([name], Selection(DOGS)) == [name]


@pytest.mark.parametrize(
    "name",
    ["", "x/", "x.jpg/", "README", "list.csv", "a.gif", "a.tiff", "a.jpg.txt", "a.jpgx", "ajpg", "a.jpg ", "jpg"],
)
def test_folder_markers_and_other_files_are_left_out(name: str):
    assert selected(["first.jpg", name, "last.jpg"], Selection(DOGS)) == ["first.jpg", "last.jpg"]


def test_an_image_keeps_its_address_version_and_size_and_has_no_label_yet():
    url = f"{DOGS}/n02085620-Chihuahua/n02085620_10074.jpg"
    known, unknown = select([[Entry(url, "abc", 63_000), Entry(f"{DOGS}/z.jpg", "def", 0)]], Selection(DOGS))

    assert known == ImageRef(url, "abc", 63_000)
    assert unknown == ImageRef(f"{DOGS}/z.jpg", "def", 0, None)


@given(st.lists(st.lists(st.sampled_from(["a.jpg", "b.JPG", "c.txt", "d/", "e.png", "f"]), max_size=4), max_size=4))
def test_the_order_of_the_listing_is_kept_across_pages(pages: list[list[str]]):
    listed = [[Entry(f"{DOGS}/{number}/{name}") for number, name in enumerate(page)] for page in pages]
    taken = [ref.url for ref in select(listed, Selection(DOGS))]

    assert taken == [entry.url for page in listed for entry in page if entry.url[-4:] in (".jpg", ".JPG", ".png")]


class Pages:
    """A listing of two images a page that remembers how many of its pages were asked for."""

    def __init__(self) -> None:
        self.n_asked = 0

    def __iter__(self) -> Iterator[list[Entry]]:
        for self.n_asked in range(1, 100):
            yield [Entry(f"{DOGS}/{self.n_asked}-{name}.jpg") for name in "ab"]


def test_no_page_is_asked_for_before_the_one_before_it_is_consumed():
    pages = Pages()
    refs = select(pages, Selection(DOGS))

    asked_before_the_first = pages.n_asked
    first_two = list(islice(refs, 2))
    asked_for_two = pages.n_asked
    next(refs)

    assert len(first_two) == 2
    assert (asked_before_the_first, asked_for_two, pages.n_asked) == (0, 1, 2)


def test_a_limit_takes_the_first_images_and_asks_for_no_page_beyond_them():
    pages = Pages()
    names = [ref.url.removeprefix(f"{DOGS}/") for ref in select(pages, Selection(DOGS, limit=4))]

    assert names == ["1-a.jpg", "1-b.jpg", "2-a.jpg", "2-b.jpg"]
    assert pages.n_asked == 2


def test_a_limit_counts_images_and_not_what_is_left_out():
    assert selected(["a.txt", "b.jpg", "c/", "d.jpg", "e.jpg"], Selection(DOGS, exclude=("b*",), limit=1)) == ["d.jpg"]


def test_a_limit_larger_than_the_listing_takes_all_of_it():
    assert selected(TREE, Selection(DOGS, limit=1000)) == list(TREE)


@pytest.mark.parametrize(
    ("glob", "expected"),
    [
        ("*", ["a.jpg", "b.png", "x/a.jpg", "x/b.webp", "x/y/a.jpg", "xy/a.jpg"]),
        ("*.png", ["b.png"]),
        ("a.*", ["a.jpg", "x/a.jpg", "x/y/a.jpg", "xy/a.jpg"]),
        ("?.webp", ["x/b.webp"]),
        ("[!a].*", ["b.png", "x/b.webp"]),
        ("*/*", ["x/a.jpg", "x/b.webp", "xy/a.jpg"]),
        ("x/*", ["x/a.jpg", "x/b.webp"]),
        ("x/**", ["x/a.jpg", "x/b.webp", "x/y/a.jpg"]),
        ("x*/*.jpg", ["x/a.jpg", "xy/a.jpg"]),
        ("**/y/*", ["x/y/a.jpg"]),
        ("**/a.jpg", ["a.jpg", "x/a.jpg", "x/y/a.jpg", "xy/a.jpg"]),
        ("y/*", []),
        ("A.jpg", []),
    ],
)
def test_a_star_stays_within_a_folder_two_cross_folders_and_a_glob_without_a_slash_matches_names(
    glob: str, expected: list[str]
):
    left = [name for name in TREE if name not in expected]

    assert selected(TREE, Selection(DOGS, include=(glob,))) == expected
    assert selected(TREE, Selection(DOGS, exclude=(glob,))) == left


def test_one_of_several_includes_is_enough_and_one_of_several_excludes_too():
    assert selected(TREE, Selection(DOGS, include=("*.png", "xy/*"))) == ["b.png", "xy/a.jpg"]
    assert selected(TREE, Selection(DOGS, exclude=("*.jpg", "x/*"))) == ["b.png"]


def test_an_exclude_goes_before_an_include():
    assert selected(TREE, Selection(DOGS, include=("x/**",), exclude=("a.*",))) == ["x/b.webp"]


@pytest.mark.parametrize(
    ("source", "folder", "expected"),
    [
        (DOGS, DOGS, list(TREE)),
        (f"{DOGS}/*.jpg", DOGS, ["a.jpg"]),
        (f"{DOGS}/*", DOGS, ["a.jpg", "b.png"]),
        (f"{DOGS}/**", DOGS, list(TREE)),
        (f"{DOGS}/*/*.jpg", DOGS, ["x/a.jpg", "xy/a.jpg"]),
        (f"{DOGS}/**/*.jpg", DOGS, ["a.jpg", "x/a.jpg", "x/y/a.jpg", "xy/a.jpg"]),
        (f"{DOGS}/x?/*", DOGS, ["xy/a.jpg"]),
        (f"{DOGS}/x/[ab].*", f"{DOGS}/x", ["x/a.jpg", "x/b.webp"]),
        ("s3://bucket/do*/a.jpg", "s3://bucket", ["a.jpg"]),
        ("s3://bucket/*/x/**", "s3://bucket", ["x/a.jpg", "x/b.webp", "x/y/a.jpg"]),
    ],
)
def test_a_source_with_wildcards_lists_the_folder_before_the_first_and_takes_what_matches(
    source: str, folder: str, expected: list[str]
):
    selection = Selection(source)

    assert selection.folder == folder
    assert selected(TREE, selection) == expected


def test_the_globs_of_include_and_exclude_begin_below_the_folder_of_a_source_with_wildcards():
    assert selected(TREE, Selection(f"{DOGS}/x/**", include=("y/*",))) == ["x/y/a.jpg"]
    assert selected(TREE, Selection(f"{DOGS}/x/**", exclude=("y/*",))) == ["x/a.jpg", "x/b.webp"]


ODD = (
    "sp ace.jpg",
    "new\nline.jpg",
    "f/new\nline/a.jpg",
    "ünï/コリー.jpg",
    "a[1].jpg",
    "a#1.jpg",
    "50%.jpg",
    "a?b*.jpg",
)


def test_odd_names_are_taken_as_they_are():
    refs = list(select([[Entry(f"{DOGS}/{name}") for name in ODD]], Selection(DOGS)))

    assert [ref.url for ref in refs] == [f"{DOGS}/{name}" for name in ODD]


@pytest.mark.parametrize(
    ("glob", "expected"),
    [
        ("* *", ["sp ace.jpg"]),
        ("new*", ["new\nline.jpg"]),
        ("f/new*/*", ["f/new\nline/a.jpg"]),
        ("ün?/*", ["ünï/コリー.jpg"]),
        ("a[[]1].jpg", ["a[1].jpg"]),
        ("*#*", ["a#1.jpg"]),
        ("*%*", ["50%.jpg"]),
        ("*[*].jpg", ["a?b*.jpg"]),
        ("(.jpg", []),
        ("{a,b}.jpg", []),
        ("[.jpg", []),
    ],
)
def test_globs_see_odd_names_as_they_are(glob: str, expected: list[str]):
    assert selected(ODD, Selection(DOGS, include=(glob,))) == expected


@pytest.mark.parametrize("where", ["include", "exclude", "source"])
def test_a_glob_that_cannot_be_read_is_a_usage_error_that_names_it(where: str):
    setting = {"source": f"{DOGS}/n02**"} if where == "source" else {"source": DOGS, where: ("n02**",)}

    with pytest.raises(UsageError, match=r"n02\*\*"):
        selected(TREE, Selection(**setting))
