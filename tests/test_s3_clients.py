"""That each client of S3 goes where the AWS settings say, with the keys they say, and which of the two makes a GET."""

import json
import pickle
import sys
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from uuid import uuid4

import boto3
import pytest
from botocore.config import Config
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.server import rclone_server
from pipeline.config import RunConfig
from pipeline.demo.s3 import CREDENTIALS
from pipeline.errors import StorageError, UsageError
from pipeline.running.preflight import check_ends
from pipeline.storage import CHANGED, GONE, StorageOptions, options_from_environment, requests
from pipeline.storage.s3 import S3Storage
from pipeline.storage.s3_place import Keyring
from tests.faulty_s3 import faulty_s3

BOTH = pytest.mark.parametrize("s3_client", ["s3fs", "obstore"])

DAY = timedelta(days=1)

OBSTORE = "object_store"
"""How obstore calls itself to servers."""


@pytest.fixture(scope="module")
def server():
    with faulty_s3() as server:
        yield server


@pytest.fixture
def bucket(server, monkeypatch):
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    name = f"clients-{uuid4().hex[:12]}"
    plain_client(server.endpoint).create_bucket(Bucket=name)
    yield name
    server.faults.clear()


def plain_client(endpoint, **settings):
    config = Config(request_checksum_calculation="when_required")
    return boto3.client("s3", endpoint_url=endpoint, config=config, **settings)


def storage_on(endpoint, s3_client="obstore", **options):
    return S3Storage(StorageOptions(endpoint_url=endpoint, s3_client=s3_client, **options))


def filled(storage, bucket, n=3):
    for i in range(n):
        storage.write(f"s3://{bucket}/dogs/{i}.jpg", b"%d" % i)
    return listed(storage, bucket)


def listed(storage, bucket):
    return [(entry.url, entry.etag) for page in storage.list_pages(f"s3://{bucket}/dogs") for entry in page]


# Which client makes a GET


@pytest.mark.parametrize("s3_client", ["auto", "obstore"])
def test_obstore_reads_as_soon_as_the_first_etag_has_proved_to_be_an_md5(server, bucket, s3_client):
    storage = storage_on(server.endpoint, s3_client)
    objects = filled(storage, bucket)
    server.log.clear()

    storage.read_many(objects[:1])
    assert storage.read_many(objects) == [b"0", b"1", b"2"]

    assert server.count("GET") == 4
    assert server.count("GET", agent=OBSTORE) == 3


def test_obstore_is_not_asked_where_s3fs_is_chosen(server, bucket):
    storage = storage_on(server.endpoint, "s3fs")
    objects = filled(storage, bucket)
    server.log.clear()

    storage.read_many(objects[:1])
    storage.read_many(objects)

    assert server.count("GET") == 4
    assert server.count("GET", agent=OBSTORE) == 0


def test_a_bucket_with_encrypted_objects_is_left_to_the_client_that_sees_the_encryption(server, bucket):
    storage = storage_on(server.endpoint)
    filled(storage, bucket)
    settings = {"Bucket": bucket, "ServerSideEncryption": "aws:kms"}
    plain_client(server.endpoint).put_object(Key="dogs/secret.jpg", Body=b"secret", **settings)
    objects = listed(storage, bucket)
    storage.read_many(objects)
    server.log.clear()

    assert storage.read_many(objects) == [b"0", b"1", b"2", b"secret"]

    assert server.count("GET") == 4
    assert server.count("GET", agent=OBSTORE) == 0


@pytest.mark.parametrize("key", ["dogs//1.jpg", "dogs/../2.jpg", "dogs/./3.jpg", "dogs/4.jpg/"])
def test_a_key_that_is_no_path_is_read_like_any_other(server, bucket, key):
    storage = storage_on(server.endpoint)
    storage.read_many(filled(storage, bucket, 1))
    storage.write(f"s3://{bucket}/{key}", b"odd")
    storage.write(f"s3://{bucket}/dogs/4.jpg", b"even")
    odd = [item for item in listed(storage, bucket) if item[0] == f"s3://{bucket}/{key}"]
    before = requests()

    assert storage.read_many(odd) == [b"odd"]

    assert requests() - before == {"read": 1, "bytes_read": 3}


def test_a_client_that_always_fails_is_not_asked_for_a_while(server, bucket):
    storage = storage_on(server.endpoint, deadline_s=60)
    objects = filled(storage, bucket, 40)
    storage.read_many(objects[:1])
    server.faults.add("status", method="GET", key="jpg", status=503, times=40)
    assert len(storage.read_many(objects)) == 40
    server.log.clear()

    assert storage.read_many(objects) == [storage.read_many([item])[0] for item in objects]

    assert server.count("GET", agent=OBSTORE) == 0


def test_where_the_environment_would_send_obstore_elsewhere_it_is_not_sent(server, bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    storage = storage_on(server.endpoint)
    objects = filled(storage, bucket)
    storage.read_many(objects[:1])
    before = requests()

    assert storage.read_many(objects) == [b"0", b"1", b"2"]

    assert requests() - before == {"read": 3, "bytes_read": 3}


def test_an_object_that_is_gone_or_replaced_is_asked_for_once(server, bucket):
    storage = storage_on(server.endpoint)
    objects = filled(storage, bucket)
    storage.read_many(objects[:1])
    storage.delete([objects[1][0]])
    storage.write(objects[2][0], b"another")
    server.log.clear()

    assert storage.read_many(objects) == [b"0", GONE, CHANGED]

    assert server.count("GET") == server.count("GET", agent=OBSTORE) == 3


@pytest.mark.parametrize("s3_client", ["auto", "obstore", "s3fs"])
def test_the_choice_reaches_both_ends_of_the_pipe(server, bucket, s3_client, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    filled(storage_on(server.endpoint), bucket, 1)

    config = RunConfig(f"s3://{bucket}/dogs", f"s3://{bucket}/out", s3_client=s3_client)
    ends = check_ends(config, options_from_environment())

    assert (ends.source.options.s3_client, ends.destination.options.s3_client) == (s3_client, s3_client)


def test_a_client_that_nobody_knows_is_a_usage_error():
    with pytest.raises(UsageError, match="--s3-client boto"):
        RunConfig("s3://bucket/dogs", "s3://bucket/out", s3_client="boto")


# With which keys


@BOTH
def test_public_buckets_are_read_without_a_signature(server, bucket, s3_client):
    objects = filled(storage_on(server.endpoint), bucket)
    for i in range(3):
        plain_client(server.endpoint).put_object_acl(Bucket=bucket, Key=f"dogs/{i}.jpg", ACL="public-read")
    storage = storage_on(server.endpoint, s3_client, anon=True)
    storage.read_many(objects[:1])
    server.log.clear()

    assert storage.read_many(objects) == [b"0", b"1", b"2"]

    assert [request for request in server.log if "HTTP_AUTHORIZATION" in request.headers] == []
    assert server.count(agent=OBSTORE) == (3 if s3_client == "obstore" else 0)


@BOTH
def test_who_pays_is_told_with_every_request(server, bucket, s3_client):
    objects = filled(storage_on(server.endpoint), bucket)
    storage = storage_on(server.endpoint, s3_client, requester_pays=True)
    storage.read_many(objects[:1])
    server.log.clear()

    storage.read_many(objects)

    assert [request.headers["HTTP_X_AMZ_REQUEST_PAYER"] for request in server.log] == ["requester"] * 3
    assert server.count(agent=OBSTORE) == (3 if s3_client == "obstore" else 0)


@BOTH
def test_a_session_s_token_is_sent_with_its_keys(server, bucket, s3_client, monkeypatch):
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a-token")
    storage = storage_on(server.endpoint, s3_client)
    objects = filled(storage, bucket)
    storage.read_many(objects[:1])
    server.log.clear()

    storage.read_many(objects)

    assert {request.headers["HTTP_X_AMZ_SECURITY_TOKEN"] for request in server.log if request.method == "GET"} == {
        "a-token"
    }


def test_keys_that_run_out_are_renewed(tmp_path, monkeypatch):
    """A profile whose program gives other keys each time, which expire in five minutes."""
    soon = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    keys = json.dumps({"Version": 1, "AccessKeyId": "", "SecretAccessKey": "secret", "Expiration": soon})
    program = tmp_path / "keys.py"
    program.write_text(f"import time; print({keys!r}.replace('\"\"', '\"' + str(time.time_ns()) + '\"'))")
    use_profile(tmp_path, monkeypatch, f"credential_process = {sys.executable} {program}")
    keyring = Keyring()

    first, second = keyring(), keyring()

    assert first["access_key_id"] != second["access_key_id"]
    assert first["expires_at"] <= datetime.now(UTC) + timedelta(minutes=10)


def test_keys_do_not_travel(bucket):
    keyring = Keyring()

    travelling = pickle.dumps(keyring)

    assert keyring()["secret_access_key"] == CREDENTIALS["AWS_SECRET_ACCESS_KEY"]
    assert CREDENTIALS["AWS_SECRET_ACCESS_KEY"] not in travelling.decode("latin1") + repr(keyring)
    assert pickle.loads(travelling)()["access_key_id"] == CREDENTIALS["AWS_ACCESS_KEY_ID"]  # noqa: S301  our own


# Where they go


def dogs_on_rclone(folder, *options):
    """Serve one bucket, named dogs."""
    (folder / "store" / "dogs").mkdir(parents=True)
    return rclone_server(folder / "store", folder / "rclone.log", *options)


@BOTH
def test_a_profile_gives_keys_endpoint_and_region(tmp_path, monkeypatch, s3_client):
    with dogs_on_rclone(tmp_path) as endpoint:
        keys = {name.lower(): CREDENTIALS[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
        lines = [f"{name} = {value}" for name, value in keys.items()]
        use_profile(tmp_path, monkeypatch, f"endpoint_url = {endpoint}", "region = eu-west-3", *lines)
        storage = S3Storage(options_from_environment(s3_client=s3_client))

        objects = filled(storage, "dogs")
        storage.read_many(objects[:1])
        before = requests()

        assert storage.read_many(objects) == [b"0", b"1", b"2"]

        assert requests() - before == {"read": 3, "bytes_read": 3}
        assert s3_client == "s3fs" or storage._first._stores["dogs"] is not None


@BOTH
def test_https_is_spoken_and_certificates_are_checked(tmp_path, monkeypatch, s3_client):
    certificate, key = self_signed(tmp_path)
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with dogs_on_rclone(tmp_path, "--cert", certificate, "--key", key) as endpoint:
        with pytest.raises(StorageError, match="no usable answer"):
            storage_on(endpoint, s3_client, deadline_s=1.0, region="us-east-1").write("s3://dogs/a.jpg", b"")
        monkeypatch.setenv("AWS_CA_BUNDLE", certificate)
        storage = storage_on(endpoint, s3_client, region="us-east-1")
        objects = filled(storage, "dogs")
        storage.read_many(objects[:1])
        before = requests()

        assert storage.read_many(objects) == [b"0", b"1", b"2"]

        assert requests() - before == {"read": 3, "bytes_read": 3}
        assert s3_client == "s3fs" or storage._first._stores["dogs"] is not None


@BOTH
def test_virtual_hosts_are_addressed_where_the_profile_asks_for_them(server, bucket, tmp_path, monkeypatch, s3_client):
    """The server stands in as the proxy to whatever host is named."""
    use_profile(tmp_path, monkeypatch, "s3 =", "  addressing_style = virtual")
    for name, value in (CREDENTIALS | {"http_proxy": server.endpoint, "HTTP_PROXY": server.endpoint}).items():
        monkeypatch.setenv(name, value)
    storage = storage_on("http://s3.amazonaws.com", s3_client)
    objects = filled(storage, bucket)
    storage.read_many(objects[:1])
    server.log.clear()

    assert storage.read_many(objects) == [b"0", b"1", b"2"]

    assert {request.headers["HTTP_HOST"] for request in server.log} == {f"{bucket}.s3.amazonaws.com"}
    assert server.count(agent=OBSTORE) == (3 if s3_client == "obstore" else 0)


def use_profile(tmp_path, monkeypatch, *lines):
    for name in CREDENTIALS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    (tmp_path / "config").write_text("\n".join(["[profile dogs]", *lines]))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "dogs")


def self_signed(folder):
    """Return the paths of a certificate for 127.0.0.1 and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")]), datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + DAY)
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    certificate = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    encoding = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, *encoding))
    return str(folder / "cert.pem"), str(folder / "key.pem")
