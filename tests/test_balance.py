"""Where images are decoded when only some workers have the model."""

import pytest

from pipeline.engine.balance import Balance
from pipeline.records import Receipt, Tally


def is_starving_after(n_models, *infer_s, every_s=10.0):
    balance = Balance()
    for i, seconds in enumerate(infer_s):
        balance.committed(Receipt(i, "etag", Tally(), spent_s={"infer": seconds}), i * every_s)
    return balance.is_starving(n_models)


@pytest.mark.parametrize("infer_s", [(), (10.0,)])
def test_models_starve_until_the_contrary_is_known(infer_s):
    assert is_starving_after(1, *infer_s)


def test_a_model_that_computed_since_the_first_receipt_does_not_starve():
    assert not is_starving_after(1, 0.0, 10.0, 9.0)


def test_two_models_starve_where_one_would_not():
    assert is_starving_after(2, 0.0, 10.0, 9.0)


def test_what_was_long_ago_does_not_count():
    assert is_starving_after(1, *[10.0] * 20, *[1.0] * 8)
    assert not is_starving_after(1, *[1.0] * 20, *[10.0] * 8)
