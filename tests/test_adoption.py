"""Which commands may go on with a run that a destination holds, and what they leave of it."""

from dataclasses import replace
from itertools import count

import pytest

from pipeline.config import RunConfig
from pipeline.destination import RUN_JSON, Destination
from pipeline.engine.plan import PlanTotals
from pipeline.errors import UsageError
from pipeline.records import Tally
from pipeline.running.adoption import stored_run, take_destination
from pipeline.running.conclusion import Conclusion
from pipeline.running.provenance import Session
from pipeline.storage import options_from_environment
from tests.test_device_batches import SPEC

SOURCE = "s3://bucket/dogs"
NUMBERS = count(1)


@pytest.fixture
def destination(tmp_path):
    return Destination(f"file://{tmp_path}/out", options_from_environment())


def take(destination, **settings):
    config = RunConfig(SOURCE, destination.url, **settings)
    stored_run(config, destination, SOURCE, SPEC)
    return take_destination(config, destination, SOURCE, SPEC, f"run-{next(NUMBERS)}", "path")


NARROWER = [
    ({}, {"limit": 20}),
    ({"limit": 200}, {"limit": 20}),
    ({}, {"include": ("n02085620*",)}),
    ({"include": ("a*",)}, {"include": ("b*",)}),
    ({"include": ("a*", "b*")}, {"include": ("a*",)}),
    ({}, {"exclude": ("a*",)}),
    ({"exclude": ("a*",)}, {"exclude": ("a*", "b*")}),
    ({"include": ("a*",), "limit": 10}, {"limit": 10}),  # others may be among the first ten
]
WIDER = [
    ({"limit": 20}, {"limit": 200}),
    ({"limit": 20}, {}),
    ({"include": ("a*",)}, {"include": ("b*", "a*")}),
    ({"include": ("a*",), "limit": 10}, {}),
    ({"exclude": ("a*", "b*")}, {"exclude": ("b*",)}),
]


@pytest.mark.parametrize(("first", "second"), NARROWER)
def test_a_command_that_would_drop_rows_is_refused(destination, first, second):
    take(destination, **first)
    before = destination.read(RUN_JSON)

    with pytest.raises(UsageError, match=r"holds run run-\d+ of more images .* whose rows would go: select at least"):
        take(destination, **second)

    assert destination.read(RUN_JSON) == before


@pytest.mark.parametrize(("first", "second"), WIDER)
def test_one_that_selects_more_goes_on_and_a_third_may_not_take_that_back(destination, first, second):
    take(destination, **first)

    take(destination, **second)

    assert take(destination, **second)["config"]["limit"] == second.get("limit")
    with pytest.raises(UsageError, match="of more images"):
        take(destination, **first)


def test_with_overwrite_anything_may_follow(destination):
    take(destination)

    assert take(destination, limit=3, overwrite=True)["config"]["limit"] == 3


def test_signs_of_an_earlier_detached_run_go_and_its_own_driver_s_stay(destination):
    take(destination)
    destination.write_json("progress.json", {"status": 130})

    take(destination, detach=True)
    assert destination.read_json("progress.json") is not None
    take(destination)
    assert destination.read_json("progress.json") is None


def test_two_commands_at_once_each_have_their_share_in_the_record(destination):
    record = take(destination)
    session = Session("session-1", "2026-11-21T10:00:00", 4, {"compute": 1.0}, {"read": 4}, None, {}, "no")
    first, second, idle = (
        Conclusion(destination, record, lambda told=told: told)
        for told in (session, replace(session, session_id="session-2"), replace(session, n_scored=0))
    )

    for conclusion in (first, second, idle):
        conclusion(PlanTotals(n_images=4), Tally(n_images=4, n_ok=4))

    told = destination.read_json(RUN_JSON)
    assert [one["session_id"] for one in told["sessions"]] == ["session-1", "session-2"]
    assert told["requests"] == {"read": 8}
    assert destination.is_marked()
