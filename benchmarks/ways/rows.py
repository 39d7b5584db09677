"""What a way that is not this project's writes down for each image: its best class and how probable that is. Pure."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor


def encode_rows(images: Sequence[str], logits: Tensor) -> bytes:
    """Return one row for each image as a Parquet object.

    Parameters
    ----------
    images
        URLs; row *i* of `logits` belongs to image *i*.
    logits
        (N, 1000), on any device.
    """
    probability, class_index = logits.softmax(dim=1).max(dim=1)
    columns = {"image": images, "class_index": class_index.cpu().numpy(), "probability": probability.cpu().numpy()}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return bytes(sink.getvalue())
