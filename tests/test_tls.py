"""Scenario 26: schedulers that take only clients with a certificate, and those that take anybody."""

import json
import socket
from contextlib import ExitStack, contextmanager
from pathlib import Path

import dask
import pytest
from distributed import LocalCluster
from distributed.security import Security

from cluster.connect import ClusterOptions
from cluster.remote import join_cluster
from cluster.security import TlsFiles
from pipeline.attach import main as attach
from pipeline.demo.s3 import fill_bucket
from tests.by_hand import dask_by_hand
from tests.certificates import Authority
from tests.command_line import read_outcomes, run


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls"), "our")


@pytest.fixture(scope="module")
def ours(authority):
    """What our clients are started with."""
    return TlsFiles(authority.file, *authority.sign("client"))


@contextmanager
def scheduler(**settings):
    """Yield the address of a scheduler without workers in this process."""
    cluster = LocalCluster(
        n_workers=0,
        processes=False,
        dashboard_address="127.0.0.1:0",
        **{"host": "127.0.0.1", "protocol": "tcp://"} | settings,
    )
    with cluster:
        yield cluster.scheduler_address


@pytest.fixture(scope="module")
def secured(authority):
    """The address of a scheduler that takes only clients with a certificate of our authority."""
    cert, key = authority.sign("scheduler")
    security = Security(
        tls_ca_file=authority.file,
        require_encryption=True,
        **{
            f"tls_{role}_{part}": file
            for role in ("scheduler", "client")
            for part, file in (("cert", cert), ("key", key))
        },
    )
    with scheduler(security=security, protocol="tls://") as address:
        yield address


@pytest.fixture(scope="module")
def plain():
    with scheduler() as address:
        yield address


def refusal(cluster, files=TlsFiles()):  # noqa: B008
    """Return why a cluster cannot be joined."""
    with pytest.raises(ValueError, match="--") as refused, join_cluster(cluster, files):
        pass
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_26_a_client_with_certificates_is_let_in(secured, ours):
    with join_cluster(secured, ours) as client:
        assert client.scheduler.address == secured
    with join_cluster(secured.removeprefix("tls://"), ours) as client:
        assert client.scheduler.address == secured


def test_26_a_certificate_that_holds_its_own_key_needs_no_key_file(secured, ours, tmp_path):
    both = tmp_path / "both.pem"
    both.write_text(Path(ours.cert).read_text() + Path(ours.key).read_text())

    with join_cluster(secured, TlsFiles(ours.ca_file, str(both))) as client:
        assert client.status == "running"


def test_26_dask_s_own_configuration_counts_where_no_option_is_given(secured, ours):
    settings = {"ca-file": ours.ca_file, "client.cert": ours.cert, "client.key": ours.key}

    with ExitStack() as stack:
        stack.enter_context(dask.config.set({f"distributed.comm.tls.{name}": file for name, file in settings.items()}))
        client = stack.enter_context(join_cluster(secured))
        assert client.scheduler.address == secured


def test_26_a_scheduler_file_may_name_a_tls_scheduler(secured, ours, tmp_path):
    file = tmp_path / "scheduler.json"
    file.write_text(json.dumps({"address": secured}))

    assert "give --tls-ca-file, --tls-cert and --tls-key" in refusal(str(file))
    with join_cluster(str(file), ours) as client:
        assert client.scheduler.address == secured


def test_26_a_client_without_certificates_is_told_what_to_give(secured, ours):
    assert refusal(secured) == (
        f"--cluster {secured}: {secured} takes only clients with a certificate, and there is no "
        "distributed.comm.tls.ca-file and no distributed.comm.tls.client.cert; give --tls-ca-file, --tls-cert and "
        "--tls-key, or set distributed.comm.tls in Dask's YAML"
    )
    assert "there is no distributed.comm.tls.ca-file; give" in refusal(secured, TlsFiles(None, ours.cert, ours.key))


def test_26_certificates_of_another_authority_are_refused_on_either_side(secured, ours, tmp_path):
    other = Authority(tmp_path, "other")

    assert "is not one of the authority that --tls-ca-file names" in refusal(
        secured, TlsFiles(other.file, ours.cert, ours.key)
    )
    assert f"{secured} refuses our certificate (tlsv1 alert unknown ca); give a --tls-cert and --tls-key" in refusal(
        secured, TlsFiles(ours.ca_file, *other.sign("client"))
    )


def test_26_a_tcp_address_of_a_tls_scheduler_and_the_reverse_say_which_is_right(secured, plain, ours):
    place = secured.removeprefix("tls://")

    assert f"the scheduler at {place} speaks TLS only; give --cluster tls://{place}" in refusal(f"tcp://{place}")
    assert f"does not speak TLS; give --cluster {plain}" in refusal(plain.replace("tcp", "tls"), ours)


def test_26_certificates_for_a_cluster_that_takes_none_are_refused(plain, ours):
    assert "takes no certificates; give --cluster tls://" in refusal(plain, ours)
    for cluster in ("auto", "cpu", "cuda"):
        with pytest.raises(ValueError, match=f"--cluster {cluster} is opened on this machine's loopback"):
            ClusterOptions(cluster, tls=ours)


def test_26_encryption_that_dask_s_configuration_asks_for_is_not_left_out(plain):
    with dask.config.set({"distributed.comm.require-encryption": True}):
        assert "is not encrypted, and Dask's configuration asks for it" in refusal(plain)


def test_26_files_that_are_no_certificates_are_named(secured, ours, authority, tmp_path):
    text = tmp_path / "notes.pem"
    text.write_text("no certificate")
    missing, other_key = str(tmp_path / "none.pem"), authority.sign("second")[1]

    for files, expected in (
        (TlsFiles(missing, ours.cert, ours.key), f"--tls-ca-file {missing}: expected a readable file in PEM (No such"),
        (TlsFiles(ours.ca_file, missing, ours.key), f"--tls-cert {missing}: expected a readable file"),
        (TlsFiles(ours.ca_file, ours.cert, missing), f"--tls-key {missing}: expected a readable file"),
        (TlsFiles(str(text), ours.cert, ours.key), f"--tls-ca-file {text}: expected a certificate or key in PEM"),
        (TlsFiles(ours.ca_file, str(text), ours.key), f"--tls-cert {text}, --tls-key {ours.key}: expected a cert"),
        (TlsFiles(ours.ca_file, ours.cert, other_key), f"--tls-key {other_key} does not belong to --tls-cert"),
        (TlsFiles(ours.ca_file, ours.cert), f"--tls-cert {ours.cert} without --tls-key: expected a certificate and"),
    ):
        assert expected in refusal(secured, files)


def test_26_a_scheduler_that_is_gone_is_no_matter_of_certificates(ours, monkeypatch):
    monkeypatch.setattr("cluster.remote.CONNECT_S", 0.5)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))

        address = f"tls://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(ConnectionError, match="no scheduler answers"), join_cluster(address, ours):
            pass


def test_26_a_run_through_tls_gives_its_rows(s3, drawings, weights, authority, ours, tmp_path):
    fill_bucket("drawn-dogs", drawings)
    cert, key = authority.sign("process")
    roles = {
        f"{role}__{part}": file for role in ("SCHEDULER", "WORKER") for part, file in (("CERT", cert), ("KEY", key))
    }
    settings = {"CA_FILE": authority.file} | roles
    environment = {f"DASK_DISTRIBUTED__COMM__TLS__{name}": file for name, file in settings.items()}
    environment["DASK_DISTRIBUTED__COMM__DEFAULT_SCHEME"] = "tls"
    options = ["--weights", str(weights), "--precision", "fp32", "--limit", "4", "--no-report"]
    with dask_by_hand(tmp_path, 1, environment) as cluster:
        assert cluster.address.startswith("tls://")
        options += ["--cluster", str(cluster.file), "--tls-ca-file", ours.ca_file, "--tls-cert", ours.cert]

        options += ["--tls-key", ours.key]

        done = run("s3://drawn-dogs/Images", "s3://drawn-dogs/through-tls", *options)
        detached = run("s3://drawn-dogs/Images", "s3://drawn-dogs/detached", *options, "--detach")
        followed = attach(["s3://drawn-dogs/detached"])

    assert (done.returncode, detached.returncode) == (0, 0), done.stderr + detached.stderr
    assert followed == 0
    assert len(read_outcomes(s3, "s3://drawn-dogs/through-tls/outcomes")) == 4
    assert len(read_outcomes(s3, "s3://drawn-dogs/detached/outcomes")) == 4
