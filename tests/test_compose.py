"""docker-compose.yml and its image, without Docker: the file's schema, its facts, and its commands at work."""

import json
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import boto3
import pyarrow.dataset
import pytest
from check_jsonschema import main as check_jsonschema
from click.testing import CliRunner

from cluster.answers import answers
from cluster.requirements import requirements
from tests.composed import FILE, LOOPBACK, Composed, free_ports, read_file

ROOT = Path(__file__).parent.parent
IMAGE = (ROOT / "cluster" / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
LONG_RUNNING = {"s3", "scheduler", "worker", "gpu-worker", "notebook"}
N_GOOD, N_UNUSABLE = 24, 2


@pytest.fixture
def services():
    return read_file({})["services"]


def faults_of(path):
    """Return what is said of a file that is not as the Compose specification has it; nothing of one that is."""
    found = CliRunner().invoke(check_jsonschema, ["--builtin-schema", "vendor.compose-spec", str(path)])
    return found.output if found.exit_code else ""


def test_the_file_is_as_the_compose_specification_has_it(tmp_path):
    with_defaults = tmp_path / "docker-compose.yml"
    with_defaults.write_text(json.dumps(read_file({})))
    misspelt = tmp_path / "misspelt.yml"
    misspelt.write_text(FILE.read_text().replace("healthcheck:", "healthchecks:"))

    assert faults_of(FILE) == ""
    assert faults_of(with_defaults) == ""
    assert "healthchecks" in faults_of(misspelt)


def test_every_port_is_published_on_loopback_only(services):
    published = [port for service in services.values() for port in service.get("ports", ())]

    assert len(published) == 4
    assert [port for port in published if not port.startswith("127.0.0.1:")] == []


def test_what_runs_long_has_a_health_check_and_the_job_waits_for_it(services):
    assert {name for name, service in services.items() if "healthcheck" in service} == LONG_RUNNING
    for name in ("demo", "job"):
        assert services[name]["depends_on"].keys() == {"s3", "worker"}
        assert {wait["condition"] for wait in services[name]["depends_on"].values()} == {"service_healthy"}


def test_workers_can_be_many(services):
    assert not services["worker"].keys() & {"container_name", "hostname", "ports"}
    assert read_file({"WORKERS": "4"})["services"]["worker"]["deploy"]["replicas"] == "4"


def test_gpus_are_asked_for_by_one_service_that_only_a_profile_starts(services):
    asking = {name for name, service in services.items() if "resources" in service.get("deploy", {})}

    (device,) = services["gpu-worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert asking == {"gpu-worker"}
    assert services["gpu-worker"]["profiles"] == ["gpu"]
    assert (device["capabilities"], device["count"]) == (["gpu"], "all")


def test_keys_come_from_the_environment_and_what_stands_in_for_them_says_so(services):
    theirs = {"AWS_ACCESS_KEY_ID": "their-id", "AWS_SECRET_ACCESS_KEY": "their-secret", "AWS_ENDPOINT_URL": ""}
    for name in ("worker", "gpu-worker", "demo", "job", "notebook"):
        stand_in, given = (read_file(variables)["services"][name]["environment"] for variables in ({}, theirs))

        assert {stand_in[key] for key in theirs if "KEY" in key} == {"moto-takes-any-key"}
        assert {key: given[key] or "" for key in theirs} == theirs
        assert given["AWS_SESSION_TOKEN"] is None  # handed through where there is one


def test_services_share_one_image_and_give_up_what_they_do_not_need(services):
    for service in services.values():
        assert service["image"] == "dask-image-inference:local"
        assert service["build"] == {"context": ".", "dockerfile": "cluster/Dockerfile"}
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


# The image


def instructions():
    return [line.split(maxsplit=1) for line in IMAGE.splitlines() if line and not line.startswith(("#", " "))]


def copied():
    """Return (sources, target) of each COPY, in order."""
    return [(words[:-1], words[-1]) for words in (rest.split() for name, rest in instructions() if name == "COPY")]


def test_a_container_s_processes_are_not_root():
    assert [rest for name, rest in instructions() if name == "USER"] == ["dask"]
    assert instructions()[-1] == ["USER", "dask"]
    assert "useradd --uid 1000" in IMAGE


def test_dependencies_are_installed_as_pinned_and_before_any_code():
    names = [name for name, _ in instructions()]
    installs = [i for i, (name, rest) in enumerate(instructions()) if name == "RUN" and "pip install" in rest]
    copies = [i for i, name in enumerate(names) if name == "COPY"]
    dependencies, code = installs

    assert "--constraint constraints.txt --requirement requirements.txt" in instructions()[dependencies][1]
    assert "--no-deps --no-build-isolation ." in instructions()[code][1]
    assert [i for i in copies if i < dependencies] == copies[:1]
    assert copied()[0] == (["pyproject.toml", "constraints.txt", "cluster/requirements.py"], "./")


def test_the_image_has_every_dependency_at_a_pinned_version(tmp_path):
    (extras,) = re.findall(r"python requirements.py ([\w ]+) >", IMAGE)
    for source in copied()[0][0]:
        (tmp_path / Path(source).name).write_text((ROOT / source).read_text())

    told = subprocess.run(
        [sys.executable, "requirements.py", *extras.split()], cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout.splitlines()

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    pinned = {line.partition("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert told == requirements(project, ["demo", "notebook", "jupyter"])
    assert {"torch>=2.15", "moto[server]>=5.2", "jupyterlab>=4.4"} <= set(told)
    assert {re.match(r"[\w-]+", requirement)[0].lower() for requirement in told} <= pinned


def allowed():
    """Return the files that the build may see."""
    rules = (ROOT / "cluster" / "Dockerfile.dockerignore").read_text().splitlines()
    assert [rule for rule in rules if rule and not rule.startswith(("#", "!"))] == ["*", "**/__pycache__"]
    found = {path for rule in rules if rule.startswith("!") for path in ROOT.glob(rule[1:])}
    below = {path for folder in found for path in folder.rglob("*")}
    return {path.relative_to(ROOT) for path in found | below if path.is_file() and path.parent.name != "__pycache__"}


def test_what_the_build_copies_makes_the_package(tmp_path):
    for path in allowed():
        for sources, target in copied():
            if any(path == Path(source) or Path(source) in path.parents for source in sources):
                place = tmp_path / "src" / (path if target not in ("./", ".") else path.name)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes((ROOT / path).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "."]

    subprocess.run([*command, "--wheel-dir", str(tmp_path)], cwd=tmp_path / "src", check=True, timeout=120)

    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as package:
        names = set(package.namelist())
        (metadata,) = [package.read(name).decode() for name in names if name.endswith("METADATA")]
    assert {"cluster/connect.py", "pipeline/run.py", "pipeline/pages/templates/style.css"} <= names
    assert any(name.endswith("LICENSE") for name in names)
    assert "# Batch image inference on Dask" in metadata


def test_nothing_that_might_hold_a_key_gets_into_the_image():
    assert {path.suffix for path in allowed()} <= {
        ".py",
        ".toml",
        ".txt",
        ".md",
        ".csv",
        ".json",
        ".j2",
        ".css",
        ".js",
        "",
    }
    assert [path for path in allowed() if path.suffix == "" and path.name != "LICENSE"] == []
    assert re.search(r"(?i)secret|token|password|access_key", IMAGE) is None


# The commands


def test_a_health_check_passes_only_what_answers_with_success(s3):
    assert answers(f"{s3}/moto-api/")
    assert not answers(f"{s3}/no-such-bucket/no-such-key")
    assert not answers(f"http://{LOOPBACK}:{free_ports(1)[0]}/")


@pytest.fixture
def composed(tmp_path, drawings, weights):
    """The image's folder, with a volume in which the demo's first call has left its drawings and weights."""
    volume = tmp_path / "demo"
    for key, data in [*drawings[:N_GOOD], *drawings[-N_UNUSABLE:]]:
        (volume / "bucket" / key).parent.mkdir(parents=True, exist_ok=True)
        (volume / "bucket" / key).write_bytes(data)
    (volume / "resnet50-drawn.pth").symlink_to(weights)
    (tmp_path / "notebooks").symlink_to(ROOT / "notebooks")
    settings = tmp_path / "home" / ".jupyter"
    settings.mkdir(parents=True)  # Jupyter does not run for root unasked; in the image nobody is
    (settings / "jupyter_server_config.json").write_text('{"ServerApp": {"allow_root": true}}')
    composed = Composed(tmp_path, {"WORKER_THREADS": "2"})
    yield composed
    composed.down()


def test_the_job_goes_through_the_very_commands_of_the_file(composed, tmp_path):
    for service in ("s3", "notebook", "scheduler", "worker"):
        composed.up(service)
    for service in ("s3", "notebook", "worker"):
        composed.await_healthy(service)

    done = composed.run("demo", "--precision=fp32", "--batch-size=4", "--batches-per-part=2",
                        "--max-failure-rate=0.2", timeout_s=150)  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"dashboard    http://127.0.0.1:{composed.port('DASHBOARD_PORT')}/status" in done.stdout
    rows = pyarrow.dataset.dataset(tmp_path / "demo" / "outcomes" / "outcomes").to_table().to_pandas()
    good = rows[rows["status"] == "ok"]
    assert (len(rows), rows["image"].nunique(), len(good)) == (N_GOOD + N_UNUSABLE, N_GOOD + N_UNUSABLE, N_GOOD)
    assert good["correct"].mean() > 0.4  # by chance: a hundredth
    keys = {"aws_access_key_id": "any", "aws_secret_access_key": "any", "region_name": "us-east-1"}
    s3 = boto3.client("s3", endpoint_url=f"http://{LOOPBACK}:{composed.port('S3_PORT')}", **keys)
    stored = [entry["Key"] for entry in s3.list_objects_v2(Bucket="demo")["Contents"]]
    assert "stanford-dogs-drawn/outcomes/_SUCCESS" in stored
