"""Random schedules of faults: whatever they do to a run, the next undisturbed command makes the table exact.

``make chaos SEEDS=100`` runs a hundred; ``make chaos SEEDS=1 FIRST_SEED=4711`` repeats one. The seed stands in the
test's name and decides what is done, and after how many parts; when a process gets to it is up to the machine.
"""

import random
import signal
from collections.abc import Callable
from dataclasses import dataclass

import boto3
import pytest

from pipeline.demo.s3 import fill_bucket
from tests.chaos.conftest import BUCKET, Command, left_on

N_GOOD, N_UNUSABLE = 11, 1
N_PARTS = 6
MAX_COMMANDS = 8

ENDED_BY_FAULTS = {0, 4, 5, 130, -signal.SIGKILL, -signal.SIGTERM}
"""What a disturbed command may end with: done, storage, cluster, stopped, killed, ended before it could listen."""


@dataclass(frozen=True)
class Disturbance:
    """What happens to a command, and after how many of its parts."""

    n_parts: int
    name: str
    number: int


@dataclass
class Stage:
    """What a disturbance can reach."""

    command: Command
    cluster: object
    random: random.Random
    twin: Command | None = None


def kill_worker(stage: Stage) -> None:
    processes = stage.cluster.worker_processes()
    if processes:
        stage.random.choice(processes).kill()


def kill_driver(stage: Stage) -> None:
    stage.command.process.kill()


def stop_driver(stage: Stage) -> None:
    stage.command.process.send_signal(signal.SIGTERM)


def start_twin(stage: Stage) -> None:
    if stage.twin is None:
        stage.twin = stage.command.twin()
        stage.twin.start(stage.cluster.address)


def throttle(stage: Stage) -> None:
    stage.command.server.faults.add("status", method="GET", key="Images/", probability=0.3, times=40)


def cut_bodies(stage: Stage) -> None:
    stage.command.server.faults.add("cut", method="GET", key="Images/", probability=0.3, times=4)


def flip_bytes(stage: Stage) -> None:
    stage.command.server.faults.add("flip", method="GET", key="Images/", probability=0.3, times=4)


def doubt_writes(stage: Stage) -> None:
    stage.command.server.faults.add("stored", method="PUT", key="outcomes/|plan/", status=500, times=3)


def ignore_conditions(stage: Stage) -> None:
    stage.command.server.faults.add("unconditional")


def replace_image(stage: Stage) -> None:
    keys = stage.command.image_keys()
    taken, given = stage.random.sample(keys, 2)
    boto3.client("s3").copy_object(Bucket=BUCKET, Key=taken, CopySource={"Bucket": BUCKET, "Key": given})


def add_image(stage: Stage) -> None:
    given = stage.random.choice(stage.command.image_keys())
    folder, _, name = given.rpartition("/")
    added = f"{folder}/{stage.random.choice('0z')}{stage.random.randrange(10**6)}-{name}"
    boto3.client("s3").copy_object(Bucket=BUCKET, Key=added, CopySource={"Bucket": BUCKET, "Key": given})


def remove_image(stage: Stage) -> None:
    boto3.client("s3").delete_object(Bucket=BUCKET, Key=stage.random.choice(stage.command.image_keys()))


def lose_part(stage: Stage) -> None:
    parts = sorted(stage.command.objects("outcomes/"))
    if parts:
        name = stage.random.choice(parts)
        boto3.client("s3").delete_object(Bucket=BUCKET, Key=f"{stage.command.prefix}/{name}")


DEEDS: list[Callable[[Stage], None]] = [
    kill_worker,
    kill_driver,
    stop_driver,
    start_twin,
    throttle,
    cut_bodies,
    flip_bytes,
    doubt_writes,
    ignore_conditions,
    replace_image,
    add_image,
    remove_image,
    lose_part,
]


def schedule_of(seed: int) -> list[Disturbance]:
    """Return what a seed stands for."""
    chance = random.Random(seed)
    names = [chance.choice(DEEDS).__name__ for _ in range(chance.randint(2, 5))]
    return sorted(
        (Disturbance(chance.randint(0, N_PARTS - 1), name, number) for number, name in enumerate(names)),
        key=lambda disturbance: (disturbance.n_parts, disturbance.number),
    )


@pytest.fixture
def small_command(server, source, drawings, weights, tmp_path, seed):
    """A command on a source of its own, which the schedule may change."""
    folder = f"seed-{seed}"
    objects = [*drawings[:N_GOOD], *drawings[-N_UNUSABLE:]]
    fill_bucket(BUCKET, [(f"{folder}/{key}", data) for key, data in objects])
    command = Command(server, f"s3://{BUCKET}/{folder}/Images", tmp_path, str(weights))
    yield command
    command.close()


def test_29_a_random_schedule_of_faults_leaves_the_table_exact(small_command, shared, assert_whole, seed, capsys):
    schedule = schedule_of(seed)
    stage = Stage(small_command, shared, random.Random(seed))
    deeds = {deed.__name__: deed for deed in DEEDS}
    options = ["--batch-size", "1", "--batches-per-part", "2"]
    with capsys.disabled():
        print(f"\n  seed {seed}: " + ", ".join(f"{item.name} after {item.n_parts}" for item in schedule))

    small_command.start(shared.address, *options)
    for disturbance in schedule:
        if not small_command.is_at(disturbance.n_parts):
            status, said = small_command.end()
            assert status in ENDED_BY_FAULTS, said
            small_command.start(shared.address, *options)
        deeds[disturbance.name](stage)
    for command in filter(None, (stage.twin, small_command)):
        status, said = command.end()
        assert status in ENDED_BY_FAULTS, said
    small_command.server.faults.clear()
    status, said = small_command.run(shared.address, *options)

    assert status == 0, said
    assert_whole(small_command)
    assert left_on(shared.address) == []
