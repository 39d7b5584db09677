"""A GPU's part of the model, on stand-ins for CUDA: what is padded, recorded, overlapped or halved loses no row."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.engine.inference import InferenceThread
from pipeline.engine.spending import Spending
from pipeline.errors import DeviceError
from pipeline.records import ModelForm, ModelSpec, Pipelined
from pipeline.stages.architectures import transform_of
from pipeline.stages.model import capacity
from pipeline.stages.model.answers import unpacked
from pipeline.stages.model.classifier import Classifier
from pipeline.stages.model.fixed_shapes import FixedShapes, once_prepared
from pipeline.stages.model.graphs import GraphRecorder
from pipeline.stages.model.load import on_cuda
from pipeline.stages.model.network import Program
from pipeline.stages.model.overlap import Overlapped
from pipeline.stages.user_cache import remembered, user_cache
from tests import cuda_stand_in
from tests.cuda_stand_in import Graph, LateStreams, PromptStreams
from tests.test_inference import batch_of

SIDE = 8
TRANSFORM = replace(transform_of("resnet50", "IMAGENET1K_V2"), crop_size=SIDE)
SPEC = ModelSpec("resnet50", "w.pth", "", TRANSFORM, "fp32")
OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Keep the user's cache, and what other tests have found, out of this one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(capacity, "_known", {})
    return user_cache()


@pytest.fixture
def cuda(monkeypatch):
    cuda_stand_in.install(monkeypatch)
    n_threads, benchmark = torch.get_num_threads(), torch.backends.cudnn.benchmark
    yield
    torch.set_num_threads(n_threads)
    torch.backends.cudnn.benchmark = benchmark


class Quick(nn.Module):
    """A model that tells images apart and costs nothing; remembers how many it saw at a time, and may run out."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 1000)).requires_grad_(False)
        self.sizes = []
        self.fits = 10**6

    def forward(self, images):
        self.sizes.append(len(images))
        if len(images) > self.fits:
            raise OUT_OF_MEMORY
        return self.layers(images)


def classifier_of(model, slice_size=10**6):
    """Return a classifier as on a GPU, with a model that costs nothing."""
    classifier = object.__new__(Classifier)
    classifier.device, classifier.slice_size = torch.device("cpu"), slice_size
    classifier.faster = classifier.let_go = None
    classifier.program = Program(model, SPEC.transform, torch.float32)
    return classifier


def photos(n, seed=0, side=SIDE):
    pixels = np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), np.uint8)
    pixels[:] = pixels // 4 + np.random.default_rng(seed + 1).integers(0, 190, (n, 1, 1, 3), np.uint8)
    return pixels.transpose(0, 3, 1, 2)


def undisturbed(pixels):
    return classifier_of(Quick())(pixels)


def same(answer, expected):
    return (
        (answer.class_index[:, 0] == expected.class_index[:, 0]).all()
        and answer.probability == pytest.approx(expected.probability, abs=1e-6)
        and answer.breed_probability == pytest.approx(expected.breed_probability, abs=1e-6)
    )


def test_these_images_have_different_answers():
    assert len(set(undisturbed(photos(40)).probability[:, 0].tolist())) == 40


# A few shapes only


def test_a_smaller_batch_is_padded_and_nobody_sees_it():
    model = Quick()
    classifier = classifier_of(model)
    classifier.faster = FixedShapes(classifier.program, lambda: (4, 8), once_prepared)

    answers = [classifier(photos(n, seed=n)) for n in (8, 3, 5, 1, 4)]

    assert model.sizes == [8, 4, 8, 4, 4]
    assert all(same(answer, undisturbed(photos(n, seed=n))) for answer, n in zip(answers, (8, 3, 5, 1, 4), strict=True))


def test_what_is_made_for_a_shape_is_made_once_until_it_is_forgotten():
    made = []

    def prepare(forward, buffer):
        made.append(tuple(buffer.shape))
        return once_prepared(forward, buffer)

    shapes = FixedShapes(classifier_of(Quick()).program, lambda: (4,), prepare)
    for pixels in (photos(4), photos(2), photos(3, side=16), photos(1)):
        shapes(torch.from_numpy(pixels))
    assert made == [(4, 3, 8, 8), (4, 3, 16, 16)]

    shapes.forget()
    shapes(torch.from_numpy(photos(4)))

    assert made[2:] == [(4, 3, 8, 8)]


# Two device batches on their way


def test_nothing_is_waited_for_when_a_device_batch_is_begun_and_its_memory_is_not_used_again_too_early():
    streams, model = LateStreams(), Quick()
    overlapped = Overlapped(classifier_of(model, slice_size=16), streams, 8)

    on_their_way = [overlapped.begin([photos(8, seed=1)]), overlapped.begin([photos(5, seed=2), photos(6, seed=3)])]
    assert (model.sizes, [running.is_done() for running in on_their_way]) == ([], [False, False])
    first = on_their_way[0].answer()
    on_their_way.append(overlapped.begin([photos(7, seed=4)]))
    rest = [running.answer() for running in on_their_way[1:]]

    assert isinstance(overlapped, Pipelined)
    assert same(first, undisturbed(photos(8, seed=1)))
    assert same(rest[0], undisturbed(np.concatenate([photos(5, seed=2), photos(6, seed=3)])))
    assert same(rest[1], undisturbed(photos(7, seed=4)))
    assert streams.n_host_memories == 4  # two lanes, in and out
    assert on_their_way[0].spent_s()["infer"] == 0.5
    assert on_their_way[0].spent_s()["transfer"] > 0.5


def test_an_answer_is_not_changed_by_what_comes_after_it():
    overlapped = Overlapped(classifier_of(Quick(), slice_size=8), LateStreams(), 8)
    first = overlapped.begin([photos(8, seed=1)]).answer()
    kept = first.probability.copy()

    overlapped.begin([photos(8, seed=2)]).answer()

    assert (first.probability == kept).all()


def test_the_inference_thread_gives_everybody_the_right_answer_through_late_streams():
    overlapped = Overlapped(classifier_of(Quick(), slice_size=40), LateStreams(), 10)
    thread = InferenceThread(lambda: overlapped, 1, Spending())
    from concurrent.futures import ThreadPoolExecutor

    sizes = np.random.default_rng(0).integers(1, 60, 40).tolist()
    with ThreadPoolExecutor(6) as pool:
        answers = list(
            pool.map(lambda seed: thread.predict(batch_of(photos(sizes[seed], seed=seed))), range(len(sizes)))
        )
    thread.close()

    assert all(same(answer, undisturbed(photos(sizes[i], seed=i))) for i, answer in enumerate(answers))


def test_memory_that_runs_out_halves_the_device_batch_and_loses_no_row():
    model = Quick()
    model.fits = 10
    overlapped = Overlapped(classifier_of(model, slice_size=32), PromptStreams(), 8)
    assert overlapped.shapes == (8, 16, 32)

    answer = overlapped.begin([photos(20), photos(12, seed=1)]).answer()

    assert model.sizes == [32, 16, 8, 8, 8, 8]
    assert same(answer, undisturbed(np.concatenate([photos(20), photos(12, seed=1)])))
    assert overlapped.shapes == (8,)


def test_a_fault_that_shows_when_the_answer_is_waited_for_is_the_device_s():
    overlapped = Overlapped(classifier_of(Quick(), slice_size=8), LateStreams(), 8)
    running = overlapped.begin([photos(2)])
    overlapped._classifier.program.model.fits = 0
    overlapped._classifier.slice_size = 1

    with pytest.raises(DeviceError, match="not even one image fits"):
        running.answer()


def test_images_of_another_size_get_memory_of_their_own():
    overlapped = Overlapped(classifier_of(Quick(), slice_size=8), LateStreams(), 8)

    answers = [overlapped.begin([photos(3, side=side)]).answer() for side in (8, 16, 8)]

    assert all(same(a, undisturbed(photos(3, side=s))) for a, s in zip(answers, (8, 16, 8), strict=True))


# All of it, as on a GPU


def test_on_a_gpu_recordings_are_replayed_and_give_the_answers_of_the_model_itself(cuda):
    model = Quick()
    overlapped = on_cuda(classifier_of(model, slice_size=10**6), SPEC, ModelForm(batch_size=4))
    model.sizes.clear()

    answers = [overlapped.begin([photos(n, seed=n)]).answer() for n in (4, 8, 3, 4, 7)]

    assert overlapped.shapes[:3] == (4, 8, 16)
    assert Graph.replays == 7  # one for each, and one to check each recording
    assert model.sizes == [4, 4, 4, 8, 8, 8]  # warmed up twice, recorded once
    assert all(same(a, undisturbed(photos(n, seed=n))) for a, n in zip(answers, (4, 8, 3, 4, 7), strict=True))


def test_recordings_hold_no_memory_when_it_has_run_out(cuda):
    model = Quick()
    overlapped = on_cuda(classifier_of(model), SPEC, ModelForm(batch_size=4))
    overlapped._classifier.slice_size = 8
    overlapped.begin([photos(8)]).answer()
    model.fits, ready = 5, overlapped._classifier.faster._ready
    assert len(ready) == 1
    ready.clear()  # a recording that is there needs no more memory

    answer = overlapped.begin([photos(8, seed=1)]).answer()

    assert same(answer, undisturbed(photos(8, seed=1)))
    assert [key[0] for key in ready] == [4]
    assert overlapped.shapes == (4,)


@pytest.mark.parametrize("error", [RuntimeError("CUDA error: operation not permitted when stream is capturing"), None])
def test_a_model_that_cannot_be_recorded_or_answers_otherwise_runs_as_it_is(cuda, monkeypatch, caplog, error):
    def replay(self):
        if error is not None:
            raise error
        for *_, result in self.recorder.operations[-1:]:
            result.zero_()

    monkeypatch.setattr(Graph, "replay", replay)
    caplog.set_level(logging.WARNING, "pipeline")
    overlapped = on_cuda(classifier_of(Quick()), SPEC, ModelForm(batch_size=4))

    answers = [overlapped.begin([photos(n, seed=n)]).answer() for n in (4, 3, 8)]

    assert all(same(a, undisturbed(photos(n, seed=n))) for a, n in zip(answers, (4, 3, 8), strict=True))
    (record,) = caplog.records
    assert "no CUDA graphs on this worker" in record.getMessage()


def test_memory_that_runs_out_while_recording_is_not_taken_for_a_model_that_cannot_be_recorded(cuda, monkeypatch):
    def no_memory(self):
        try:
            raise OUT_OF_MEMORY
        finally:
            raise RuntimeError("capture failed")

    monkeypatch.setattr(Graph, "replay", no_memory)

    with pytest.raises(RuntimeError, match="capture failed"):
        GraphRecorder()(classifier_of(Quick()).program, torch.from_numpy(photos(4)))


# The largest device batch


def test_the_largest_that_fits_is_found_by_doubling_and_remembered_by_process_and_file(cuda, monkeypatch, cache):
    model = Quick()
    model.fits = 300

    found = on_cuda(classifier_of(model), SPEC, ModelForm(batch_size=80)).shapes
    tried, model.sizes = model.sizes, []
    again = on_cuda(classifier_of(model), SPEC, ModelForm(batch_size=80)).shapes
    monkeypatch.setattr(capacity, "_known", {})
    in_another_process = on_cuda(classifier_of(model), SPEC, ModelForm(batch_size=80)).shapes

    assert tried == [80, 160, 320]
    assert found == again == in_another_process == (80, 160)
    assert model.sizes == []
    assert remembered("device_batches") == {"a GPU, resnet50, fp32, 8x8": 160}
    assert [path.name for path in cache.iterdir()] == ["device_batches.json"]


def test_each_precision_and_device_has_a_largest_batch_of_its_own():
    assert capacity.device_batch("H200, bf16", lambda n: n <= 640, 80) == 640
    assert capacity.device_batch("H200, fp32", lambda n: n <= 160, 80) == 160
    assert remembered("device_batches") == {"H200, bf16": 640, "H200, fp32": 160}


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"key": "many"}', '{"key": -1}', "\x00"])
def test_a_damaged_memory_is_as_good_as_none_and_is_mended(cache, damage):
    cache.mkdir(parents=True)
    (cache / "device_batches.json").write_text(damage)

    assert capacity.device_batch("key", lambda n: n <= 320, 80) == 320
    assert json.loads((cache / "device_batches.json").read_text())["key"] == 320


def test_a_cache_that_cannot_be_written_does_no_harm(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("where a folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))

    assert capacity.device_batch("key", lambda n: n <= 320, 80) == 320
    assert remembered("device_batches") == {}
    assert Path(tmp_path / "file").is_file()


def test_packed_answers_are_copied_out():
    packed = np.arange(24, dtype=np.float32).reshape(2, 12)

    answer = unpacked(packed)
    packed[:] = 0

    assert answer.class_index.tolist() == [[0, 1, 2, 3, 4], [12, 13, 14, 15, 16]]
    assert answer.class_index.dtype == answer.breed_class_index.dtype == np.int32
    assert answer.breed_probability.tolist() == [11, 23]
