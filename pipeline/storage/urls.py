"""URLs as text. Pure."""

from urllib.parse import urlsplit, urlunsplit


def join(folder: str, *names: str) -> str:
    """Return the URL of something below a folder.

    >>> join("s3://bucket/outcomes", "plan", "page-000000.parquet")
    's3://bucket/outcomes/plan/page-000000.parquet'
    """
    return "/".join((folder.rstrip("/"), *names))


def split_s3(url: str) -> tuple[str, str]:
    """Return the bucket and the key of an S3 URL.

    >>> split_s3("s3://bucket/dogs/1.jpg")
    ('bucket', 'dogs/1.jpg')
    """
    bucket, _, key = url.partition("://")[2].partition("/")
    return bucket, key


def redact(url: str) -> str:
    """Return a URL without what it may carry in secret: user, password, query (presigned URLs sign there).

    >>> redact("https://me:secret@host/weights.pth?X-Amz-Signature=abc")
    'https://host/weights.pth'
    """
    if not url.startswith(("http://", "https://")):
        return url
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
