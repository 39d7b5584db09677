"""Sources that are tables: CSV, Parquet, S3 Inventories."""

import gzip
import io
import json
from urllib.parse import quote_plus

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.demo.s3 import fill_bucket
from pipeline.errors import UsageError
from pipeline.running.source import Source
from pipeline.stages.listing import Selection, is_manifest
from pipeline.stages.manifest import read_inventory, read_manifest
from pipeline.storage import options_from_environment, requests
from tests.command_line import run
from tests.driving import draw_folder, refs_of

SOURCE = "s3://bucket/lists/photos.csv"


def parquet_of(**columns):
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def listed(source, **narrowed):
    return list(Source(Selection(source, **narrowed), options_from_environment()).images())


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("s3://b/list.csv", True),
        ("s3://b/list.CSV.GZ", True),
        ("s3://b/list.parquet", True),
        ("s3://b/inventory/2026-11-20T01-00Z/manifest.json", True),
        ("s3://b/photos", False),
        ("s3://b/mymanifest.json", False),
        ("s3://b/*.csv", False),
    ],
)
def test_a_source_is_a_manifest_by_its_name(source, expected):
    assert is_manifest(source) is expected


@pytest.mark.parametrize(
    "data",
    [
        b"image\nb.jpg\ns3://bucket/other/a.jpg\n",
        gzip.compress(b"id,image\n1,b.jpg\n2,s3://bucket/other/a.jpg\n"),
        parquet_of(image=["b.jpg", "s3://bucket/other/a.jpg", None]),
    ],
    ids=["csv", "gzip", "parquet"],
)
def test_images_are_urls_or_paths_below_the_tables_folder_in_sorted_order(data):
    table = read_manifest(data, SOURCE)

    assert table["image"].to_pylist() == ["s3://bucket/lists/b.jpg", "s3://bucket/other/a.jpg"]
    assert table["etag"].null_count == table["size_bytes"].null_count == 2


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"path\na.jpg\n", "no column 'image'; found path"),
        (b"image\na.jpg\nb.jpg\na.jpg\n", "s3://bucket/lists/a.jpg is named twice"),
        (b"image\na.jpg\nfile:///b.jpg\n", "images of file and s3; a manifest names images of one store"),
        (b"", "neither a CSV nor a Parquet table"),
        (b"PAR1" + bytes(20), "neither a CSV nor a Parquet table"),
    ],
)
def test_a_table_that_will_not_do_is_refused_in_one_line(data, words):
    with pytest.raises(UsageError, match=words) as caught:
        read_manifest(data, SOURCE)

    assert "\n" not in str(caught.value)


def test_what_a_table_does_not_tell_is_asked_for_and_what_is_gone_is_named_all_the_same(tmp_path):
    known = {ref.url: ref for ref in refs_of(draw_folder(tmp_path / "images", 3))}
    urls = sorted(known)
    (tmp_path / "list.csv").write_text("\n".join(["image", *urls, "images/gone.png", "images/notes.txt"]))

    refs = listed(f"file://{tmp_path}/list.csv")

    assert [ref for ref in refs if ref.url in known] == [known[url] for url in urls]
    (gone,) = [ref for ref in refs if ref.url not in known]
    assert (gone.url, gone.etag, gone.size_bytes) == (f"file://{tmp_path}/images/gone.png", "", -1)


def test_a_table_is_narrowed_like_a_listing(tmp_path):
    source = draw_folder(tmp_path / "images", 6)
    names = [ref.url.removeprefix(f"{source}/") for ref in refs_of(source)]
    (tmp_path / "images" / "list.csv").write_text("\n".join(["image", *names]))

    refs = listed(f"{source}/list.csv", exclude=("*_000.png",), limit=3)

    assert [ref.url.removeprefix(f"{source}/") for ref in refs] == names[1:4]


@pytest.fixture
def photos(bucket):
    """Three images in a bucket, one under a name that has to be encoded, and the entries of their listing."""
    fill_bucket(bucket, [(f"photos/{name}.jpg", name.encode()) for name in ("a b+ü", "c", "d")])
    return listed(f"s3://{bucket}/photos")


def inventory_of(bucket, files, **told):
    """Put an S3 Inventory into the bucket, and return its manifest's URL."""
    keys = [f"inventory/data/{i}" for i in range(len(files))]
    fill_bucket(bucket, zip(keys, files, strict=True))
    manifest = {
        "sourceBucket": bucket,
        "destinationBucket": f"arn:aws:s3:::{bucket}",
        "fileFormat": "CSV",
        "fileSchema": "Bucket, Key, Size, LastModifiedDate, ETag",
        "files": [{"key": key} for key in keys],
    } | told
    fill_bucket(bucket, [("inventory/2026-11-20T01-00Z/manifest.json", json.dumps(manifest).encode())])
    return f"s3://{bucket}/inventory/2026-11-20T01-00Z/manifest.json"


def test_an_inventory_in_csv_lists_what_a_listing_does_without_asking_the_store(bucket, photos):
    entries = [(bucket, quote_plus(ref.url.split("/", 3)[3], safe="/"), ref.size_bytes, ref.etag) for ref in photos]
    entries.append((bucket, "inventory/x.json", 1, "e"))
    lines = [f'"{name}","{key}","{size}","2026-11-20T01:00:00.000Z","{etag}"\n' for name, key, size, etag in entries]
    source = inventory_of(bucket, [gzip.compress(text.encode()) for text in ("".join(lines[2:]), "".join(lines[:2]))])
    before = requests()

    assert listed(source) == photos

    assert (requests() - before)["stat"] == 0


def test_an_inventory_in_parquet_leaves_out_what_is_deleted_or_out_of_date(bucket, photos):
    rows = [(ref, True, False) for ref in photos] + [(photos[0], False, False), (photos[1], True, True)]
    data = parquet_of(
        bucket=[bucket] * 5,
        key=[ref.url.split("/", 3)[3] for ref, _, _ in rows],
        size=[ref.size_bytes for ref, _, _ in rows],
        e_tag=[ref.etag for ref, _, _ in rows],
        is_latest=[is_latest for _, is_latest, _ in rows],
        is_delete_marker=[is_deleted for _, _, is_deleted in rows],
    )

    assert listed(inventory_of(bucket, [data], fileFormat="Parquet", fileSchema="message s3.inventory {...}")) == photos


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (b"[]", "not the manifest.json of an S3 Inventory"),
        (b'{"files": []}', "not the manifest.json of an S3 Inventory"),
        (
            b'{"destinationBucket": "b", "files": [], "fileSchema": "Bucket, Key", "fileFormat": "ORC"}',
            "an S3 Inventory in ORC; expected CSV or Parquet",
        ),
        (
            b'{"destinationBucket": "b", "files": [], "fileSchema": "Bucket, Key, Size", "fileFormat": "CSV"}',
            "the S3 Inventory has no ETag; let it list Size and ETag",
        ),
    ],
)
def test_an_inventory_that_will_not_do_is_refused(told, words):
    with pytest.raises(UsageError, match=words):
        read_inventory(told, "s3://b/manifest.json")


def test_the_command_takes_a_manifest_and_a_second_call_finds_nothing_to_do(bucket, drawings, weights):
    fill_bucket(bucket, drawings[:6])
    keys = [key for key, _ in drawings[:4]] + ["Images/gone.jpg"]
    boto3.client("s3").put_object(Bucket=bucket, Key="list.csv", Body="\n".join(["image", *keys]).encode())
    command = [f"s3://{bucket}/list.csv", f"s3://{bucket}/out", "--weights", str(weights), "--cluster", "cpu"]

    first = run(*command, "--max-failure-rate", "1", "--no-report")
    second = run(*command, "--max-failure-rate", "1")

    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert "images       5: 4 ok, 1 failed" in first.stdout
    assert "failed       1 in read: gone since it was listed" in first.stdout
    assert "nothing to do" in second.stdout
