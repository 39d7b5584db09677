"""The command as a process of its own, and what it leaves behind, read as a stranger would."""

import json
import os
import subprocess
import sys

import boto3
import pyarrow.dataset
import pyarrow.fs

from pipeline.demo.s3 import CREDENTIALS

TIMEOUT_S = 240


def command(*args):
    return [sys.executable, "-m", "pipeline.run", *args]


def run(*args, folder=None, **environment):
    return subprocess.run(
        command(*args),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        cwd=folder,
        env=os.environ | environment,
    )


def read_outcomes(endpoint, folder):
    """Read the table as any stranger would: the folder and nothing else."""
    s3 = pyarrow.fs.S3FileSystem(
        endpoint_override=endpoint,
        access_key=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        secret_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        region="us-east-1",
    )
    table = pyarrow.dataset.dataset(folder.removeprefix("s3://"), filesystem=s3).to_table()
    return table.to_pandas().sort_values("image").reset_index(drop=True)


def read_json(url):
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return json.loads(boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())


def keys_of(bucket, prefix=""):
    return [
        entry["Key"] for entry in boto3.client("s3").list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
    ]
