"""Logits to top fives, on the device that has them; one small array comes back."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.records import Prediction

_MOST = 5


def n_columns(n_classes: int) -> int:
    """Return how many columns a packed answer has.

    Five class indices, or as many as there are classes, their probabilities, the breed's class index, its probability.
    """
    return 2 * min(_MOST, n_classes) + 2


def packed(logits: Tensor, breeds: Tensor) -> Tensor:
    """Return the five most probable classes of every row, and the most probable breed, in one tensor: one copy back.

    Parameters
    ----------
    logits
        (N, C) float, unnormalised; row *i* belongs to image *i*.
    breeds
        (B,) int64, the class indices among which the breed is chosen; with B = 0 it is -1.

    Returns
    -------
    Tensor
        (N, 12) float32 on the device of `logits`, see `n_columns`; class indices are small enough to be exact.
    """
    probability, class_index = logits.softmax(dim=1).topk(min(_MOST, logits.shape[1]), dim=1)
    if len(breeds):
        breed_probability, position = logits[:, breeds].softmax(dim=1).max(dim=1)
        breed = breeds[position]
    else:
        breed_probability, breed = torch.zeros_like(probability[:, 0]), torch.full_like(class_index[:, 0], -1)
    columns = (class_index, probability, breed.unsqueeze(1), breed_probability.unsqueeze(1))
    return torch.cat([column.to(torch.float32) for column in columns], dim=1)


def unpacked(answer: NDArray[np.float32]) -> Prediction:
    """Return what `packed` packed, in host memory; nothing of `answer` is kept."""
    n_most = answer.shape[1] // 2 - 1
    return Prediction(
        class_index=answer[:, :n_most].astype(np.int32),
        probability=answer[:, n_most:-2].copy(),
        breed_class_index=answer[:, -2].astype(np.int32),
        breed_probability=answer[:, -1].copy(),
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
