"""What the main job is held against: a loop over the same bytes in one process, without any of this project's code."""

import hashlib
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torchvision.models import ResNet50_Weights, resnet50

TOLERANCE = 1e-4


def plain_loop(objects: Iterable[tuple[str, bytes]], weights: Path) -> pd.DataFrame:
    """Return each usable object's 1,000 probabilities, by ETag: Pillow, the weights' own transform, fp32."""
    transform = ResNet50_Weights.IMAGENET1K_V2.transforms()
    model = resnet50()
    model.load_state_dict(torch.load(weights, weights_only=True))
    model.eval()
    etags, tensors = [], []
    for _, data in objects:
        try:
            tensors.append(transform(Image.open(io.BytesIO(data), formats=["JPEG", "PNG", "WEBP"]).convert("RGB")))
        except (OSError, Image.DecompressionBombError):
            continue
        etags.append(hashlib.md5(data, usedforsecurity=False).hexdigest())
    with torch.inference_mode():
        probability = torch.cat([model(chunk).softmax(1) for chunk in torch.stack(tensors).split(16)])
    return pd.DataFrame(probability.numpy(), index=etags)


def assert_equal_answers(good: pd.DataFrame, plain: pd.DataFrame) -> None:
    """Assert that rows of images that were classified say what the plain loop says."""
    expected = plain.loc[good["etag"]].to_numpy()
    ranked = np.sort(expected, axis=1)
    is_close_call = ranked[:, -1] - ranked[:, -2] < TOLERANCE

    is_equal = good["class_index"].to_numpy() == expected.argmax(axis=1)

    assert (is_equal | is_close_call).all()
    assert np.abs(good["probability"].to_numpy() - ranked[:, -1]).max() < TOLERANCE
    assert 0.3 < np.median(ranked[:, -1]) < 0.95, "probabilities must be spread for this to mean anything"
