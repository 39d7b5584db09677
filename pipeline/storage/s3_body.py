"""The body of an S3 answer, whole and as its ETag promises, or an error. Effects: reads the network.

An ETag is the MD5 of the bytes, unless they came in several parts or are encrypted with a key of somebody's own: S3
says so (https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html), other servers have ETags of their own which
only look like it. So an MD5 is believed in once it has been right in a bucket; until then the same bytes twice will do.
"""

import asyncio
import hashlib
import re
from typing import Any

from aiohttp import ClientError as AiohttpError
from botocore.exceptions import HTTPClientError, IncompleteReadError, ReadTimeoutError
from botocore.httpchecksum import FlexibleChecksumError

from pipeline.storage.counting import count
from pipeline.storage.interface import ENDS_EARLY, MISMATCH, ReadFault

_MD5 = re.compile("[0-9a-f]{32}")

_BIG_BYTES = 1 << 20
"""From here on, hashing takes longer than handing it to another thread."""


class DamagedBodyError(Exception):
    """A body that did not come as it stands in the store: the next attempt may be luckier."""

    def __init__(self, fault: ReadFault) -> None:
        super().__init__(fault)
        self.fault = fault


class BodyReader:
    """Reads bodies and remembers, by bucket, whether ETags have proved to be MD5s. Safe between threads."""

    def __init__(self) -> None:
        self._proven: set[str] = set()
        self._encrypted: set[str] = set()

    async def read(self, bucket: str, answer: dict[str, Any], seen: set[str]) -> bytes:
        """Return the body of an answer of ``get_object``.

        Parameters
        ----------
        seen
            The digests of the bodies that came for this object before; this one's is added.

        Raises
        ------
        DamagedBodyError
            If it is shorter than announced, or neither what its ETag says nor what came before.
        """
        data = await _whole(answer)
        count(bytes_read=len(data))
        if _is_encrypted(answer):
            self._encrypted.add(bucket)
        elif _is_md5(etag_of(answer)) and not self._is_believable(bucket, etag_of(answer), await _md5(data), seen):
            raise DamagedBodyError(MISMATCH)
        return data

    def is_vouched_for(self, bucket: str, etag: str) -> bool:
        """Return whether an ETag is an MD5 as far as can be known without the object's own answer.

        So it is where one has proved to be, and no object has been met whose ETag is of another kind.
        """
        return bucket in self._proven and bucket not in self._encrypted and _is_md5(etag)

    @staticmethod
    def is_what_etag_says(etag: str, data: bytes) -> bool:
        """Return whether bytes have the MD5 that an ETag is."""
        return _hexdigest(data) == etag

    def _is_believable(self, bucket: str, etag: str, digest: str, seen: set[str]) -> bool:
        if digest == etag:
            self._proven.add(bucket)
            return True
        came_before = digest in seen
        seen.add(digest)
        return came_before and bucket not in self._proven


def plain_etag(etag: str | None) -> str:
    """Return an ETag without its quotes, which some servers send and some do not; empty where there is none.

    >>> plain_etag('"900150983cd24fb0d6963f7d28e17f72"')
    '900150983cd24fb0d6963f7d28e17f72'
    """
    return (etag or "").removeprefix("W/").strip('"')


def etag_of(entry: dict[str, Any]) -> str:
    """Return the plain ETag of one of botocore's answers, or of an entry of a listing."""
    return plain_etag(entry.get("ETag"))


async def _whole(answer: dict[str, Any]) -> bytes:
    try:
        async with answer["Body"] as body:
            data: bytes = await body.read()
    except ReadTimeoutError:
        raise  # silence, not damage
    except (AiohttpError, HTTPClientError, IncompleteReadError) as error:
        raise DamagedBodyError(ENDS_EARLY) from error
    except FlexibleChecksumError as error:  # newer objects carry a checksum beside their ETag, which botocore compares
        raise DamagedBodyError(MISMATCH) from error
    if len(data) != answer.get("ContentLength", len(data)):
        raise DamagedBodyError(ENDS_EARLY)
    return data


def _is_encrypted(answer: dict[str, Any]) -> bool:
    return "aws:kms" in str(answer.get("ServerSideEncryption")) or "SSECustomerAlgorithm" in answer


def _is_md5(etag: str) -> bool:
    return _MD5.fullmatch(etag) is not None


async def _md5(data: bytes) -> str:
    return _hexdigest(data) if len(data) < _BIG_BYTES else await asyncio.to_thread(_hexdigest, data)


def _hexdigest(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
