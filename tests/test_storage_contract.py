"""One contract, run against every storage: memory, a local folder, S3 as moto and as rclone understand it.

rclone's server ignores If-Match and If-None-Match, and quotes ETags in its answers but not in its listings.
"""

import errno
import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import boto3
import pytest

from benchmarks.server import rclone_server
from pipeline.demo.s3 import CREDENTIALS
from pipeline.errors import StorageError, UsageError
from pipeline.storage import (
    CHANGED,
    GONE,
    ReadFault,
    StorageOptions,
    counted_for,
    join,
    open_storage,
    options_from_environment,
    read_whole,
    requests,
    requests_since_last,
)


@pytest.fixture(scope="module")
def rclone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rclone")
    with rclone_server(folder, folder / "rclone.log") as endpoint:
        yield endpoint


@pytest.fixture(params=["memory", "file", "s3 by s3fs", "s3 by obstore", "rclone by s3fs", "rclone by obstore"])
def place(request, tmp_path, monkeypatch):
    """Return a folder that nothing stands in, and the options that reach it."""
    server, _, s3_client = request.param.partition(" by ")
    if request.param == "memory":
        return f"memory:///{uuid4().hex}/folder", StorageOptions()
    if request.param == "file":
        return f"file://{tmp_path}/folder", StorageOptions()
    if server == "s3":
        return proven(request.getfixturevalue("bucket"), options_from_environment(s3_client=s3_client))
    endpoint, bucket = request.getfixturevalue("rclone"), f"test-{uuid4().hex[:12]}"
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket=bucket)
    return proven(bucket, StorageOptions(endpoint_url=endpoint, region="us-east-1", s3_client=s3_client))


def proven(bucket, options):
    """Return a folder of a bucket whose ETags were seen to be MD5s, so that obstore makes the first attempts."""
    url, storage = f"s3://{bucket}/proof", open_storage("s3://", options)
    assert storage.read_many([(url, storage.write(url, b"proof"))]) == [b"proof"]
    return f"s3://{bucket}/folder", options


@pytest.fixture
def folder(place):
    return place[0]


@pytest.fixture
def options(place):
    return place[1]


@pytest.fixture
def storage(folder, options):
    return open_storage(folder, options)


def listed(storage, folder):
    return [entry for page in storage.list_pages(folder) for entry in page]


def test_what_is_looked_up_is_what_a_listing_tells(storage, folder):
    urls = [join(folder, name) for name in ("a.jpg", "b c+\u00fc.jpg")]
    for url in urls:
        storage.write(url, url.encode())

    assert storage.stat_many(urls) == listed(storage, folder)
    assert storage.stat_many([join(folder, "none"), urls[0]]) == [GONE, listed(storage, folder)[0]]


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


@pytest.mark.parametrize("place", ["memory", "file", "s3 by auto", "rclone by auto"], indirect=True)
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


def test_reading_what_is_not_there_says_so(folder, options):
    with pytest.raises(StorageError, match="no such object"):
        read_whole(join(folder, "nothing"), options)


def test_writing_tells_the_etag_that_a_listing_tells(storage, folder):
    first = storage.write(join(folder, "a.jpg"), b"first")
    (entry,) = listed(storage, folder)
    second = storage.write(join(folder, "a.jpg"), b"the second")

    (now,) = listed(storage, folder)

    assert (entry.etag, now.etag) == (first, second)
    assert first != second
    assert storage.read_many([(now.url, second)]) == [b"the second"]


def test_something_new_is_written_where_there_is_nothing(storage, folder):
    url = join(folder, "new", "lock.json")

    assert storage.write_new(url, b"mine")

    assert storage.read_many([(url, "")]) == [b"mine"]
    assert [entry.url for entry in listed(storage, folder)] == [url]


def test_something_new_does_not_replace_what_is_there(storage, folder):
    url = join(folder, "lock.json")
    storage.write(url, b"theirs")

    assert not storage.write_new(url, b"mine")

    assert storage.read_many([(url, "")]) == [b"theirs"]
    assert [entry.url for entry in listed(storage, folder)] == [url]


def test_something_new_is_a_success_where_the_same_bytes_are_there_already(storage, folder):
    url = join(folder, "lock.json")
    storage.write(url, b"same")

    assert storage.write_new(url, b"same")


def test_of_many_writers_of_something_new_those_succeed_whose_bytes_are_there(storage, folder, request):
    if "rclone" in request.node.name:
        pytest.skip("rclone ignores If-None-Match: of writers within the same instant the last one wins")
    url = join(folder, "lock.json")
    storage.write(join(folder, "other"), b"")

    with ThreadPoolExecutor(4) as pool:
        succeeded = list(pool.map(lambda i: storage.write_new(url, b"%d" % i), range(4)))

    (there,) = storage.read_many([(url, "")])
    assert succeeded == [there == b"%d" % i for i in range(4)]


@pytest.mark.parametrize("name", ["[a-c]*?", "{1,2}", "**"])
def test_a_folder_whose_name_looks_like_a_pattern_is_a_folder(storage, folder, name):
    url = join(folder, name, "1.jpg")
    storage.write(join(folder, "a", "1.jpg"), b"not this one")

    etag = storage.write(url, b"this one")

    assert [(entry.url, entry.etag) for entry in listed(storage, join(folder, name))] == [(url, etag)]
    assert storage.read_many([(url, etag)]) == [b"this one"]


def test_a_name_that_no_store_can_hold_is_a_fault_of_that_object(storage, folder):
    storage.write(join(folder, "a.jpg"), b"a")

    bodies = storage.read_many([(join(folder, "x" * 2000), ""), (join(folder, "a.jpg"), "")])

    assert isinstance(bodies[0], ReadFault)
    assert bodies[1] == b"a"


def test_many_objects_are_deleted_and_their_neighbours_are_not(storage, folder):
    urls = [join(folder, f"{i:02d} ü&'<.jpg") for i in range(12)]
    for url in urls:
        storage.write(url, b"x")

    storage.delete([*urls[:10], join(folder, "never there")])

    assert [entry.url for entry in listed(storage, folder)] == urls[10:]


def test_what_is_asked_of_a_store_is_counted(storage, folder):
    before = requests()

    for name in ("a.jpg", "b.jpg"):
        storage.write(join(folder, name), b"123")
    listed(storage, folder)
    storage.read_many([(join(folder, name), "") for name in ("a.jpg", "b.jpg", "c.jpg")])
    storage.delete([join(folder, "a.jpg")])

    assert requests() - before == {
        "write": 2,
        "bytes_written": 6,
        "list": 1,
        "read": 3,
        "bytes_read": 6,
        "delete": 1,
    }


def test_what_is_asked_for_one_of_several_runs_is_counted_for_it_alone(storage, folder):
    url = storage.write(join(folder, "a.jpg"), b"123") and join(folder, "a.jpg")
    requests_since_last()

    with counted_for("first"):
        storage.read_many([(url, ""), (url, "")])
        etag = listed(storage, folder)[0].etag
    with counted_for("second"):
        storage.read_many([(url, etag)] * 3)  # an ETag lets a faster client read

    assert requests_since_last("first") == {"read": 2, "bytes_read": 6, "list": 1}
    assert requests_since_last("second") == {"read": 3, "bytes_read": 9}
    assert requests_since_last("second") == requests_since_last() == {}


def test_an_empty_variable_names_no_endpoint_and_no_region(monkeypatch):
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "")

    assert options_from_environment() == StorageOptions()


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


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError(), "does not fit into memory"),
        (OSError(errno.EIO, "bad sector"), "input/output error"),
        (PermissionError(errno.EACCES, "no"), "access denied"),
    ],
)
def test_a_file_that_cannot_be_read_does_not_cost_its_neighbours(tmp_path, monkeypatch, error, reason):
    storage = open_storage("file://", StorageOptions())
    cat_file = storage._fs.cat_file

    def faulty(path):
        if "bad" in path:
            raise error
        return cat_file(path)

    monkeypatch.setattr(storage._fs, "cat_file", faulty)
    storage.write(f"file://{tmp_path}/bad.jpg", b"bad")
    storage.write(f"file://{tmp_path}/good.jpg", b"good")

    bodies = storage.read_many([(f"file://{tmp_path}/{name}.jpg", "") for name in ("bad", "good")])

    assert bodies == [ReadFault(reason), b"good"]


def test_a_disk_that_is_lost_ends_the_run(tmp_path, monkeypatch):
    def lost(_path):
        raise OSError(errno.ESTALE, "stale file handle")

    storage = open_storage("file://", StorageOptions())
    monkeypatch.setattr(storage._fs, "cat_file", lost)

    with pytest.raises(StorageError, match="stale"):
        storage.read_many([(f"file://{tmp_path}/a.jpg", "")])


def test_a_folder_in_the_place_of_a_file_is_a_fault_of_that_object(tmp_path):
    (tmp_path / "a.jpg").mkdir()

    assert open_storage("file://", StorageOptions()).read_many([(f"file://{tmp_path}/a.jpg", "")]) == [
        ReadFault("is a directory")
    ]


def test_files_are_read_side_by_side(tmp_path, monkeypatch):
    """Each read waits until the others are there."""
    storage = open_storage("file://", StorageOptions())
    meeting = threading.Barrier(4, timeout=10)
    cat_file = storage._fs.cat_file
    monkeypatch.setattr(storage._fs, "cat_file", lambda path: meeting.wait() >= 0 and cat_file(path))
    urls = [f"file://{tmp_path}/{i}.jpg" for i in range(4)]
    for i, url in enumerate(urls):
        storage.write(url, b"%d" % i)

    assert storage.read_many([(url, "") for url in urls]) == [b"0", b"1", b"2", b"3"]


def test_something_new_is_written_on_disks_without_links_too(tmp_path, monkeypatch):
    def link(*_):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr("os.link", link)
    storage = open_storage("file://", StorageOptions())
    url = f"file://{tmp_path}/lock.json"

    assert storage.write_new(url, b"mine")
    assert not storage.write_new(url, b"theirs")

    assert [path.name for path in tmp_path.iterdir()] == ["lock.json"]
    assert storage.read_many([(url, "")]) == [b"mine"]
