"""From what was surveyed and sampled to lines and JSON: clusters and sources that no test has, as plain records."""

import json
from collections import Counter
from dataclasses import replace

import pytest

from pipeline.config import RunConfig
from pipeline.destination import Destination
from pipeline.engine.trial import Pace
from pipeline.engine.worker import Job
from pipeline.forecast.requests import Layout, Store
from pipeline.forecast.survey import Images, Survey
from pipeline.forecast.words import lines_of
from pipeline.planning.forecasting import Forecaster
from pipeline.planning.sampling import Sampled
from pipeline.planning.surveying import Checked, Surveyed
from pipeline.records import ModelForm, Outcome, WorkerFacts
from pipeline.running.preflight import Ends, Labels
from pipeline.running.provision import Provision
from pipeline.running.source import Source
from pipeline.stages.classes import unlabelled
from pipeline.stages.compiling import next_load_s
from pipeline.stages.listing import Selection
from pipeline.storage import StorageOptions
from tests.stand_ins import load_brightest
from tests.test_device_batches import SPEC

N_IMAGES = 100_000
IMAGES_PER_S = 2_000.0
PRICES = {"gpu-hour": 2.0, "per-1000-get": 0.0004}


def outcome(i):
    fault = {"status": "failed", "stage": "decode", "reason": "truncated image"} if i < 4 else {"status": "ok"}
    return Outcome(f"s3://b/{i}.jpg", "e", 1, None, None, None, batch_id="0", **fault)


def worker_of(host, **spent_s):
    requests = Counter(read=1_200, retries=12)
    return WorkerFacts(host, n_slots=12, n_cores=8, has_model=True, requests=requests, spent_s=spent_s)


def checked_at(source, destination, **options):
    ends = Ends(Source(Selection(source), StorageOptions(**options)), Destination(destination, StorageOptions()))
    return Checked(ends, SPEC, Labels("path", unlabelled), None, False, 2.0, 0.05, Counter(read=4, list=2))


def surveyed_in(seconds, scheme="s3"):
    images = Images(N_IMAGES, 7_000_000_000, 0, Counter({".jpg": N_IMAGES}), Counter({scheme: N_IMAGES}))
    layout = Layout(Store(is_s3=True), n_new_pages=8, n_new_parts=79)
    return Surveyed(Survey(images, images, seconds=seconds), layout, Counter(list=100))


def sampled_on(workers, n_gpus=2, others=()):
    ends_s = tuple((i + 1) * 80 / IMAGES_PER_S for i in range(28))
    loading = Counter(read=2, bytes_read=10**8)
    pace = Pace(28 * 80, ends_s, 30 * 80, loaded_s=6.0, loading=loading, workers=tuple(workers), others=tuple(others))
    options = StorageOptions()
    job = Job("id", "f" * 64, Destination("s3://b/out", options), options, SPEC.transform, load_brightest)
    given = Provision(SPEC, ModelForm(), "no: --compile off", job)
    formats = Counter(JPEG=198, PNG=2)
    outcomes = {told.image: told for told in map(outcome, range(200))}
    return Sampled(given, pace, 80, outcomes, formats, connect_s=4.0, load_s=6.0, n_gpus=n_gpus)


BUSY = [worker_of(host, infer=1.15, read=2.0, decode=3.0, wait=1.0, cpu=2.0) for host in ("10.0.0.1", "10.0.0.2")]


def forecast_of(
    source="s3://b/images",
    destination="s3://b/out",
    listing_s=10.0,
    prices=PRICES,
    sampled=None,
    surveyed=None,
    **options,
):
    config = RunConfig(source, destination, **options)
    surveyed = surveyed or surveyed_in(listing_s, source.partition(":")[0])
    forecaster = Forecaster(config, checked_at(source, destination), surveyed, sampled or sampled_on(BUSY))
    return forecaster.forecast(prices)


def lines_by_label(forecast):
    lines = {}
    for label, text in lines_of(forecast, 0.05):
        lines.setdefault(label, []).append(text)
    return lines


def test_it_is_said_as_a_person_reads_it():
    lines = lines_by_label(forecast_of())

    assert lines["images"] == ["100,000 images, 7,000.0 MB; by name 100,000 .jpg"]
    assert lines["to do"] == ["100,000 images, 7,000.0 MB, in 79 parts"]
    assert lines["sample"] == ["200 images, spread evenly; by their bytes 198 JPEG, 2 PNG"]
    assert lines["failures"] == ["2,000 (782-5,023) images in decode (of the sample 4: truncated image)"]
    assert lines["time"] == ["64 s, start-up and end included"]
    assert lines["cluster"] == ["0.036 GPU-hours (2 workers, 2 GPUs, 16 cores)"]
    assert lines["requests"][0].startswith("100,120 GET, 90 PUT, 106 LIST, 6 DELETE; ")
    assert "not priced: PUTs, LISTs, GB read" in lines["money"][0]
    assert lines["bound by"][0].startswith("inference-bound")
    assert lines["workers"][0].startswith(
        "up to 5 like this, each with cores or a GPU of its own: then S3's 5,500 GETs/s"
    )


def test_json_tells_the_same_without_loss():
    forecast = forecast_of()

    told = json.loads(json.dumps(forecast.told()))

    assert told["seconds"]["expected"] == pytest.approx(forecast.duration.total_s.expected)
    assert told["requests"]["until_stored"] == dict(forecast.requests.until_stored)
    assert told["sample"]["formats"] == {"JPEG": 198, "PNG": 2}
    assert told["listed"]["suffixes"] == {".jpg": N_IMAGES}
    assert told["hours"]["gpu-hour"]["expected"] == pytest.approx(2 * told["seconds"]["expected"] / 3600)
    assert told["cost"]["items"].keys() == PRICES.keys()


def test_a_listing_that_takes_longer_than_the_work_is_what_the_run_waits_for():
    forecast = forecast_of(listing_s=120.0)

    assert forecast.duration.steady_s.expected == 120.0
    assert forecast.verdict.bound_by == "listing"


def test_repeated_requests_of_the_sample_are_expected_of_the_run_too():
    often = [replace(worker, requests=Counter(read=1_260)) for worker in BUSY]

    more = forecast_of(sampled=sampled_on(often)).requests.source["read"] - forecast_of().requests.source["read"]

    assert more == N_IMAGES * 5 // 100


@pytest.mark.parametrize(
    ("source", "destination", "said"),
    [
        ("file:///images", "file:///out", "none of S3: neither end is there"),
        ("file:///images", "s3://b/out", "as far as the destination is concerned"),
        ("s3://b/images", "file:///out", "as far as the source is concerned"),
    ],
)
def test_only_what_s3_answers_is_counted_and_priced(source, destination, said):
    forecast = forecast_of(source, destination, prices={})

    assert said in lines_by_label(forecast)["requests"][0]
    assert ("GETs" in forecast.bill.unpriced) == ("s3://" in source + destination)
    assert ("GB read" in forecast.bill.unpriced) == source.startswith("s3://")


def test_a_few_workers_that_took_part_stand_for_all():
    others = [worker_of(f"10.0.1.{i}") for i in range(6)]
    few, all_ = forecast_of(), forecast_of(sampled=sampled_on(BUSY, n_gpus=8, others=others))

    assert all_.duration.steady_s.expected == pytest.approx(few.duration.steady_s.expected / 4)
    assert all_.sample.images_per_s == pytest.approx(4 * few.sample.images_per_s)
    assert (all_.workers.n_workers, all_.workers.n_cores) == (8, 64)
    assert all_.verdict.loads == pytest.approx(few.verdict.loads, abs=0.01)
    assert "on 2 of 8 workers)" in lines_by_label(all_)[""][0]
    assert [limit.n_workers for limit in all_.limits if "scheduler" in limit.reason] == pytest.approx(
        [limit.n_workers for limit in few.limits if "scheduler" in limit.reason]
    )


def test_images_on_s3_are_paid_for_wherever_the_table_is_that_names_them():
    forecast = forecast_of("file:///photos.csv", "file:///out", surveyed=surveyed_in(10.0, "s3"))

    assert "as far as the source is concerned" in lines_by_label(forecast)["requests"][0]
    assert "per-1000-get" in {item.kind.name for item in forecast.bill.items}
    assert "GB read" in forecast.bill.unpriced


def test_a_run_that_is_marked_as_complete_is_listed_once_more():
    once = surveyed_in(10.0)
    twice = replace(once, layout=replace(once.layout, is_new=False, is_marked=True))
    once = replace(once, layout=replace(once.layout, is_new=False))

    more = forecast_of(surveyed=twice)
    assert more.requests.source["list"] == 2 * forecast_of(surveyed=once).requests.source["list"]
    assert more.duration.start_up_s == pytest.approx(forecast_of(surveyed=once).duration.start_up_s + 10.0)


def test_a_price_of_something_that_is_not_used_is_said_to_be_idle():
    forecast = forecast_of("file:///images", "file:///out", prices={"per-gb": 1.0})

    assert lines_by_label(forecast)["money"] == ["not priced: GPUs; not used: GB read"]


def test_without_gpus_it_is_cores_that_are_paid_for():
    forecast = forecast_of(sampled=sampled_on(BUSY, n_gpus=0), prices={"core-hour": 0.05})

    assert lines_by_label(forecast)["cluster"] == ["0.28 core-hours (2 workers, 16 cores)"]
    assert [item.kind.name for item in forecast.bill.items] == ["core-hour"]


END = ("failures", "more than --max-failure-rate 1.0% allows: the run would end with status 3")


def test_more_failures_than_allowed_are_said_to_end_the_run():
    assert END in list(lines_of(forecast_of(), max_failure_rate=0.01))


def test_it_is_of_the_whole_plan_that_a_share_may_fail():
    few, found = Images(n_images=N_IMAGES // 100, schemes=Counter(s3=1)), surveyed_in(10.0)
    resumed = replace(found, survey=replace(found.survey, to_do=few))

    assert END not in list(lines_of(forecast_of(surveyed=resumed), max_failure_rate=0.01))
    before = forecast_of(surveyed=replace(resumed, n_failed=N_IMAGES // 50))
    assert END in list(lines_of(before, max_failure_rate=0.01))
    assert ("failures", f"{N_IMAGES // 50:,} images that failed before, and are not tried again") in list(
        lines_of(before, max_failure_rate=0.5)
    )


def test_what_was_not_planned_is_said():
    notes = lines_by_label(forecast_of(tune=True, overwrite=True))["not planned"]

    assert len(notes) == 3
    assert "--tune" in notes[1]
    assert "--overwrite" in notes[2]


def test_what_was_compiled_for_the_plan_the_run_only_opens(tmp_path, monkeypatch):
    from pipeline.stages.compiling import OPEN_S, Worth

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    Worth(40, 13, 16.5).keep("key")

    assert next_load_s(45.0, "key", was_kept=False) == 5.0
    assert next_load_s(30.0, "key", was_kept=False) == OPEN_S
    assert next_load_s(5.0, "key", was_kept=True) == 5.0
    assert next_load_s(5.0, "never compiled", was_kept=False) == 5.0
