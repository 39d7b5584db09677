"""Decoding that a bad image can neither hold up nor bring down; each fault is real, and innocents are never blamed."""

import os
import resource
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import psutil
import pytest
from PIL import ImageFile

from pipeline.engine import decode_process, isolation
from pipeline.engine.decode_process import DecodeProcess
from pipeline.engine.isolation import decode_apart, decode_in_time, n_abandoned
from pipeline.records import ImageFailure, ImageRef, Sample
from pipeline.stages.decode import decode
from tests.poison import poison_environment, poisoned_jpeg
from tests.poison.sitecustomize import poisoned
from tests.test_decode import JPEG, PNG, UNUSABLE, USABLE, V2, WEBP, encoded, jpeg_that_claims, noise, png_that_claims

DEADLINE_S = 0.6
LITTLE_BYTES = 192 << 20

REASONS = {
    "segfault": "decoding killed its process (SIGSEGV)",
    "abort": "decoding killed its process (SIGABRT)",
    "end": "decoding ended its process (exit status 3)",
    "hang": f"decoding took longer than {DEADLINE_S} s",
    "freeze": f"decoding took longer than {DEADLINE_S} s",
    "memory": "decoding needs more than 192 MiB",
}
"""What becomes of each kind of culprit in a process of its own."""

GOOD = [JPEG, PNG, WEBP, encoded(noise(90, 61))]


@pytest.fixture(autouse=True)
def no_process_left_behind():
    before = psutil.Process().children(recursive=True)
    yield
    assert psutil.Process().children(recursive=True) == before


@pytest.fixture
def poison(monkeypatch):
    """Make poisoned images act in this process and in those that it starts."""
    monkeypatch.setattr(ImageFile.ImageFile, "load", poisoned(ImageFile.ImageFile.load))
    for name, value in poison_environment().items():
        monkeypatch.setenv(name, value)


def items_of(images):
    return [(ImageRef(f"s3://bucket/{i}.jpg", f"etag{i}", len(data)), data) for i, data in enumerate(images)]


def chunk_with(culprits):
    """Return seven images: culprits by place and kind, the others good."""
    return items_of(poisoned_jpeg(culprits[i]) if i in culprits else GOOD[i % len(GOOD)] for i in range(7))


def apart(items, deadline_s=DEADLINE_S, memory_bytes=LITTLE_BYTES):
    return decode_apart(items, V2, deadline_s, memory_bytes)


def same(ours, theirs):
    """Whether two outcomes are equal, to the bit."""
    if isinstance(ours, ImageFailure):
        return ours == theirs
    equal = [getattr(ours, name) == getattr(theirs, name) for name in ("ref", "width", "height")]
    return isinstance(theirs, Sample) and all(equal) and np.array_equal(ours.pixels, theirs.pixels)


def assert_only_blamed(results, items, culprits, reasons=REASONS):
    """Check every outcome of a chunk: the culprits' reasons, and the others' pixels to the bit."""
    assert len(results) == len(items)
    for i, (result, (ref, data)) in enumerate(zip(results, items, strict=True)):
        if i in culprits:
            assert result == ImageFailure(ref, "decode", reasons[culprits[i]])
        else:
            assert same(result, decode(ref, data, V2))


# In a process of its own


def test_good_images_decode_as_they_do_here():
    items = items_of(GOOD)

    assert_only_blamed(apart(items), items, {})


def test_nothing_to_decode_starts_no_process(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/no/such/python")

    assert apart([]) == []
    assert decode_in_time([], V2) == []


@pytest.mark.parametrize("kind", REASONS)
def test_one_culprit_is_blamed_alone_and_by_what_it_did(poison, kind):
    items = chunk_with({3: kind})

    assert_only_blamed(apart(items, 5 if kind == "memory" else DEADLINE_S), items, {3: kind})


@pytest.mark.parametrize(
    "culprits",
    [
        {0: "segfault"},
        {6: "segfault"},
        {0: "abort", 1: "segfault", 4: "end", 6: "abort"},
        dict.fromkeys(range(7), "end"),
    ],
    ids=["first", "last", "several", "all"],
)
def test_culprits_are_found_wherever_they_stand(poison, culprits):
    items = chunk_with(culprits)

    assert_only_blamed(apart(items), items, culprits)


def test_an_image_is_not_blamed_for_what_those_before_it_did_to_the_process(monkeypatch, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        textwrap.dedent("""
            import os
            from PIL import ImageFile
            load, loaded = ImageFile.ImageFile.load, []
            def third_is_the_last(image):
                loaded.append(id(image))
                return os.abort() if len(set(loaded)) == 3 else load(image)
            ImageFile.ImageFile.load = third_is_the_last
        """)
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    starts = count_starts(monkeypatch)
    items = items_of(GOOD)

    assert_only_blamed(apart(items), items, {})
    assert len(starts) == 2


def count_starts(monkeypatch):
    starts, spawn = [], decode_process._spawn
    monkeypatch.setattr(decode_process, "_spawn", lambda fd: starts.append(fd) or spawn(fd))
    return starts


def test_a_process_that_is_killed_from_outside_costs_no_image(monkeypatch):
    decode_there, decoded = DecodeProcess.decode, []

    def decode_or_die(process, ref, data):
        decoded.append(ref)
        if len(decoded) == 3:
            process._process.kill()
        return decode_there(process, ref, data)

    monkeypatch.setattr(DecodeProcess, "decode", decode_or_die)
    items = items_of(GOOD)

    assert_only_blamed(apart(items), items, {})
    assert decoded == [items[i][0] for i in (0, 1, 2, 2, 3)]


@pytest.mark.parametrize("executable", ["/no/such/python", "/bin/false"])
def test_a_process_that_cannot_start_blames_nobody(monkeypatch, executable):
    starts = count_starts(monkeypatch)
    monkeypatch.setattr(sys, "executable", executable)

    with pytest.raises(RuntimeError, match=r"cannot start a process to decode in: .*(No such file|exit status 1)"):
        apart(items_of(GOOD))

    assert len(starts) == 2


def test_why_a_process_cannot_start_is_said(monkeypatch, tmp_path):
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "__init__.py").write_text("raise ImportError('no such luck')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    with pytest.raises(RuntimeError, match="ImportError: no such luck"):
        apart(items_of(GOOD))


def test_a_process_that_starts_at_the_second_try_is_taken(monkeypatch):
    executables = iter(["/bin/false", sys.executable])
    spawn = decode_process._spawn

    def spawn_next(fd):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "executable", next(executables))
            return spawn(fd)

    monkeypatch.setattr(decode_process, "_spawn", spawn_next)
    items = items_of(GOOD)

    assert_only_blamed(apart(items), items, {})


def test_a_slow_start_is_not_the_first_image_s_fault(monkeypatch, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(f"import time; time.sleep({2 * DEADLINE_S})")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    items = items_of(GOOD)

    assert_only_blamed(apart(items), items, {})


def test_the_process_prints_nothing_and_leaves_no_file(poison, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONFAULTHANDLER", "1")

    apart(chunk_with({2: "segfault"}))

    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_a_decoder_that_talks_a_lot_is_not_held_up(monkeypatch, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        textwrap.dedent("""
            import os
            from PIL import ImageFile
            load = ImageFile.ImageFile.load
            def complain(image):
                os.write(2, bytes(1 << 20))
                return load(image)
            ImageFile.ImageFile.load = complain
        """)
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    items = items_of(GOOD)

    assert_only_blamed(apart(items), items, {})


@pytest.mark.skipif(sys.platform != "linux", reason="psutil tells a process's limits on Linux only")
def test_the_process_has_its_limits():
    with decode_process.decode_process(V2, decode_process.Limits(DEADLINE_S, LITTLE_BYTES)) as process:
        there = psutil.Process(process._process.pid)

        assert there.rlimit(psutil.RLIMIT_CORE) == (0, 0)
        assert LITTLE_BYTES < there.rlimit(psutil.RLIMIT_AS)[0] < LITTLE_BYTES + (2 << 30)


HUNGRIEST = bytes.fromhex("524946461e000000574542505650384c110000002f0fe7c30907508a2ad4a3ff8188e87f0000")
"""A WebP of 10,000 x 10,000 pixels, all alike: decoding it takes 1.5 GiB."""


def test_the_hungriest_image_that_is_let_in_stays_below_the_limit():
    items = items_of([HUNGRIEST])

    (hungry,), (starved,) = decode_apart(items, V2), apart(items, deadline_s=30)

    assert isinstance(hungry, Sample)
    assert isinstance(starved, ImageFailure)


ORPHAN = """
import os, sys, threading
from pipeline.engine.isolation import decode_apart
from pipeline.records import ImageRef, Transform
threading.Timer(float(sys.argv[1]), os._exit, [9]).start()
decode_apart([(ImageRef("", "", 1), sys.stdin.buffer.read())] * 10**6, Transform(8, 8, (0, 0, 0), (1, 1, 1)), 1.0)
"""


@pytest.mark.parametrize("data", [JPEG, poisoned_jpeg("freeze")], ids=["busy", "hanging"])
def test_the_process_does_not_outlive_its_parent(data):
    environment = os.environ | poison_environment() | {"MARK_OF_THIS_TEST": str(time.time_ns())}

    parent = subprocess.run([sys.executable, "-c", ORPHAN, "0.9"], input=data, env=environment, check=False)

    assert parent.returncode == 9
    deadline = time.monotonic() + 1 + decode_process.GRACE_S + 8
    while (left := processes_with(environment["MARK_OF_THIS_TEST"])) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []


def processes_with(mark):
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("MARK_OF_THIS_TEST") == mark:
                found.append(process)
        except psutil.Error:
            continue
    return found


# In time


def test_an_image_that_hangs_is_blamed_alone_and_its_thread_counted(poison):
    items, before = chunk_with({0: "hang", 4: "hang", 6: "hang"}), n_abandoned()

    results = decode_in_time(items, V2, DEADLINE_S)

    assert_only_blamed(results, items, {0: "hang", 4: "hang", 6: "hang"})
    assert n_abandoned() == before + 3


def test_progress_is_what_counts_not_the_time_of_the_whole_chunk(monkeypatch):
    monkeypatch.setattr(isolation, "decode", lambda *image: time.sleep(0.05) or decode(*image))
    starts, items = count_starts(monkeypatch), items_of(GOOD * 4)

    results = decode_in_time(items, V2, 0.4)

    assert starts == []
    assert_only_blamed(results, items, {})


def test_a_thread_that_was_given_up_does_not_go_on_with_what_others_do_now(monkeypatch):
    release, decoded_here = threading.Event(), []

    def decode_slowly(ref, data, transform):
        decoded_here.append(ref)
        if ref.url.endswith("/1.jpg"):
            release.wait(30)
        return decode(ref, data, transform)

    monkeypatch.setattr(isolation, "decode", decode_slowly)
    items, before = items_of(GOOD), n_abandoned()

    results = decode_in_time(items, V2, 0.3)

    assert n_abandoned() == before + 1
    release.set()
    deadline = time.monotonic() + 5
    while n_abandoned() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert n_abandoned() == before
    assert decoded_here == [ref for ref, _ in items]
    assert_only_blamed(results, items, {})  # slow here, but not in a process of its own


def test_no_memory_here_is_no_fault_of_the_image(monkeypatch):
    def decode_without_memory(ref, data, transform):
        if ref.url.endswith(("/0.jpg", "/3.jpg")):
            raise MemoryError
        return decode(ref, data, transform)

    monkeypatch.setattr(isolation, "decode", decode_without_memory)
    items, before = items_of(GOOD), n_abandoned()

    assert_only_blamed(decode_in_time(items, V2), items, {})
    assert n_abandoned() == before


def test_an_error_of_our_own_is_the_caller_s(monkeypatch):
    def decode_wrongly(ref, data, transform):
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr(isolation, "decode", decode_wrongly)

    with pytest.raises(ZeroDivisionError, match="a fault of ours"):
        decode_in_time(items_of(GOOD), V2)


def test_chunks_are_decoded_side_by_side(poison):
    chunks = [chunk_with({i: "hang"}) for i in range(3)]
    results = [None] * 3

    def work(i):
        results[i] = decode_in_time(chunks[i], V2, DEADLINE_S)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for i in range(3):
        assert_only_blamed(results[i], chunks[i], {i: "hang"})


def test_it_costs_no_more_than_a_thousandth_of_what_decoding_costs(monkeypatch):
    monkeypatch.setattr(isolation, "decode", lambda *image: image)
    items = items_of([JPEG] * 80)

    def seconds():
        start = time.perf_counter()
        decode_in_time(items, V2)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(200)) < 250e-6  # 80 photographs take 250 ms


# The odd ones

CORPUS = {name: (data, None) for name, data in USABLE.items()} | UNUSABLE


@pytest.mark.parametrize("decode_all", [decode_in_time, decode_apart])
def test_the_odd_ones_share_a_chunk_and_each_gets_its_own_outcome(decode_all):
    items = items_of(data for data, _ in CORPUS.values())

    results = decode_all(items, V2)

    outcomes = {name: getattr(result, "reason", None) for name, result in zip(CORPUS, results, strict=True)}
    assert outcomes == {name: reason for name, (_, reason) in CORPUS.items()}
    assert all(same(result, decode(*item, V2)) for result, item in zip(results, items, strict=True))


def webp_that_claims(width, height):
    lossless = encoded(noise(40, 30), "WEBP", lossless=True)
    size = (width - 1) | (height - 1) << 14
    bits = int.from_bytes(lossless[21:25], "little") & ~((1 << 28) - 1) | size
    return lossless[:21] + bits.to_bytes(4, "little") + lossless[25:]


MEASURE = """
import resource, sys
from pathlib import Path
from pipeline.records import ImageRef, Transform
from pipeline.stages.decode import decode

def peak_mebibytes():
    if sys.platform == "linux":  # there ru_maxrss begins with what the parent had
        return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) >> 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 20

transform, ref = Transform(232, 224, (0, 0, 0), (1, 1, 1)), ImageRef("", "", 1)
n_warm, data = int(sys.argv[1]), sys.stdin.buffer.read()
decode(ref, data[:n_warm], transform)
before = peak_mebibytes()
outcome = decode(ref, data[n_warm:], transform)
print(peak_mebibytes() - before, getattr(outcome, "reason", "ok"))
"""


def mebibytes_and_reason(data, like):
    """Return how far a process's peak memory grows by an image, after one of its kind, and what comes of it."""
    process = subprocess.run(
        [sys.executable, "-c", MEASURE, str(len(like))], input=like + data, capture_output=True, check=True
    )
    grown, _, reason = process.stdout.decode().strip().partition(" ")
    return int(grown), reason


TOO_LARGE = UNUSABLE["JPEG of 20,000 x 20,000"][1]
HEADERS = {
    "JPEG of 400 MP": (jpeg_that_claims(20_000, 20_000), JPEG, TOO_LARGE),
    "PNG of 400 MP": (png_that_claims(20_000, 20_000), PNG, TOO_LARGE),
    "WebP of 268 MP": (webp_that_claims(16_383, 16_383), WEBP, TOO_LARGE),
    "JPEG of 100 MP": (jpeg_that_claims(10_000, 10_000), JPEG, "truncated image"),
    "progressive JPEG of 100 MP": (jpeg_that_claims(10_000, 10_000, progressive=True), JPEG, "truncated image"),
    "PNG of 100 MP": (png_that_claims(10_000, 10_000), PNG, "truncated image"),
}
"""Each with an image of its kind that is decoded first. A WebP of a few bytes may well hold 100 MP, all alike."""


@pytest.mark.parametrize(("data", "like", "expected"), HEADERS.values(), ids=list(HEADERS))
def test_a_header_that_claims_pixels_which_are_not_there_makes_no_room_for_them(data, like, expected):
    grown, reason = mebibytes_and_reason(data, like)

    assert reason == expected
    assert grown < 50


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
def test_a_large_photograph_takes_its_pixels_once(options):
    large = encoded(noise(6000, 400).resize((6000, 4000)), **options)

    grown, reason = mebibytes_and_reason(large, JPEG)

    pixels_mebibytes = 6000 * 4000 * 4 >> 20
    coefficients_mebibytes = 6000 * 4000 * 3 >> 20 if options else 0  # chroma at a quarter, two bytes each
    assert reason == "ok"
    assert pixels_mebibytes * 0.9 < grown < (pixels_mebibytes + coefficients_mebibytes) * 1.15 + 10


def test_no_limit_of_the_process_is_ours():
    before = [resource.getrlimit(limit) for limit in (resource.RLIMIT_AS, resource.RLIMIT_CORE)]

    apart(items_of(GOOD))

    assert [resource.getrlimit(limit) for limit in (resource.RLIMIT_AS, resource.RLIMIT_CORE)] == before
