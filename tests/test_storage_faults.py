"""What S3 does to us, and what storage makes of it: scenarios 9 to 15, on a server that misbehaves by table."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import boto3
import pytest
from botocore.config import Config
from fsspec.asyn import sync

from pipeline.demo.s3 import CREDENTIALS
from pipeline.errors import StorageError
from pipeline.storage import CHANGED, GONE, REFUSED, ReadFault, StorageOptions, requests
from pipeline.storage.retries import Retries
from pipeline.storage.s3 import S3Storage
from tests.faulty_s3 import faulty_s3

BODY = bytes(range(256)) * 40


@pytest.fixture(scope="module")
def one_server():
    with faulty_s3(seed=11) as server:
        yield server


@pytest.fixture
def server(one_server, request):
    """Return a server that nothing is wrong with, and that nothing was asked of yet."""
    one_server.released.clear()
    one_server.read_by = getattr(request, "param", "auto")
    yield one_server
    one_server.faults.clear()
    one_server.released.set()


@pytest.fixture
def s3(server, monkeypatch):
    """Return a client that is not ours, to see and to prepare what stands in the store."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    plain = Config(request_checksum_calculation="when_required")
    return boto3.client("s3", endpoint_url=server.endpoint, config=plain)


@pytest.fixture
def bucket(s3, server):
    name = f"faults-{uuid4().hex[:12]}"
    s3.create_bucket(Bucket=name)
    server.log.clear()
    return name


by_each_client = pytest.mark.parametrize("server", ["s3fs", "obstore"], indirect=True)
"""Reading alone is done by one or the other."""


def storage_on(server, *, deadline_s=20.0, attempt_s=5.0, **options):
    timing = {"deadline_s": deadline_s, "attempt_s": attempt_s}
    storage = S3Storage(StorageOptions(endpoint_url=server.endpoint, s3_client=server.read_by, **timing, **options))
    client = storage._client._fs
    sync(client.loop, client.set_session)  # takes seconds on a busy machine, which no deadline here should pay for
    return storage


def listed(storage, bucket):
    return [(entry.url, entry.etag) for page in storage.list_pages(f"s3://{bucket}/dogs") for entry in page]


def filled(storage, bucket, n, body=BODY):
    for i in range(n):
        storage.write(f"s3://{bucket}/dogs/{i:03d}.jpg", body + bytes([i % 256]))
    return listed(storage, bucket)


def prove(storage, bucket):
    """Let a storage see that the ETags of a bucket are MD5s: from then on obstore makes the first attempts."""
    url = f"s3://{bucket}/proof"
    assert storage.read_many([(url, storage.write(url, b"proof"))]) == [b"proof"]


def bodies_of(n):
    return [BODY + bytes([i % 256]) for i in range(n)]


# Writing


def test_a_put_that_was_stored_though_its_answer_was_an_error_is_a_success(server, bucket):
    storage = storage_on(server)
    server.faults.add("stored", method="PUT", status=500, times=1)

    etag = storage.write(f"s3://{bucket}/dogs/part.parquet", BODY)

    assert listed(storage, bucket) == [(f"s3://{bucket}/dogs/part.parquet", etag)]
    assert server.count("PUT") == 2


@pytest.mark.parametrize("is_unconditional", [False, True])
def test_ones_own_success_reported_as_a_conflict_is_a_success(server, bucket, is_unconditional):
    storage = storage_on(server)
    server.faults.add("stored", method="PUT", status=500, times=1)
    if is_unconditional:
        server.faults.add("unconditional")

    assert storage.write_new(f"s3://{bucket}/run.json", b"mine")

    assert storage.read_many([(f"s3://{bucket}/run.json", "")]) == [b"mine"]


@pytest.mark.parametrize("is_unconditional", [False, True])
def test_something_new_never_replaces_what_is_there(server, bucket, is_unconditional):
    storage = storage_on(server)
    storage.write(f"s3://{bucket}/run.json", b"theirs")
    if is_unconditional:
        server.faults.add("unconditional")

    assert not storage.write_new(f"s3://{bucket}/run.json", b"mine")

    assert storage.read_many([(f"s3://{bucket}/run.json", "")]) == [b"theirs"]


@pytest.mark.parametrize("theirs", [b"theirs", b"mine"])
def test_a_conflict_that_nobody_could_see_coming_is_decided_by_the_bytes(server, s3, bucket, theirs):
    """Another writer comes between the look and the put."""
    storage = storage_on(server)
    server.faults.add("slow", method="PUT", seconds=1.0)

    with ThreadPoolExecutor(1) as pool:
        ours = pool.submit(storage.write_new, f"s3://{bucket}/run.json", b"mine")
        wait_until(lambda: server.count("GET", "run.json") == 1)
        server.faults.clear()
        s3.put_object(Bucket=bucket, Key="run.json", Body=theirs)

    assert ours.result() == (theirs == b"mine")
    assert storage.read_many([(f"s3://{bucket}/run.json", "")]) == [theirs]


def test_a_conflict_of_the_moment_is_tried_again(server, bucket):
    server.faults.add("status", method="PUT", status=409, times=2)

    assert storage_on(server).write_new(f"s3://{bucket}/run.json", b"mine")

    assert server.count("PUT") == 3


def test_a_server_without_conditional_puts_gets_a_plain_one(server, bucket):
    server.faults.add("status", method="PUT", status=501, times=1)

    assert storage_on(server).write_new(f"s3://{bucket}/run.json", b"mine")

    assert server.count("PUT") == 2


def test_the_error_page_of_a_proxy_is_a_reason_to_try_again(server, bucket):
    server.faults.add("status", method="GET|PUT", status=502, times=2)
    storage = storage_on(server)

    storage.write(f"s3://{bucket}/dogs/part.parquet", BODY)
    server.faults.add("status", method="GET", status=502, times=1)

    assert len(listed(storage, bucket)) == 1
    assert server.count() == 5


def test_a_full_store_says_so_at_once(server, bucket):
    server.faults.add("status", method="PUT", status=507)
    storage = storage_on(server)

    with pytest.raises(StorageError, match=r"InsufficientStorage"):
        storage.write(f"s3://{bucket}/dogs/part.parquet", BODY)

    assert server.count("PUT") == 1


# Reading under a storm


@by_each_client
def test_a_storm_of_503s_costs_no_image_and_few_requests(server, bucket):
    storage = storage_on(server, deadline_s=60)
    prove(storage, bucket)
    objects = filled(storage, bucket, 100)
    before, logged = requests(), server.count("GET", ".")
    server.faults.add("status", method="GET", key=".", status=503, probability=0.3)

    bodies = storage.read_many(objects)

    made = requests() - before
    assert bodies == bodies_of(100)
    assert 100 < made["read"] <= 300
    assert made["read"] == 100 + made["retries"] == server.count("GET", ".") - logged
    assert made["bytes_read"] == sum(map(len, bodies))


@by_each_client
@pytest.mark.parametrize("what", ["status", "silent"])
def test_a_store_that_answers_nothing_is_named_by_the_deadline(server, bucket, what):
    storage = storage_on(server, deadline_s=2.0, attempt_s=0.5)
    prove(storage, bucket)
    objects = filled(storage, bucket, 3)
    threads = set(threading.enumerate())
    server.faults.add(what, status=503)

    began = time.monotonic()
    with pytest.raises(StorageError, match=rf"{bucket}.* no usable answer within 2 s"):
        storage.read_many(objects)
    took_s = time.monotonic() - began

    assert 1.5 < took_s < 4
    server.released.set()
    wait_until(lambda: set(threading.enumerate()) <= threads)


@pytest.mark.parametrize("call", ["list", "write", "delete"])
def test_every_other_request_has_the_deadline_too(server, bucket, call):
    storage = storage_on(server, deadline_s=1.0, attempt_s=0.4)
    url = f"s3://{bucket}/dogs/a.jpg"
    server.faults.add("silent")
    asked = {"list": lambda: listed(storage, bucket), "write": lambda: storage.write(url, b"")}

    began = time.monotonic()
    with pytest.raises(StorageError, match=rf"{bucket}.* no usable answer within 1 s"):
        asked.get(call, lambda: storage.delete([url]))()

    assert time.monotonic() - began < 3


def test_a_dying_store_is_not_hammered():
    """200 requests that nothing answers, within 2 s: the first ones hurry, the others keep the longest pause."""
    import asyncio

    async def dead():
        raise ConnectionRefusedError

    async def ask(retries):
        with pytest.raises(ConnectionRefusedError):
            await retries.run("read", dead, deadline_s=2.0)

    async def storm(retries):
        await asyncio.gather(*(ask(retries) for _ in range(200)))

    before = requests()
    asyncio.run(storm(Retries(longest_pause_s=1.0)))

    assert (requests() - before)["read"] < 200 * 4.2


# One object's fault


@by_each_client
@pytest.mark.parametrize("kind", ["cut", "flip"])
def test_a_body_that_is_damaged_on_its_way_is_read_again(server, bucket, kind):
    storage = storage_on(server)
    prove(storage, bucket)
    objects = filled(storage, bucket, 4)
    server.faults.add(kind, method="GET", key="00[12].jpg", times=3)

    assert storage.read_many(objects) == bodies_of(4)

    assert server.count("GET", r"jpg") == 4 + 3


@by_each_client
@pytest.mark.parametrize(
    ("kind", "reason"), [("cut", "the body ends early"), ("flip", "the bytes do not match their ETag")]
)
def test_a_body_that_is_damaged_every_time_is_that_objects_fault(server, bucket, kind, reason):
    storage = storage_on(server)
    prove(storage, bucket)
    objects = filled(storage, bucket, 4)
    storage.read_many(objects[:1])
    server.faults.add(kind, method="GET", key="002.jpg")

    bodies = storage.read_many(objects)

    assert bodies[2] == ReadFault(reason)
    assert [bodies[i] for i in (0, 1, 3)] == [bodies_of(4)[i] for i in (0, 1, 3)]
    assert server.count("GET", "002.jpg") == 5


@by_each_client
def test_a_checksum_beside_the_etag_is_held_against_the_body_too(server, s3, bucket):
    """An ETag of several parts is no MD5; S3 tells newer objects' CRC32 if it is asked."""
    storage = storage_on(server)
    prove(storage, bucket)
    s3.put_object(Bucket=bucket, Key="dogs/a.jpg", Body=BODY, ChecksumAlgorithm="CRC32", ServerSideEncryption="aws:kms")
    server.faults.add("flip", method="GET", key="a.jpg", times=1)

    assert storage.read_many(listed(storage, bucket)) == [BODY]

    assert server.count("GET", "a.jpg") == 2


@by_each_client
def test_an_etag_that_merely_looks_like_an_md5_costs_no_image(server, bucket):
    """A server whose every ETag belongs to other bytes than it sends."""
    storage = storage_on(server)
    objects = filled(storage, bucket, 4)
    server.faults.add("flip", method="GET", key="jpg")

    bodies = storage.read_many(objects)

    assert [len(body) for body in bodies] == [len(BODY) + 1] * 4
    assert server.count("GET", "jpg") == 8


@by_each_client
def test_the_etag_of_an_object_under_ones_own_key_is_not_taken_for_an_md5(server, s3, bucket):
    storage = storage_on(server)
    prove(storage, bucket)
    filled(storage, bucket, 1)
    s3.put_object(Bucket=bucket, Key="dogs/secret.jpg", Body=BODY, ServerSideEncryption="aws:kms")
    objects = listed(storage, bucket)
    assert storage.read_many(objects[:1]) == bodies_of(1)
    server.faults.add("flip", method="GET", key="secret.jpg")

    (body,) = storage.read_many(objects[1:])

    assert not isinstance(body, ReadFault)


@by_each_client
@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ({"kind": "status", "status": 500}, "no usable answer: InternalError"),
        ({"kind": "silent"}, "no usable answer: silence"),
    ],
)
def test_an_object_that_never_answers_is_its_own_fault_while_the_store_answers(server, bucket, what, reason):
    storage = storage_on(server, deadline_s=2.5, attempt_s=0.5)
    prove(storage, bucket)
    objects = filled(storage, bucket, 3)
    server.faults.add(**what, key="001.jpg")

    bodies = storage.read_many(objects)
    alone = storage.read_many(objects[1:2])

    assert bodies == [bodies_of(3)[0], ReadFault(reason), bodies_of(3)[2]]
    assert alone == [ReadFault(reason)]


# Other bytes than those that were listed


@by_each_client
@pytest.mark.parametrize("is_unconditional", [False, True])
def test_an_object_that_was_replaced_or_deleted_after_listing_is_said_to_be(server, bucket, is_unconditional):
    storage = storage_on(server)
    prove(storage, bucket)
    objects = filled(storage, bucket, 3)
    storage.write(objects[0][0], b"another")
    storage.delete([objects[1][0]])
    if is_unconditional:
        server.faults.add("unconditional")

    assert storage.read_many(objects) == [CHANGED, GONE, bodies_of(3)[2]]


@by_each_client
def test_an_object_that_we_may_not_read_does_not_cost_its_neighbours(server, bucket):
    storage = storage_on(server)
    prove(storage, bucket)
    objects = filled(storage, bucket, 2)
    server.faults.add("status", status=403, key="000.jpg")

    assert storage.read_many(objects) == [REFUSED, bodies_of(2)[1]]


@by_each_client
@pytest.mark.parametrize("where", ["GET", "PUT", "^$"])
def test_quotes_around_etags_are_no_difference(server, bucket, where):
    """Quoted here and not there: in answers to GET, in answers to PUT, in listings."""
    storage = storage_on(server)
    prove(storage, bucket)
    server.faults.add("unquoted", **({"key": where} if where == "^$" else {"method": where, "key": "."}))

    etag = storage.write(f"s3://{bucket}/dogs/a.jpg", BODY)

    assert listed(storage, bucket) == [(f"s3://{bucket}/dogs/a.jpg", etag)]
    assert storage.read_many([(f"s3://{bucket}/dogs/a.jpg", etag)]) == [BODY]


# Deleting


def test_many_objects_are_deleted_with_few_requests(server, bucket):
    storage = storage_on(server)
    prove(storage, bucket)
    objects = filled(storage, bucket, 30)
    before = requests()

    storage.delete([url for url, _ in objects])

    assert listed(storage, bucket) == []
    assert (requests() - before)["delete"] == 1 == server.count("POST") + server.count("DELETE")


def test_a_server_that_deletes_only_one_at_a_time_is_served_so(server, bucket):
    storage = storage_on(server)
    prove(storage, bucket)
    objects = filled(storage, bucket, 3)
    server.faults.add("status", method="POST", status=501)

    storage.delete([url for url, _ in objects])

    assert listed(storage, bucket) == []
    assert server.count("DELETE") == 3


def wait_until(holds, within_s=5.0):
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)
