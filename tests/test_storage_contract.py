"""One contract, run against every storage: memory, a local folder, S3."""

from uuid import uuid4

import pytest

from pipeline.errors import StorageError, UsageError
from pipeline.storage import CHANGED, GONE, StorageOptions, join, open_storage, options_from_environment, read_whole


@pytest.fixture(params=["memory", "file", "s3"])
def folder(request, tmp_path):
    if request.param == "memory":
        return f"memory:///{uuid4().hex}/folder"
    if request.param == "file":
        return f"file://{tmp_path}/folder"
    return f"s3://{request.getfixturevalue('bucket')}/folder"


@pytest.fixture
def storage(folder):
    return open_storage(folder, options_from_environment())


def listed(storage, folder):
    return [entry for page in storage.list_pages(folder) for entry in page]


def test_what_is_written_is_listed_and_read(storage, folder):
    url = join(folder, "n02085620-Chihuahua", "a b.jpg")

    storage.write(url, b"bytes")

    (entry,) = listed(storage, folder)
    assert (entry.url, entry.size_bytes) == (url, 5)
    assert storage.read_many([(entry.url, entry.etag)]) == [b"bytes"]


def test_a_listing_is_sorted_flat_and_keeps_to_its_folder(storage, folder):
    names = ["b/2.jpg", "a.jpg", "b/1.jpg", "Z.jpg", "b/c/d/e.jpg"]
    for name in [*names, "../folder2/other.jpg"]:
        storage.write(join(folder, name) if ".." not in name else f"{folder}2/other.jpg", b"x")

    urls = [entry.url for entry in listed(storage, folder)]

    assert urls == sorted(join(folder, name) for name in names)


def test_pages_hold_at_most_a_thousand_and_nothing_is_lost_between_them(storage, folder):
    names = {join(folder, f"{i:04d}.jpg") for i in range(1003)}
    for url in names:
        storage.write(url, b"")

    pages = list(storage.list_pages(folder))

    assert [len(page) for page in pages] == [1000, 3]
    assert {entry.url for page in pages for entry in page} == names


def test_a_replaced_object_is_never_read_as_its_former_version(storage, folder):
    url = join(folder, "a.jpg")
    storage.write(url, b"old")
    (before,) = listed(storage, folder)

    storage.write(url, b"newer")

    assert storage.read_many([(url, before.etag)]) == [CHANGED]
    assert storage.read_many([(url, "")]) == [b"newer"]


def test_one_object_that_is_gone_does_not_cost_its_neighbours(storage, folder):
    storage.write(join(folder, "a.jpg"), b"a")
    storage.write(join(folder, "c.jpg"), b"c")

    bodies = storage.read_many([(join(folder, name), "") for name in ("a.jpg", "b.jpg", "c.jpg")])

    assert bodies == [b"a", GONE, b"c"]


def test_deleting_twice_is_no_fault(storage, folder):
    url = join(folder, "a.jpg")
    storage.write(url, b"a")

    storage.delete([url])
    storage.delete([url])

    assert listed(storage, folder) == []


@pytest.mark.parametrize("name", ["Ünï çødé.jpg", "a+b&c=d.jpg", "#1.jpg", "per%20cent.jpg", "'q\".jpg", "[x].jpg"])
def test_odd_names_come_back_as_they_are(storage, folder, name):
    url = join(folder, name)

    storage.write(url, b"odd")

    assert [entry.url for entry in listed(storage, folder)] == [url]
    assert storage.read_many([(url, listed(storage, folder)[0].etag)]) == [b"odd"]


def test_an_empty_folder_lists_nothing(storage, folder):
    assert listed(storage, folder) == []


def test_reading_what_is_not_there_says_so(folder):
    with pytest.raises(StorageError, match="no such object"):
        read_whole(join(folder, "nothing"), options_from_environment())


def test_a_missing_bucket_is_named(s3):
    storage = open_storage("s3://no-such-bucket-here", options_from_environment())

    with pytest.raises(StorageError, match="no-such-bucket-here"):
        listed(storage, "s3://no-such-bucket-here/x")


def test_an_unknown_protocol_is_a_usage_error():
    with pytest.raises(UsageError, match="nonsense://"):
        open_storage("nonsense://x", StorageOptions())


def test_options_carry_the_endpoint_and_region_but_no_key(s3, monkeypatch):
    monkeypatch.setenv("AWS_REGION", "eu-west-3")

    options = options_from_environment()

    assert (options.endpoint_url, options.region) == (s3, "eu-west-3")
    assert "demo-secret-key" not in repr(options)
