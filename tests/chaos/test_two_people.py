"""Two people with a command each, at once, on one scheduler that is neither's."""

import pytest
import torch
from distributed import Client

from tests.chaos.conftest import BUCKET, TOLERANCE
from tests.cluster_state import left_as_found

N_CLASSES = 1000


@pytest.fixture
def second_weights(weights, tmp_path):
    """The same network, but that its last layer calls each class by the next one's index."""
    state = torch.load(weights, weights_only=True)
    state |= {name: state[name].roll(1, dims=0) for name in ("fc.weight", "fc.bias")}
    path = tmp_path / "second.pth"
    torch.save(state, path)
    return path


def test_two_commands_at_once_share_a_scheduler_and_leave_it_untouched(
    command, many, second_weights, shared, undisturbed, assert_whole
):
    first, second = command.another(many), command.another()
    second.weights = str(second_weights)

    with Client(shared.address, set_as_default=False) as bystander:
        theirs = bystander.submit(int, key="theirs")
        assert theirs.result() == 0
        with left_as_found(bystander):
            first.start(shared.address, "--min-workers", "2")
            first.await_parts(1)
            second.start(shared.address, "--min-workers", "2")
            second.await_parts(1)
            first_was_at_work = first.process.poll() is None
            ended = [command.end(timeout_s=200) for command in (first, second)]
        assert theirs.result() == 0

    assert first_was_at_work
    assert [status for status, _ in ended] == [0, 0], ended
    assert_whole(first)
    rows = second.rows()
    assert {row["image"] for row in rows} == {f"s3://{BUCKET}/{key}" for key in second.image_keys()}
    for row in rows:
        expected = undisturbed.by_content[row["etag"]]
        assert row["status"] == expected["status"]
        if row["status"] == "ok":
            best, runner_up = expected["top5_probability"][:2]
            assert abs(row["probability"] - expected["probability"]) < TOLERANCE
            assert row["class_index"] == (expected["class_index"] + 1) % N_CLASSES or best - runner_up < TOLERANCE
