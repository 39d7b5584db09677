"""Where images are decoded when only some workers have the model."""

import pytest

from pipeline.engine.balance import Balance


def starving(**answers):
    """Return whether models starve that answered at these times, having computed so long until then."""
    balance = Balance()
    for i in range(max(map(len, answers.values()))):
        balance.look({worker: told[min(i, len(told) - 1)] for worker, told in answers.items()})
    return balance.is_starving()


@pytest.mark.parametrize("told", [[None], [(10.0, 9.0)], [(10.0, 9.0), (10.0, 9.0)]])
def test_models_starve_until_the_contrary_is_known(told):
    assert starving(one=told)


def test_a_model_that_computed_since_its_first_answer_does_not_starve():
    assert not starving(one=[None, (10.0, 1.0), (20.0, 10.0), (30.0, 20.0)])


def test_one_idle_model_of_two_starves():
    busy = [(10.0, 10.0), (20.0, 20.0)]
    assert not starving(one=busy, other=busy)
    assert starving(one=busy, other=[(10.0, 5.0), (20.0, 7.0)])
    assert starving(one=busy, other=[None])


def test_a_worker_that_left_does_not_count():
    balance = Balance()
    for at_s in (10.0, 20.0):
        balance.look({"one": (at_s, at_s), "other": (at_s, 1.0)})
    balance.look({"one": (20.0, 20.0)})

    assert balance.n_models == 1
    assert not balance.is_starving()


def test_what_was_long_ago_does_not_count():
    idle, busy = [(10.0 * i, 1.0 * i) for i in range(20)], [(200.0 + 10.0 * i, 20.0 + 10.0 * i) for i in range(9)]
    assert not starving(one=idle + busy)
    assert starving(one=busy + [(at_s + 1000.0, busy[-1][1] + computed_s) for at_s, computed_s in idle])
