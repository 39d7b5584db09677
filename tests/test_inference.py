"""The inference thread: whoever asks gets the answer to its own images, however they went through the model."""

import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor
from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.engine.inference import InferenceThread
from pipeline.engine.merging import Request, Waiting, rows_at_once
from pipeline.engine.one_by_one import Done
from pipeline.engine.spending import Spending
from pipeline.errors import DeviceError, ModelLoadError
from pipeline.records import ImageBatch, ImageRef
from tests.stand_ins import brightest

SHAPES = (4, 8)


def images(n, first=0, side=2):
    """Return (N, 3, H, W) images of which each has a shade of its own."""
    shades = (np.arange(first, first + n) % 251).astype(np.uint8)
    return np.broadcast_to(shades[:, None, None, None], (n, 3, side, side)).copy()


def batch_of(pixels):
    refs = tuple(ImageRef(f"a/{i}", "etag", 1) for i in range(len(pixels)))
    return ImageBatch(refs, pixels, ((9, 9),) * len(pixels))


def shades_of(answer):
    return answer.class_index[:, 0].tolist()


class Device:
    """Stands for a model on a device: it takes two device batches in, and computes one when its answer is asked for."""

    depth, shapes = 2, SHAPES

    def __init__(self):
        self.events, self.sizes, self.faults = [], [], {}
        self.is_open = threading.Event()
        self.is_open.set()
        self._numbers = count()

    def begin(self, pixels):
        number = next(self._numbers)
        self.events.append(f"begin {number}")
        self.sizes.append([len(piece) for piece in pixels])
        if fault := self.faults.get(("begin", number)):
            raise fault
        return OnDevice(self, number, np.concatenate(pixels))


class OnDevice:
    def __init__(self, device, number, pixels):
        self.device, self.number, self.pixels = device, number, pixels

    def is_done(self):
        return self.device.is_open.is_set()

    def answer(self):
        assert self.device.is_open.wait(10)
        self.device.events.append(f"answer {self.number}")
        if fault := self.device.faults.get(("answer", self.number)):
            raise fault
        return brightest(self.pixels)

    def spent_s(self):
        return {"transfer": 0.25, "infer": 1.5}


@pytest.fixture
def device():
    return Device()


@pytest.fixture
def ask(device):
    """Return a function that has several batches wait at once, and returns each one's answer or error."""
    gate = threading.Event()
    thread = InferenceThread(lambda: gate.wait(10) and device, 1, Spending())

    def ask_all(batches):
        with ThreadPoolExecutor(len(batches)) as pool:
            futures = []
            for n_waiting, pixels in enumerate(batches, start=1):
                futures.append(pool.submit(thread.predict, batch_of(pixels)))
                while len(thread._waiting._requests) < n_waiting and not gate.is_set():
                    pass
            gate.set()
            return [future.exception() or future.result() for future in futures]

    yield ask_all
    gate.set()
    device.is_open.set()
    thread.close()


# What goes together


@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.sets(st.integers(1, 20), max_size=4))
@settings(max_examples=60, deadline=None)
def test_every_row_is_taken_once_in_its_order_and_its_answer_comes_back_to_who_asked(sizes, shapes):
    waiting, starts = Waiting(), np.cumsum([0, *sizes])
    requests = [Request(images(size, first=start)) for size, start in zip(sizes, starts, strict=False)]
    for request in requests:
        waiting.put(request)

    taken = []
    while (batch := waiting.take(sorted(shapes))) is not None:
        pixels = np.concatenate(batch.pixels)
        taken += pixels[:, 0, 0, 0].tolist()
        batch.give(brightest(pixels))

    assert taken == [i % 251 for i in range(sum(sizes))]
    for request in requests:
        assert shades_of(request.answer.result(timeout=0)) == request.pixels[:, 0, 0, 0].tolist()


@given(st.lists(st.integers(1, 200), min_size=1, max_size=6), st.sets(st.integers(1, 700), min_size=1, max_size=5))
def test_nothing_is_padded_while_enough_rows_wait(waiting, shapes):
    n_rows = rows_at_once(waiting, sorted(shapes))

    assert n_rows in shapes or n_rows == sum(waiting) < min(shapes)


def test_images_of_another_size_do_not_go_together():
    waiting = Waiting()
    for pixels in (images(2), images(3, side=4), images(1, side=4)):
        waiting.put(Request(pixels))

    taken = [waiting.take((8,)) for _ in range(3)]

    assert [[piece.shape for piece in batch.pixels] for batch in taken[:2]] == [
        [(2, 3, 2, 2)],
        [(3, 3, 4, 4), (1, 3, 4, 4)],
    ]
    assert taken[2] is None


# The thread


def test_small_batches_are_merged_and_large_ones_sliced(device, ask):
    answers = ask([images(3), images(3, 10), images(9, 20)])

    assert device.sizes == [[3, 3, 2], [4], [3]]
    assert [shades_of(answer) for answer in answers] == [[0, 1, 2], [10, 11, 12], list(range(20, 29))]


def test_the_next_is_taken_in_before_the_last_is_answered_and_never_more_than_that(device, ask):
    ask([images(20)])

    assert device.events == ["begin 0", "begin 1", "answer 0", "begin 2", "answer 1", "answer 2"]


def test_what_comes_while_the_device_computes_is_taken_in_at_once(device):
    thread = InferenceThread(lambda: device, 1, Spending())
    device.is_open.clear()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(thread.predict, batch_of(images(4)))
        while device.events != ["begin 0"]:
            pass

        second = pool.submit(thread.predict, batch_of(images(4, 50)))
        while device.events != ["begin 0", "begin 1"]:
            pass
        device.is_open.set()

        assert shades_of(first.result(10)) == [0, 1, 2, 3]
        assert shades_of(second.result(10)) == [50, 51, 52, 53]
    thread.close()


@pytest.mark.parametrize("moment", ["begin", "answer"])
def test_an_error_is_told_to_those_whose_images_it_cost_and_the_others_are_answered(device, ask, moment):
    device.faults[moment, 0] = DeviceError("it broke")

    first, second, third = ask([images(6), images(6, 10), images(4, 30)])

    assert [str(first), str(second)] == ["it broke", "it broke"]
    assert shades_of(third) == [30, 31, 32, 33]
    assert [sum(sizes) for sizes in device.sizes] == ([8, 4] if moment == "begin" else [8, 8])


def test_the_device_s_seconds_are_booked_as_its_own(device):
    spending = Spending()
    thread = InferenceThread(lambda: device, 1, spending)

    thread.predict(batch_of(images(8)))
    thread.predict(batch_of(images(8)))
    thread.close()

    spent = spending.since_last()
    assert (spent["transfer"], spent["infer"]) == (0.5, 3.0)


def test_a_plain_function_gets_each_batch_whole_and_alone():
    sizes = []

    def model(pixels):
        sizes.append(len(pixels))
        return brightest(pixels)

    spending = Spending()
    thread = InferenceThread(lambda: model, 1, spending)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda n: thread.predict(batch_of(images(n, first=n))), [5, 90, 7, 1]))
    thread.close()

    assert sorted(sizes) == [1, 5, 7, 90]
    assert [shades_of(answer)[0] for answer in answers] == [5, 90, 7, 1]
    assert "transfer" not in spending.since_last()


def test_a_model_that_cannot_be_loaded_is_told_to_everybody_who_asks():
    def load():
        raise ValueError("no such weights")

    thread = InferenceThread(load, 1, Spending())
    for _ in range(2):
        with pytest.raises(ModelLoadError, match="cannot load the model: ValueError: no such weights"):
            thread.predict(batch_of(images(2)))
    thread.close()


def test_what_runs_is_answered_and_what_waits_is_dropped_when_the_thread_is_closed(device):
    thread = InferenceThread(lambda: device, 1, Spending())
    device.is_open.clear()
    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(thread.predict, batch_of(images(8, n))) for n in (0, 8)]
        while len(device.events) < 2:
            pass
        waits = pool.submit(thread.predict, batch_of(images(8, 16)))
        while len(thread._waiting._requests) < 2:
            pass

        thread.close()

        assert thread.is_busy
        device.is_open.set()
        assert sorted(shades_of(future.result(10))[0] for future in running) == [0, 8]
        with pytest.raises(CancelledError):
            waits.result(10)
    assert device.events == ["begin 0", "begin 1", "answer 0", "answer 1"]


def test_a_thread_that_hangs_in_loading_is_busy_after_it_was_closed():
    gate, is_loading = threading.Event(), threading.Event()

    def load():
        is_loading.set()
        gate.wait(10)
        return brightest

    thread = InferenceThread(load, 1, Spending())
    assert is_loading.wait(10)
    thread.close()

    assert thread.is_busy
    gate.set()


def test_an_answer_that_is_there_is_given_at_once():
    answer = brightest(images(3))

    done = Done(answer, 0.5)

    assert done.is_done()
    assert done.answer() is answer
    assert done.spent_s() == {"infer": 0.5}
