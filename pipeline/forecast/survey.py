"""What a source holds, counted while it is listed. Pure."""

from collections import Counter
from dataclasses import dataclass, field

from pipeline.forecast.strata import Strata
from pipeline.records import ImageRef

N_SAMPLE = 200
"""Images of the sample: a share of 2 % is then known to within 1 % and 5 %."""


@dataclass(slots=True)
class Images:
    """Counts of some images."""

    n_images: int = 0

    n_bytes: int = 0

    n_unknown: int = 0
    """Those whose size nobody tells: they count as 0 bytes."""

    suffixes: Counter[str] = field(default_factory=Counter)
    """How many have which name's ending, in lower case."""

    schemes: Counter[str] = field(default_factory=Counter)
    """How many are in which kind of store, by the beginning of their URLs."""

    def add(self, ref: ImageRef) -> None:
        """Count one more."""
        self.n_images += 1
        self.n_bytes += max(0, ref.size_bytes)
        self.n_unknown += ref.size_bytes < 0
        self.schemes[ref.url[: ref.url.find(":")]] += 1
        self.suffixes[ref.url[ref.url.rfind(".") :].lower()] += 1


@dataclass(slots=True)
class Survey:
    """What is listed, and what of it is still to be scored."""

    listed: Images = field(default_factory=Images)

    to_do: Images = field(default_factory=Images)

    strata: Strata[ImageRef] = field(default_factory=lambda: Strata(N_SAMPLE))
    """Of the images that are to be scored."""

    seconds: float = 0.0
    """That the listing took."""

    def take(self, ref: ImageRef) -> None:
        """Count an image that is to be scored; it may become one of the sample."""
        self.to_do.add(ref)
        self.strata.add(ref)
