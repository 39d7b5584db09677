"""How many images are going to fail, by stage. Pure."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.evaluation.metrics import Share
from pipeline.forecast.estimate import Estimate


@dataclass(frozen=True, slots=True)
class Failures:
    """What of a sample failed, and what that means for all images."""

    n_images: int
    """All images."""

    n_sample: int
    """Those of them that were tried."""

    reasons: Counter[tuple[str, str]]
    """Failed images of the sample, by stage and reason."""

    n_before: int = 0
    """Images that failed before, and are not tried again."""

    @property
    def by_stage(self) -> dict[str, Share]:
        """The share of the sample that failed in each stage, most first."""
        stages: Counter[str] = Counter()
        for (stage, _), count in self.reasons.items():
            stages[stage] += count
        return {stage: Share(count, self.n_sample) for stage, count in stages.most_common()}

    @property
    def share(self) -> Share:
        """The share of the sample that failed in any stage."""
        return Share(self.reasons.total(), self.n_sample)

    def expected(self, share: Share) -> Estimate:
        """Return how many images a share of the sample stands for: its own, and Wilson's interval for the others."""
        n_others = self.n_images - self.n_sample
        low, high = share.interval
        return share.n_hits * Estimate.exact(1.0) + n_others * Estimate(share.value or 0.0, low, high)


def failures_of(n_images: int, sample: Iterable[tuple[str, str] | None], n_before: int = 0) -> Failures:
    """Return what a sample tells of failures.

    Parameters
    ----------
    n_images
        All that are to be tried.
    sample
        Stage and reason of each image that failed, None for each that did not.
    n_before
        Images that failed before, and are not tried again.
    """
    tried = list(sample)
    return Failures(n_images, len(tried), Counter(fault for fault in tried if fault is not None), n_before)
