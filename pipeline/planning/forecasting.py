"""From what was surveyed and sampled to what the run is going to take. Pure."""

from collections import Counter
from collections.abc import Iterator, Mapping

from pipeline.config import RunConfig
from pipeline.engine.trial import Pace
from pipeline.evaluation.verdict import Usage, Verdict, verdict_of
from pipeline.forecast.duration import Duration, last_round_s, tempo_of
from pipeline.forecast.estimate import Estimate
from pipeline.forecast.failures import failures_of
from pipeline.forecast.forecast import Forecast, Requests, Sample, Workers, hours_of
from pipeline.forecast.prices import Bill, bill_of
from pipeline.forecast.requests import N_AT_START, asked_afterwards, asked_of_destination, seconds_at_end
from pipeline.forecast.workers import Limit, Load, limits_of
from pipeline.planning.sampling import Sampled
from pipeline.planning.surveying import Checked, Surveyed
from pipeline.records import Outcome
from pipeline.review.reporting import THUMBNAILS
from pipeline.running.planned import identity_of
from pipeline.storage import redact

_TELLING_IMAGES = 1000
"""A listing of no more is over too soon to tell how fast it is."""


class Forecaster:
    """Puts together what a run is going to take.

    Parameters
    ----------
    config
        Of the run.
    checked, surveyed, sampled
        What was found out.
    """

    def __init__(self, config: RunConfig, checked: Checked, surveyed: Surveyed, sampled: Sampled) -> None:
        self._config, self._checked, self._sampled = config, checked, sampled
        self._survey, self._layout, self._listing = surveyed.survey, surveyed.layout, surveyed.listing
        self._n_images, self._n_failed = surveyed.survey.to_do.n_images, surveyed.n_failed

    def forecast(self, prices: Mapping[str, float]) -> Forecast:
        """Return what the run is going to take.

        Parameters
        ----------
        prices
            By the names of `pipeline.forecast.prices.KINDS`.
        """
        sampled, pace, spec = self._sampled, self._sampled.pace, self._sampled.given.spec
        workers, duration, requests = self._workers(), self._duration(), self._requests()
        return Forecast(
            identity=identity_of(self._config, self._checked.ends.source.url, spec),
            model=f"{spec.name} {redact(self._config.weights)} in {spec.precision}",
            compiled=sampled.given.compiled,
            listed=self._survey.listed,
            to_do=self._survey.to_do,
            n_parts=self._layout.n_written,
            sample=Sample(
                len(sampled.outcomes),
                sampled.formats,
                pace.n_images,
                sampled.batch_size,
                pace.steady_s,
                len(pace.workers),
                self._share,
            ),
            workers=workers,
            failures=failures_of(self._n_images, map(_fault_of, sampled.outcomes.values()), self._n_failed),
            duration=duration,
            requests=requests,
            bill=self._bill(duration, workers, requests, prices),
            verdict=self._verdict(duration),
            limits=self._limits(duration),
            notes=list(self._notes()),
        )

    @property
    def _share(self) -> float:
        """Of the cluster's task slots, those of the workers that took part; the others are taken to be like them."""
        pace = self._sampled.pace
        of_sample, of_others = (sum(worker.n_slots for worker in facts) for facts in (pace.workers, pace.others))
        return of_sample / (of_sample + of_others)

    def _workers(self) -> Workers:
        facts = (*self._sampled.pace.workers, *self._sampled.pace.others)
        cores = {worker.host: worker.n_cores for worker in facts}
        return Workers(len(facts), self._sampled.n_gpus, sum(cores.values()))

    def _duration(self) -> Duration:
        sampled, pace = self._sampled, self._sampled.pace
        n_slots, n_models = (
            sum(counts) for counts in zip(*((w.n_slots, w.has_model) for w in pace.workers), strict=True)
        )
        tempo = tempo_of(pace.ends_s, sampled.batch_size, n_slots)
        share = self._share
        is_model_bound = verdict_of(_usage(pace, pace.steady_s, 1.0, 0.0, 0.0)).bound_by == "inference"
        n_servers = max(1, round((n_models if is_model_bound else n_slots) / share))
        waiting_s = last_round_s(self._n_images, self._config.batch_size, n_servers, tempo.seconds.mean * share)
        request_s = self._checked.request_s
        return Duration(
            start_up_s=self._checked.seconds
            + self._survey.seconds * self._layout.is_marked
            + sampled.connect_s
            + sampled.load_s
            + N_AT_START * request_s,
            steady_s=(share * tempo.seconds_of(self._n_images)).at_least(self._survey.seconds),
            tail_s=waiting_s + seconds_at_end(self._layout, request_s),
        )

    def _verdict(self, duration: Duration) -> Verdict:
        """Return what is going to bound the run: what bounded the sample, had it been as long."""
        pace, steady_s = self._sampled.pace, duration.steady_s.expected
        image_s = pace.steady_s / pace.n_images * self._share
        waiting_s = max(0.0, self._survey.seconds - self._n_images * image_s)
        first_s = duration.start_up_s + image_s * min(self._n_images, self._config.batch_size)
        return verdict_of(_usage(pace, steady_s, self._n_images * self._share / pace.n_images, first_s, waiting_s))

    def _requests(self) -> Requests:
        pace, ends = self._sampled.pace, self._checked.ends
        reads_per_image = self._reads_per_image(pace)
        n_listings = 1 + self._layout.is_marked  # the first shows that something is left to do
        listing = Counter({kind: n_listings * count for kind, count in self._listing.items()})
        source = listing + Counter(read=round(self._n_images * reads_per_image))
        afterwards = asked_afterwards(self._layout, has_report=not self._config.no_report)
        if not self._config.no_report:
            afterwards += Counter(read=min(THUMBNAILS, self._n_images))
        loading = Counter({kind: pace.loading[kind] for kind in ("read", "list", "stat")})
        is_on_s3 = {"source": self._is_from_s3, "destination": ends.destination.url.startswith("s3://")}
        on_s3 = frozenset(end for end, is_there in is_on_s3.items() if is_there)
        return Requests(
            source, asked_of_destination(self._layout), _kinds(self._checked.requests) + loading, afterwards, on_s3
        )

    @staticmethod
    def _reads_per_image(pace: Pace) -> float:
        """Return the GETs of one image, those that were repeated included."""
        return sum(worker.requests["read"] for worker in pace.workers) / pace.n_all

    def _bill(self, duration: Duration, workers: Workers, requests: Requests, prices: Mapping[str, float]) -> Bill:
        asked = requests.of_s3
        thousands = {
            "per-1000-get": asked["read"] + asked["stat"],
            "per-1000-put": asked["write"],
            "per-1000-list": asked["list"],
        }
        amounts = hours_of(duration, workers) | {name: Estimate.exact(n / 1000) for name, n in thousands.items()}
        if "source" in requests.on_s3:
            amounts["per-gb"] = Estimate.exact(self._survey.to_do.n_bytes / 1e9)
        return bill_of(amounts, prices)

    @property
    def _is_from_s3(self) -> bool:
        """Whether the images are on S3; a table that names them may be elsewhere."""
        return "s3" in self._survey.listed.schemes

    def _limits(self, duration: Duration) -> list[Limit]:
        pace, survey, options = self._sampled.pace, self._survey, self._checked.ends.source.options
        n_models = max(1, sum(worker.has_model for worker in pace.workers))
        n_listed = survey.listed.n_images
        is_aws = self._is_from_s3 and options.endpoint_url is None
        return limits_of(
            Load(
                n_images=self._n_images,
                batch_size=self._config.batch_size,
                worker_images_per_s=pace.n_images / pace.steady_s / n_models,
                start_up_s=max(0.1, duration.start_up_s),
                listed_per_s=n_listed / survey.seconds if n_listed > _TELLING_IMAGES else None,
                reads_per_image=self._reads_per_image(pace),
                is_aws=is_aws,
            )
        )

    def _notes(self) -> Iterator[str]:
        yield "whether DESTINATION takes what is written there: nothing was"
        if self._config.tune:
            yield "the trials of --tune, and what they gain"
        if self._config.overwrite:
            yield "deleting what --overwrite deletes"
        if self._checked.is_rejudged:
            yield "judging the stored answers by other labels: a GET and a PUT for each part"


def _usage(pace: Pace, steady_s: float, share: float, start_s: float, listing_s: float) -> Usage:
    """Return what the sample used, as if so many times as many images had been counted."""
    counted = share * pace.n_images / pace.n_all
    cores = {worker.host: worker.n_cores for worker in pace.workers}
    spent_s: Counter[str] = Counter()
    for worker in pace.workers:
        spent_s.update({activity: seconds * counted for activity, seconds in worker.spent_s.items()})
    return Usage(
        start_s=start_s,
        steady_s=steady_s,
        listing_s=listing_s,
        n_workers=len(pace.workers),
        n_models=sum(worker.has_model for worker in pace.workers),
        n_slots=sum(worker.n_slots for worker in pace.workers),
        n_cores=sum(cores.values()),
        spent_s=spent_s,
    )


def _fault_of(outcome: Outcome) -> tuple[str, str] | None:
    return None if outcome.status == "ok" else (str(outcome.stage), str(outcome.reason))


def _kinds(requests: Counter[str]) -> Counter[str]:
    """Return requests alone, without the bytes that they carried."""
    return Counter({kind: requests[kind] for kind in ("list", "stat", "read", "write", "delete") if requests[kind]})
