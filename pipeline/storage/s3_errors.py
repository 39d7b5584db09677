"""What an error of S3 means: will it pass, is it one object's fault, and what should a person do? Pure."""

from aiohttp import ClientError as AiohttpError
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
    ReadTimeoutError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.parsers import ResponseParserError

from pipeline.storage.interface import CHANGED, GONE, REFUSED, ReadFault
from pipeline.storage.s3_body import DamagedBodyError

S3_ERRORS = (OSError, BotoCoreError, ClientError, AiohttpError, ResponseParserError, DamagedBodyError)
"""All that a request may raise, but for mistakes of ours."""

UNMET = {"PreconditionFailed", "412"}
"""Something stands where a conditional put expected nothing."""

UNSUPPORTED = {"NotImplemented", "MethodNotAllowed", "501", "405"}

_SICK_ACCOUNT = {
    "InvalidAccessKeyId": "the access key is unknown there",
    "SignatureDoesNotMatch": "the secret key does not fit the access key",
    "ExpiredToken": "the credentials have expired",
    "ExpiredTokenException": "the credentials have expired",
    "InvalidToken": "the session token is invalid",
    "NoSuchBucket": "there is no such bucket",
}
_REFUSALS = ("AccessDenied", "403", "InvalidObjectState", "AllAccessDisabled")
_FAULTS = dict.fromkeys(("NoSuchKey", "404"), GONE) | dict.fromkeys(UNMET, CHANGED) | dict.fromkeys(_REFUSALS, REFUSED)
_PASSING = {
    "SlowDown",
    "InternalError",
    "RequestTimeout",
    "Throttling",
    "ThrottlingException",
    "RequestTimeTooSkewed",
    "BadDigest",  # a body of ours that was damaged on its way
    "IncompleteBody",
    "ConditionalRequestConflict",  # another writer was at it in this moment
    "OperationAborted",
}
_FOR_GOOD = {501, 505, 507}
"""Statuses above 500 that no patience changes: not implemented, and no space left."""

_SILENCE = (TimeoutError, ReadTimeoutError, ConnectTimeoutError)
_PASSING_ERRORS = (
    *_SILENCE,
    HTTPClientError,
    BotoConnectionError,
    AiohttpError,
    ConnectionError,
    ResponseParserError,
    DamagedBodyError,
)


def code_of(error: BaseException | None) -> str:
    """Return S3's own code of an error; empty where S3 did not answer."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def may_pass(error: Exception) -> bool:
    """Return whether the same request may succeed a little later."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return (status >= 500 and status not in _FOR_GOOD) or code_of(error) in _PASSING
    return isinstance(error, _PASSING_ERRORS)


def is_answer(error: Exception) -> bool:
    """Return whether a refused request shows that the store itself is well."""
    return _FAULTS.get(code_of(error)) is REFUSED


def fault_of(error: BaseException | None) -> ReadFault | None:
    """Return the fault of one object that an error names by itself."""
    return error.fault if isinstance(error, DamagedBodyError) else _FAULTS.get(code_of(error))


def no_usable_answer(error: BaseException | None) -> ReadFault:
    """Return the fault of an object that fails while its store is well."""
    without_code = "silence" if isinstance(error, _SILENCE) else "connection lost"
    return ReadFault(f"no usable answer: {code_of(error) or without_code}")


def is_without_keys(error: BaseException | None) -> bool:
    """Return whether a request was never sent, since this process found nothing to sign it with."""
    return isinstance(error, NoCredentialsError | PartialCredentialsError | CredentialRetrievalError)


def explain(error: Exception, bucket: str, deadline_s: float) -> str:
    """Return what happened and what to do about it, without the place."""
    code = code_of(error)
    if isinstance(error, NoCredentialsError):
        return "no credentials found; set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or AWS_PROFILE"
    if code in _SICK_ACCOUNT:
        return f"{_SICK_ACCOUNT[code]} (bucket {bucket}, {code})"
    if code in _REFUSALS:
        return f"access to bucket {bucket} denied ({code}); check the credentials' rights"
    if may_pass(error):
        return f"no usable answer within {deadline_s:g} s ({_brief(error)})"
    return _brief(error)


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
