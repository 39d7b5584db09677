"""The model: what torchvision's own ResNet50 answers, for every image of a batch; and only weights that are weights."""

import copy
import hashlib
import io
import json
import os
import pickle
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models import ResNet50_Weights, resnet50

import pipeline.stages.model.classifier
from pipeline.errors import DeviceError, StorageError, UsageError
from pipeline.records import ModelForm, ModelSpec, Transform
from pipeline.stages.architectures import check_fit, check_known, known_shapes, torchvision_weights, transform_of
from pipeline.stages.labels import breed_class_indices
from pipeline.stages.model import (
    PRECISIONS,
    Classifier,
    best_device,
    load_model,
    load_state_dict,
)
from pipeline.stages.model.network import Program
from pipeline.stages.model.resnet50 import ResNet50
from pipeline.stages.precision import fastest_cpu_precision, fastest_precision
from pipeline.stages.state_dict import read_shapes
from pipeline.stages.weights import Weights, fetch_weights
from tests.torchvision_facts import FILE, facts

SIDE = 64
"""Pixels a side: ResNet50 takes any size, and a small one is quick."""

N_IMAGES = 20
"""More than go through the model at a time."""

StateDict = dict[str, Tensor]


def photos(n: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return (N, 3, H, W) images as unlike each other as photos are: each has its own colour, contrast and grain."""
    rng = np.random.default_rng(seed)
    colour = rng.uniform(30, 220, (n, 3, 1, 1))
    waves = np.sin(np.arange(SIDE) * rng.uniform(0.1, 1.5, (n, 3, 1, 1))) * rng.uniform(10, 90, (n, 3, 1, 1))
    grain = rng.normal(0, rng.uniform(0, 30, (n, 1, 1, 1)), (n, 3, SIDE, SIDE))
    return np.clip(colour + waves + grain, 0, 255).astype(np.uint8)


def normalised(pixels: NDArray[np.uint8]) -> Tensor:
    """Return what ``weights.transforms()`` makes of pixels that are resized and cropped already."""
    preset = ResNet50_Weights.IMAGENET1K_V2.transforms()
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (preset.mean, preset.std))
    return (torch.from_numpy(pixels) / 255 - mean) / std


@pytest.fixture(scope="module")
def plain() -> nn.Module:
    """Return torchvision's own model, random, its batch norms in use and its answers spread over the classes."""
    torch.manual_seed(0)
    model = resnet50()
    batch_norms = {name: module for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    with torch.no_grad():
        for name, batch_norm in batch_norms.items():
            batch_norm.weight.uniform_(0.5, 1.5).mul_(0.2 if name.endswith("bn3") else 1)  # else rounding grows wild
            batch_norm.bias.normal_(0, 0.2)
            batch_norm.momentum = None  # the statistics of the batch below, whole
        logits = model.train()(normalised(photos(16, seed=1)))
        model.fc.weight.mul_(3 / logits.std(dim=1).mean())
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def saved(plain: nn.Module) -> bytes:
    buffer = io.BytesIO()
    torch.save(plain.state_dict(), buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def state(saved: bytes) -> StateDict:
    return load_state_dict(saved, "saved.pth")


@pytest.fixture(scope="module")
def classify(state: StateDict) -> Classifier:
    return Classifier(spec("fp32"), state, "cpu")


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    return photos(N_IMAGES)


@pytest.fixture(scope="module")
def probability(plain: nn.Module, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return (N, 1000): torchvision's own answer to the pixels."""
    with torch.inference_mode():
        return plain(normalised(pixels)).double().softmax(dim=1).numpy()


def spec(precision: str) -> ModelSpec:
    return ModelSpec("resnet50", "saved.pth", "", transform_of("resnet50", "IMAGENET1K_V2"), precision)


# The classifier


@pytest.mark.parametrize(("asked", "slice_size"), [(None, 8), (6, 6)])
def test_on_a_cpu_the_device_batch_is_what_was_asked_for(state, asked, slice_size):
    loaded = load_model(spec("fp32"), state, ModelForm(device_batch=asked))

    assert loaded.slice_size == slice_size


def test_the_images_of_these_tests_have_different_answers(probability: NDArray[np.float64]):
    assert len(set(probability.argmax(axis=1).tolist())) >= 5
    assert np.median(probability.max(axis=1)) < 0.9
    assert np.abs(np.diff(probability, axis=0)).max(axis=1).min() > 0.05


def test_our_own_architecture_is_torchvision_s_to_the_bit(plain: nn.Module, pixels: NDArray[np.uint8]):
    with torch.device("meta"):
        ours = ResNet50(1000)
    assert list(ours.state_dict()) == list(plain.state_dict())

    ours.load_state_dict(plain.state_dict(), assign=True)

    with torch.inference_mode():
        assert torch.equal(ours.eval()(normalised(pixels)), plain(normalised(pixels)))


def test_in_fp32_the_probabilities_are_those_of_torchvision_s_own_model(
    classify: Classifier, pixels: NDArray[np.uint8], probability: NDArray[np.float64]
):
    answer = classify(pixels)

    own = np.take_along_axis(probability, answer.class_index.astype(int), axis=1)
    breeds = probability[:, breed_class_indices()]
    breed_probability = breeds.max(axis=1) / breeds.sum(axis=1)
    assert np.abs(answer.probability - own).max() < 1e-4
    assert np.abs(answer.probability - np.sort(probability, axis=1)[:, :-6:-1]).max() < 1e-4
    assert np.abs(answer.breed_probability - breed_probability).max() < 1e-4


def test_in_bf16_the_probabilities_are_about_those(
    state: StateDict, pixels: NDArray[np.uint8], probability: NDArray[np.float64]
):
    answer = Classifier(spec("bf16"), state, "cpu")(pixels[:6])

    own = np.take_along_axis(probability[:6], answer.class_index.astype(int), axis=1)
    assert 1e-3 < np.abs(answer.probability - own).max() < 0.1  # not fp32 under another name
    assert answer.probability.dtype == np.float32


def test_an_image_s_answer_does_not_depend_on_its_place_or_its_neighbours(
    classify: Classifier, pixels: NDArray[np.uint8]
):
    order = np.random.default_rng(0).permutation(N_IMAGES)

    together, shuffled, alone = classify(pixels), classify(pixels[order]), classify(pixels[-1:])

    assert shuffled.probability == pytest.approx(together.probability[order], abs=1e-5)
    assert (shuffled.class_index[:, 0] == together.class_index[order, 0]).all()
    assert alone.probability == pytest.approx(together.probability[-1:], abs=1e-5)


def test_the_memory_layout_of_the_pixels_does_not_matter_and_they_are_left_as_they_are(
    classify: Classifier, pixels: NDArray[np.uint8]
):
    channels_last = np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)

    answers = [classify(images[:3]) for images in (pixels, channels_last)]

    assert answers[0].probability == pytest.approx(answers[1].probability, abs=1e-5)
    assert (channels_last == photos(N_IMAGES)).all()


def test_the_mean_and_deviation_are_the_transform_s(state: StateDict, pixels: NDArray[np.uint8], plain: nn.Module):
    odd = Transform(232, 224, (0.1, 0.5, 0.9), (0.3, 0.2, 0.1))
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (odd.mean, odd.std))
    best = plain((torch.from_numpy(pixels[:3]) / 255 - mean) / std).softmax(dim=1).amax(dim=1).numpy()

    answer = Classifier(ModelSpec("resnet50", "", "", odd, "fp32"), state, "cpu")(pixels[:3])

    assert answer.probability[:, 0] == pytest.approx(best, abs=1e-4)


def test_a_classifier_leaves_its_state_dict_as_it_was(classify: Classifier, state: StateDict, plain: nn.Module):
    assert isinstance(classify, Classifier)
    assert state.keys() == plain.state_dict().keys()
    assert all(torch.equal(state[name], value) for name, value in plain.state_dict().items())


def test_the_device_and_the_precision_of_this_machine_are_ones_that_the_classifier_knows():
    assert best_device() == ("cuda" if torch.cuda.is_available() else "cpu")
    assert fastest_precision() in PRECISIONS


def test_the_system_and_torch_agree_on_what_the_cpu_has():
    has = torch.cpu.get_capabilities()

    assert (fastest_cpu_precision() == "bf16") == bool(has.get("amx_bf16") or has.get("avx512_bf16"))


# A device that fails


class Faulty(nn.Module):
    """Stands in a classifier for a model on a device that fails: by what `fault` raises, given the images at once."""

    def __init__(self, model: nn.Module, fault: Callable[[int], None]) -> None:
        super().__init__()
        self.model, self.fault = model, fault
        self.sizes: list[int] = []
        """Of the slices that came through, and of those that did not, negative."""

    def forward(self, images: Tensor) -> Tensor:
        self.sizes.append(-len(images))
        self.fault(len(images))
        self.sizes[-1] = len(images)
        return self.model(images)


def above(n_images: int, error: Exception) -> Callable[[int], None]:
    def fault(n: int) -> None:
        if n > n_images:
            raise error

    return fault


def faulty(
    classify: Classifier, fault: Callable[[int], None], slice_size: int = 10**6, model: nn.Module | None = None
) -> tuple[Classifier, Faulty]:
    """Return a classifier as on a GPU, where a batch goes through whole, and the model that fails in it."""
    classifier = copy.copy(classify)
    classifier.slice_size = slice_size
    faulty_model = Faulty(model or quick_model(), fault)
    classifier.program = Program(faulty_model, spec("fp32").transform, torch.float32)
    return classifier, faulty_model


def quick_model() -> nn.Module:
    """Return a model that tells images apart and costs nothing."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 1000))
    return model.eval().requires_grad_(False)


def never(n: int) -> None:
    pass


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    torch.AcceleratorError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=str)
def test_a_batch_that_does_not_fit_goes_through_in_slices_with_the_same_answers(classify: Classifier, error: Exception):
    batch, undisturbed = photos(50), faulty(classify, never)[0](photos(50))
    classifier, model = faulty(classify, above(20, error))

    answer = classifier(batch)

    assert model.sizes == [-50, -25, 12, 12, 12, 12, 2]
    assert answer.probability == pytest.approx(undisturbed.probability, abs=1e-5)
    assert (answer.class_index[:, 0] == undisturbed.class_index[:, 0]).all()
    assert answer.breed_probability == pytest.approx(undisturbed.breed_probability, abs=1e-5)
    assert len(set(answer.probability[:, 0].tolist())) == 50


def test_resnet50_s_answers_are_the_same_in_slices(classify: Classifier, pixels: NDArray[np.uint8]):
    classifier, model = faulty(classify, above(12, OUT_OF_MEMORY[0]), model=classify.program.model)

    answer = classifier(pixels)

    assert model.sizes == [-20, 10, 10]
    assert answer.probability == pytest.approx(classify(pixels).probability, abs=1e-4)


def test_the_slice_that_fits_is_remembered(classify: Classifier):
    classifier, model = faulty(classify, above(20, OUT_OF_MEMORY[0]))
    classifier(photos(30))
    model.sizes.clear()

    classifier(photos(33))

    assert classifier.slice_size == 15
    assert model.sizes == [15, 15, 3]


def test_memory_that_runs_out_midway_loses_no_row(classify: Classifier):
    n_calls = []

    def fault(n: int) -> None:
        n_calls.append(n)
        if len(n_calls) == 3:
            raise OUT_OF_MEMORY[0]

    classifier, model = faulty(classify, fault, slice_size=8)

    answer = classifier(photos(30))

    assert model.sizes == [8, 8, -8, 4, 4, 4, 2]
    assert answer.probability == pytest.approx(faulty(classify, never)[0](photos(30)).probability, abs=1e-5)


def test_memory_is_given_back_when_the_error_no_longer_holds_the_tensors(
    classify: Classifier, monkeypatch: pytest.MonkeyPatch
):
    seen: list[Any] = []
    classifier, _ = faulty(classify, above(20, OUT_OF_MEMORY[0]))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: seen.append(sys.exc_info()[1]))

    classifier(photos(30))

    assert seen == [None]


def test_one_image_that_does_not_fit_is_the_device_s_fault(classify: Classifier):
    classifier, model = faulty(classify, above(0, OUT_OF_MEMORY[0]))

    with pytest.raises(DeviceError, match="not even one image fits into the memory of cpu"):
        classifier(photos(5))

    assert model.sizes == [-5, -2, -1]


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: device-side assert triggered\nCUDA kernel errors might be reported later"),
        torch.AcceleratorError("of any other kind"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("The following operation failed:\nRuntimeError: CUDA error: unspecified launch failure"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    ],
    ids=str,
)
def test_a_device_that_has_failed_for_good_is_said_in_one_line_and_not_tried_again(
    classify: Classifier, error: Exception
):
    classifier, model = faulty(classify, above(0, error))

    with pytest.raises(DeviceError, match=type(error).__name__) as caught:
        classifier(photos(5))

    assert model.sizes == [-5]
    assert "\n" not in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301  our own, as on a cluster


def test_a_fault_of_the_device_that_shows_only_when_the_answer_is_fetched_is_the_device_s_too(
    classify: Classifier, monkeypatch: pytest.MonkeyPatch
):
    def fetch(*_: object) -> None:
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(pipeline.stages.model.classifier, "unpacked", fetch)

    with pytest.raises(DeviceError, match="unspecified launch failure"):
        faulty(classify, never)[0](photos(2))


def test_an_error_of_our_own_is_not_the_device_s(classify: Classifier):
    classifier, _ = faulty(classify, above(0, RuntimeError("mat1 and mat2 shapes cannot be multiplied")))

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        classifier(photos(5))


@pytest.mark.parametrize(("precision", "sizes"), [("fp32", [8, 8, 4]), ("bf16", [16, 4])])
def test_a_cpu_takes_as_many_at_a_time_as_its_cache_holds(state: StateDict, precision: str, sizes: list[int]):
    fresh = Classifier(spec(precision), state, "cpu")
    classifier, model = faulty(fresh, never, fresh.slice_size)

    classifier(photos(20))

    assert model.sizes == sizes


# Whether weights fit


KNOWN = known_shapes("resnet50", 1000) or {}


def shapes(state: StateDict) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items()}


def without_counters(state: StateDict) -> StateDict:
    """Return a state dict as torch saved it before 0.4.1, and as model zoos still have it."""
    return OrderedDict((name, value) for name, value in state.items() if not name.endswith("num_batches_tracked"))


def test_the_model_s_own_weights_fit(state: StateDict):
    check_fit("resnet50", "saved.pth", KNOWN, shapes(state))


def test_weights_without_batch_counters_fit_as_torch_itself_loads_them(state: StateDict):
    old = without_counters(state)
    resnet50().load_state_dict(old, strict=True)

    check_fit("resnet50", "old.pth", KNOWN, shapes(old))


def test_weights_without_batch_counters_give_the_same_answers(
    classify: Classifier, state: StateDict, pixels: NDArray[np.uint8]
):
    stripped = without_counters(state)
    stripped._metadata = state._metadata  # which says that the counters were there: torch itself would miss them

    answer = Classifier(spec("fp32"), stripped, "cpu")(pixels[:2])

    assert answer.probability == pytest.approx(classify(pixels[:2]).probability, abs=1e-5)


def test_a_head_of_ten_classes_is_refused_unless_there_are_ten_categories(state: StateDict):
    ten = shapes(state | {"fc.weight": torch.zeros(10, 2048), "fc.bias": torch.zeros(10)})
    expected = known_shapes("resnet50", 10)
    assert expected is not None

    check_fit("resnet50", "ten.pth", expected, ten)

    with pytest.raises(
        UsageError, match=r"the model tells 10 classes apart, and there are 1,000 categories; .*--categor"
    ):
        check_fit("resnet50", "ten.pth", KNOWN, ten)


def test_a_head_of_another_width_is_refused_by_name_and_shape(state: StateDict):
    odd = shapes(state | {"fc.weight": torch.zeros(1000, 7)})

    with pytest.raises(
        UsageError, match=r"1 tensors do not fit resnet50: fc\.weight is \(1000, 7\), expected \(1000, 2048\)"
    ):
        check_fit("resnet50", "odd.pth", KNOWN, odd)


def test_missing_and_surplus_tensors_are_counted_and_the_first_three_named(state: StateDict):
    renamed = {f"module.{name}": value for name, value in state.items()}

    with pytest.raises(UsageError, match="587 tensors do not fit") as caught:
        check_fit("resnet50", "parallel.pth", KNOWN, shapes(renamed))

    assert str(caught.value).count("expected") == 3
    assert "\n" not in str(caught.value)


def test_tensors_under_names_that_are_no_strings_do_not_fit(state: StateDict):
    with pytest.raises(UsageError, match="do not fit"):
        check_fit("resnet50", "list.pth", KNOWN, shapes({0: torch.zeros(1)}))


# Bytes that are no weights


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.path),)


def torch_saved(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


READERS = pytest.mark.parametrize("read_header_or_all", [read_shapes, load_state_dict])


@pytest.mark.parametrize(
    ("dump", "read"), [(pickle.dumps, load_state_dict), (torch_saved, load_state_dict), (torch_saved, read_shapes)]
)
def test_a_pickle_that_holds_code_is_refused_and_does_not_run(tmp_path: Path, dump: Any, read: Any):
    fuse = tmp_path / "it ran"

    with pytest.raises(UsageError, match=r"--weights evil\.pth: not a state dict that torch can load safely"):
        read(dump({"fc.weight": Bomb(fuse)}), "evil.pth")

    assert not fuse.exists()


@pytest.mark.parametrize(
    "content",
    [[torch.zeros(1)], {"epoch": 3}, {"state_dict": {"fc.bias": torch.zeros(1)}}, torch.zeros(1), None],
    ids=["list", "number", "nested", "tensor", "none"],
)
@READERS
def test_what_is_no_dict_of_tensors_is_refused(content: object, read_header_or_all: Any):
    with pytest.raises(UsageError, match=r"--weights it\.pth: expected a state dict of tensors"):
        read_header_or_all(torch_saved(content), "it.pth")


def test_the_header_alone_tells_every_shape(saved: bytes, state: StateDict):
    assert read_shapes(saved, "saved.pth") == shapes(state)


def test_parameters_and_views_have_their_own_shape_in_the_header():
    content = {"whole": nn.Parameter(torch.zeros(4, 6)), "view": torch.zeros(4, 6, dtype=torch.bfloat16)[1:3, ::2]}

    assert read_shapes(torch_saved(content), "it.pth") == {"whole": (4, 6), "view": (2, 3)}


def test_the_older_format_has_no_header_to_read(state: StateDict):
    buffer = io.BytesIO()
    torch.save(state, buffer, _use_new_zipfile_serialization=False)

    assert read_shapes(buffer.getvalue(), "old.pth") is None
    assert shapes(load_state_dict(buffer.getvalue(), "old.pth")) == shapes(state)


def test_what_we_know_of_a_model_is_what_torchvision_knows():
    assert json.loads(FILE.read_text()) == json.loads(json.dumps(facts())), "write it anew: make facts"


@pytest.mark.parametrize("data", [b"", b"garbage", bytes(2000), b"PK\x03\x04" + bytes(200)], ids=repr)
def test_bytes_that_torch_cannot_read_are_refused_in_one_line(data: bytes):
    with pytest.raises(UsageError, match=r"--weights it\.pth: not a state dict") as caught:
        load_state_dict(data, "it.pth")

    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 400


def test_a_state_dict_cut_short_is_refused(saved: bytes):
    with pytest.raises(UsageError, match="not a state dict"):
        load_state_dict(saved[: len(saved) // 2], "half.pth")


def test_a_state_dict_is_read_as_it_was_saved(saved: bytes, plain: nn.Module):
    state = load_state_dict(saved, "saved.pth")

    assert all(torch.equal(state[name], value) for name, value in plain.state_dict().items())


# Names of weights


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("IMAGENET1K_V1", ResNet50_Weights.IMAGENET1K_V1),
        ("IMAGENET1K_V2", ResNet50_Weights.IMAGENET1K_V2),
        ("DEFAULT", ResNet50_Weights.IMAGENET1K_V2),
        ("ResNet50_Weights.IMAGENET1K_V1", ResNet50_Weights.IMAGENET1K_V1),
        ("ResNet50_Weights.DEFAULT", ResNet50_Weights.IMAGENET1K_V2),
    ],
)
def test_torchvision_s_names_are_known_short_and_in_full(name: str, entry: ResNet50_Weights):
    known = torchvision_weights("resnet50", name)

    assert (known.name, known.url) == (entry.name, entry.url)


@pytest.mark.parametrize("weights", ["s3://bucket/w.pth", "weights/mine", "./w", "mine.pth", "C:\\mine"])
def test_a_path_or_url_is_no_name_of_torchvision_s(weights: str):
    assert torchvision_weights("resnet50", weights) is None


@pytest.mark.parametrize(
    "weights",
    [
        "IMAGENET1K_V9",
        "imagenet1k_v2",
        "",
        "ResNet50_Weights",
        "ResNet50_Weights.IMAGENET1K_V9",
    ],
)
def test_an_unknown_name_is_refused_with_those_that_there_are(weights: str):
    with pytest.raises(UsageError, match=r"IMAGENET1K_V1, IMAGENET1K_V2, DEFAULT, or the path or URL"):
        torchvision_weights("resnet50", weights)


@pytest.mark.parametrize(
    ("weights", "resize_size"),
    [("IMAGENET1K_V1", 256), ("IMAGENET1K_V2", 232), ("DEFAULT", 232), ("s3://bucket/mine.pth", 232)],
)
def test_weights_come_with_the_transform_that_they_were_trained_for(weights: str, resize_size: int):
    assert transform_of("resnet50", weights) == Transform(
        resize_size, 224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )


def test_a_model_that_torchvision_does_not_have_is_refused_with_those_that_are_spelt_alike():
    with pytest.raises(UsageError, match=r"--model resnet5: .* it has resnet50, resnet152, resnet34 and 77 more"):
        check_known("resnet5")


def test_a_model_s_own_interpolation_is_known():
    assert transform_of("efficientnet_b0", "DEFAULT").interpolation == "bicubic"
    assert transform_of("mobilenet_v3_large", "DEFAULT").interpolation == "bilinear"


# Fetching weights


class Reader:
    """Stands for a store: slow enough that threads meet, and counts."""

    def __init__(self, data: bytes) -> None:
        self.data, self.urls = data, []
        self._lock = threading.Lock()

    def __call__(self, url: str) -> bytes:
        with self._lock:
            self.urls.append(url)
        time.sleep(0.05)
        return self.data


URL = "s3://bucket/mine.pth"
DATA = b"weights, for all that fetching knows"
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where torch keeps its checkpoints during this test: nowhere near the user's own."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


def test_weights_whose_hash_is_known_are_read_once_however_many_threads_ask():
    read, start = Reader(DATA), threading.Barrier(8)

    def fetch(_: int) -> Weights:
        start.wait()
        return fetch_weights(URL, None, read, SHA256)

    with ThreadPoolExecutor(8) as pool:
        fetched = list(pool.map(fetch, range(8)))

    assert fetched == [Weights.of(DATA)] * 8
    assert read.urls == [URL]


def test_weights_that_were_fetched_before_are_not_read_again_where_their_hash_is_known():
    fetch_weights(URL, None, Reader(DATA))
    read = Reader(DATA)

    assert fetch_weights(URL, None, read, SHA256) == Weights.of(DATA)
    assert fetch_weights("elsewhere/the-same.pth", None, read, SHA256) == Weights.of(DATA)
    assert read.urls == []


def test_weights_whose_hash_is_not_known_are_read_each_time_since_they_may_have_changed():
    fetch_weights(URL, None, Reader(DATA))

    assert fetch_weights(URL, None, Reader(b"others")) == Weights.of(b"others")


def test_weights_with_another_hash_are_refused_and_stay_refused():
    for _ in range(2):
        with pytest.raises(StorageError, match=f"the weights have changed: expected the SHA-256 {SHA256}"):
            fetch_weights(URL, None, Reader(b"others"), SHA256)


def test_a_cached_file_that_was_spoiled_is_refused(cache: Path):
    fetch_weights(URL, None, Reader(DATA))
    (kept,) = cache.glob("*.pth")
    kept.write_bytes(b"spoiled")

    with pytest.raises(StorageError, match=SHA256):
        fetch_weights(URL, None, Reader(DATA), SHA256)


def test_the_cache_holds_whole_files_under_their_hash_and_nothing_half_written(cache: Path):
    fetch_weights(URL, None, Reader(DATA))

    assert {path.name: path.read_bytes() for path in cache.iterdir() if path.suffix != ".lock"} == {
        f"{SHA256}.pth": DATA
    }


def test_a_reader_s_error_is_the_caller_s_and_leaves_nothing_that_hinders_the_next():
    def refuse(url: str) -> bytes:
        raise StorageError(f"cannot read {url}")

    with pytest.raises(StorageError, match="cannot read"):
        fetch_weights(URL, None, refuse, SHA256)

    assert fetch_weights(URL, None, Reader(DATA), SHA256) == Weights.of(DATA)


def test_torchvision_s_own_weights_come_from_torch_s_cache_without_any_reader(cache: Path):
    url = f"http://127.0.0.1:9/resnet50-{SHA256[:8]}.pth"
    cache.mkdir(parents=True)
    (cache / Path(url).name).write_bytes(DATA)
    read = Reader(b"")

    assert fetch_weights("IMAGENET1K_V2", url, read) == Weights.of(DATA)
    assert fetch_weights("IMAGENET1K_V2", url, read, SHA256) == Weights.of(DATA)
    assert read.urls == []


def test_a_spoiled_file_in_torch_s_cache_is_not_taken(cache: Path):
    url = f"http://127.0.0.1:9/resnet50-{SHA256[:8]}.pth"
    cache.mkdir(parents=True)
    (cache / Path(url).name).write_bytes(b"spoiled")

    with pytest.raises(StorageError, match="cannot download"):
        fetch_weights("IMAGENET1K_V2", url, Reader(b""))


def test_a_cache_that_cannot_be_made_is_a_storage_error_that_names_it(tmp_path: Path, cache: Path):
    (tmp_path / "torch").write_text("a file where a folder should be")

    with pytest.raises(StorageError, match="TORCH_HOME") as caught:
        fetch_weights(URL, None, Reader(DATA), SHA256)

    assert str(cache) in str(caught.value)
