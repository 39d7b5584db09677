"""Logits to top fives, on the device that has them; one small array comes back."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.records import Prediction

N_COLUMNS = 12
"""Of a packed answer: five class indices, their probabilities, the breed's class index and its probability."""


def packed(logits: Tensor, breeds: Tensor) -> Tensor:
    """Return the five most probable classes of every row, and the most probable breed, in one tensor: one copy back.

    Parameters
    ----------
    logits
        (N, C) float, unnormalised; row *i* belongs to image *i*.
    breeds
        (B,) int64, the class indices among which the breed is chosen.

    Returns
    -------
    Tensor
        (N, 12) float32 on the device of `logits`; class indices are small enough to be exact.
    """
    probability, class_index = logits.softmax(dim=1).topk(5, dim=1)
    breed_probability, position = logits[:, breeds].softmax(dim=1).max(dim=1)
    columns = (class_index, probability, breeds[position].unsqueeze(1), breed_probability.unsqueeze(1))
    return torch.cat([column.to(torch.float32) for column in columns], dim=1)


def unpacked(answer: NDArray[np.float32]) -> Prediction:
    """Return what `packed` packed, from (N, 12) in host memory; nothing of `answer` is kept."""
    return Prediction(
        class_index=answer[:, :5].astype(np.int32),
        probability=answer[:, 5:10].copy(),
        breed_class_index=answer[:, 10].astype(np.int32),
        breed_probability=answer[:, 11].copy(),
    )


def top5(logits: Tensor, breeds: Tensor) -> Prediction:
    """Return the five most probable classes of every row, and the most probable breed, to the host.

    Parameters
    ----------
    logits, breeds
        As in `packed`.

    Returns
    -------
    Prediction
        Softmax values in [0, 1], each from that image's own row.
    """
    return unpacked(packed(logits, breeds).cpu().numpy())
