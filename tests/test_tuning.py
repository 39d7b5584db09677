"""``--tune``: what is taken is faster, what an option sets is left alone, and nothing stays behind."""

import threading
import time
from contextlib import contextmanager, nullcontext

import fsspec
import pytest
from distributed import Client, LocalCluster
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import RunConfig
from pipeline.destination import Destination
from pipeline.engine import trial
from pipeline.errors import InterruptedRunError
from pipeline.evaluation.trials import MIN_GAIN, Setting, Trial, Tuning, candidates, descend, fastest, gains_of
from pipeline.records import ImageRef, ModelForm
from pipeline.running.provision import Provision
from pipeline.running.tuning import Tuner
from pipeline.stages.peek import Peekable
from pipeline.storage import open_storage, options_from_environment, resolve_url
from tests.driving import draw_folder, new_job, refs_of
from tests.stand_ins import load_brightest, load_never
from tests.test_device_batches import SPEC

START = Setting(3, 80, 16)
ALL = ("threads_per_worker", "images_per_task", "device_batch")


# What is chosen


def by_table(table, base=10.0):
    """Measure as a table of factors says, the first that fits a setting's text."""

    def measure(setting):
        factors = [factor for text, factor in table.items() if text in str(setting)]
        rate = base
        for factor in factors:
            rate *= factor
        return Trial(setting, 100, 100 / rate)

    return measure


@pytest.mark.parametrize(
    ("table", "chosen"),
    [
        ({}, START),
        ({"5 threads": 1.12}, Setting(5, 80, 16)),
        ({"5 threads": 1.04, "6 threads": 1.04}, START),
        ({"5 threads": 1.04, "6 threads": 1.06}, Setting(6, 80, 16)),
        ({"5 threads": 1.10, "6 threads": 1.12}, Setting(5, 80, 16)),  # more threads cost memory: for 2 % not
        ({"20 images": 1.2, "batch 8": 0.8, "batch 32": 1.5}, Setting(3, 20, 32)),
        ({"5 threads": 1.1, "20 images": 0.5, "batch 8": 1.1}, Setting(5, 80, 8)),
    ],
)
def test_a_setting_is_taken_where_it_is_faster_by_more_than_the_noise(table, chosen):
    assert fastest(descend(START, ALL, 80, by_table(table))).setting == chosen


def test_what_was_chosen_is_said_with_what_it_gained():
    trials = descend(START, ALL, 80, by_table({"5 threads": 1.12, "batch 32": 1.3}))

    assert str(Tuning(trials, 48.2)) == (
        "5 threads per worker (+12 %), 80 images a task, device batch 32 (+30 %); 6 trials in 48 s"
    )


def test_a_trial_that_failed_is_never_chosen_and_said():
    def measure(setting):
        return Trial(setting, fault="killed") if setting.threads_per_worker == 5 else Trial(setting, 10, 1)

    tuning = Tuning(descend(START, ALL, 80, measure), 1)

    assert tuning.best == START
    assert str(tuning).endswith("6 trials in 1 s, 1 failed (killed)")


def test_where_the_first_trial_fails_there_are_no_others():
    assert len(descend(START, ALL, 80, lambda setting: Trial(setting, fault="killed"))) == 1


@given(
    rates=st.dictionaries(st.integers(0, 10**6), st.floats(0.1, 1e4), min_size=1),
    tuned=st.lists(st.sampled_from(ALL), unique=True),
    start=st.builds(Setting, st.integers(1, 64), st.integers(1, 500), st.integers(1, 500)),
)
def test_the_choice_is_the_start_or_clearly_faster_and_what_is_not_tuned_stays(rates, tuned, start):
    values = list(rates.values())

    def measure(setting):
        return Trial(setting, 1, 1 / values[hash(setting) % len(values)])

    trials = descend(start, tuned, 500, measure)
    best = fastest(trials)

    assert best == trials[0] or best.images_per_s >= (1 + MIN_GAIN) * trials[0].images_per_s
    assert max(trial.images_per_s for trial in trials) < (1 + MIN_GAIN) * best.images_per_s * (1 + 1e-9)
    for name in set(ALL) - set(tuned):
        assert {getattr(trial.setting, name) for trial in trials} == {getattr(start, name)}
    assert set(gains_of(trials)) == {name for name in ALL if getattr(best.setting, name) != getattr(start, name)}


@given(st.sampled_from(ALL), st.integers(1, 1000), st.integers(1, 1000))
def test_a_candidate_is_another_value_that_can_be_used(name, value, batch_size):
    found = candidates(name, value, batch_size)

    assert value not in found
    assert len(set(found)) == len(found)
    assert all(number >= 1 for number in found)


# Trials

LATENCY_S = 0.15
BATCH = 8


class SlowFiles(MemoryFileSystem):
    """A store in memory, for which each read has to wait."""

    protocol = "slow"
    store = {}  # noqa: RUF012  as its parent has it
    pseudo_dirs = [""]  # noqa: RUF012  likewise

    @classmethod
    def _strip_protocol(cls, path):
        return MemoryFileSystem._strip_protocol(path.removeprefix("slow://"))

    def cat_file(self, path, **kwargs):
        time.sleep(LATENCY_S)
        return super().cat_file(path, **kwargs)


@pytest.fixture
def slow_images(tmp_path):
    """The images of a store with latency; one of them is broken."""
    fsspec.register_implementation("slow", SlowFiles, clobber=True)
    local = refs_of(draw_folder(tmp_path / "images", 16))
    storage, options = open_storage("slow:///images", options_from_environment()), options_from_environment()
    bodies = open_storage("file:///", options).read_many([(ref.url, ref.etag) for ref in local])
    for i, body in enumerate([*bodies, b"no image"]):
        storage.write(f"slow:///images/{i:02d}.png", body)
    return [
        ImageRef(stored.url, stored.etag, stored.size_bytes) for stored in next(storage.list_pages("slow:///images"))
    ]


@pytest.fixture(autouse=True)
def short_trials(monkeypatch):
    monkeypatch.setattr(trial, "LEAST_S", 0.4)


def config_of(tmp_path, **options):
    return RunConfig("slow:///images", str(tmp_path / "out"), batch_size=BATCH, tune=True, **options)


def provided_by(tmp_path, load_model):
    """Give workers a stand-in for the model, under a new run id for each trial."""
    destination = Destination(resolve_url(str(tmp_path / "out")), options_from_environment())

    def provided(_run_id, setting, _client):
        job = new_job(destination.url, load_model)
        return Provision(SPEC, ModelForm(BATCH, device_batch=setting.device_batch), "no", job)

    return provided


OPENED = []


@contextmanager
def opened_here(setting):
    """Open a local cluster, in this process; where nothing is said it has two threads."""
    OPENED.append(setting.threads_per_worker)
    threads = setting.threads_per_worker or 2
    cluster = LocalCluster(n_workers=1, threads_per_worker=threads, processes=False, dashboard_address="127.0.0.1:0")
    with cluster, Client(cluster, set_as_default=False) as client:
        yield client


def tuned(config, refs, tmp_path, *, workers=opened_here, load_model=load_brightest, told=lambda _: None, stop=None):
    OPENED.clear()
    provided, stop = provided_by(tmp_path, load_model), stop or threading.Event()
    return Tuner(config, Peekable(lambda: refs), workers, provided, told, stop).run()


def test_more_threads_win_where_reading_has_to_wait(slow_images, tmp_path):
    told = []

    tuning = tuned(config_of(tmp_path, cluster="cpu"), slow_images, tmp_path, told=told.append)

    assert tuning.best.threads_per_worker > 2
    assert tuning.best.images_per_task == BATCH
    assert [trial.setting.threads_per_worker for trial in tuning.trials[:3]] == [2, 3, 4]
    assert OPENED[:3] == [None, 3, 4]
    assert told == tuning.trials
    assert tuning.requests["read"] > 0
    assert not (tmp_path / "out").exists()


def test_what_an_option_sets_is_not_tuned(slow_images, tmp_path):
    config = config_of(tmp_path, cluster="cpu", threads_per_worker=2, images_per_task=4)

    tuning = tuned(config, slow_images, tmp_path)

    assert [trial.setting for trial in tuning.trials] == [Setting(2, 4, BATCH), Setting(2, 4, BATCH // 2)]
    assert OPENED == [2]


def state_of(dask_scheduler):
    return set(dask_scheduler.plugins), set(dask_scheduler.worker_plugins), set(dask_scheduler.tasks)


def state_in_time(client, expected):
    """Return what a scheduler holds, as expected or a while later: tasks are forgotten without anybody waiting."""
    deadline = time.monotonic() + 5
    while (state := client.run_on_scheduler(state_of)) != expected and time.monotonic() < deadline:
        time.sleep(0.05)
    return state


def test_a_cluster_of_others_keeps_its_threads_and_nothing_is_left_there(client, slow_images, tmp_path):
    before = client.run_on_scheduler(state_of)
    config = config_of(tmp_path, cluster="tcp://10.0.0.7:8786")

    tuning = tuned(config, slow_images, tmp_path, workers=lambda _: nullcontext(client))

    assert {trial.setting.threads_per_worker for trial in tuning.trials} == {None}
    assert {trial.setting.images_per_task for trial in tuning.trials} == {BATCH, BATCH // 4}
    assert state_in_time(client, before) == before


def test_a_stop_ends_it_and_nothing_is_left(client, slow_images, tmp_path):
    before, stop = client.run_on_scheduler(state_of), threading.Event()

    with pytest.raises(InterruptedRunError):
        tuned(
            config_of(tmp_path, cluster="tcp://10.0.0.7:8786"),
            slow_images,
            tmp_path,
            workers=lambda _: nullcontext(client),
            told=lambda _: stop.set(),
            stop=stop,
        )

    assert state_in_time(client, before) == before


def test_a_model_that_cannot_be_loaded_is_left_to_the_run_to_report(slow_images, tmp_path):
    tuning = tuned(config_of(tmp_path, cluster="cpu"), slow_images, tmp_path, load_model=load_never)

    assert tuning.best == Setting(2, BATCH, BATCH)
    assert "1 trial in" in str(tuning)
    assert "this model cannot be loaded" in str(tuning)
