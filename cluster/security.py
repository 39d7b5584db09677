"""Encrypted connections: from certificate files to what Dask connects with, or one line that says what is wrong."""

import ipaddress
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from distributed.comm import parse_host_port
from distributed.security import Security

PROBE_S = 3.0
"""Seconds that a peer has for its part of a handshake, where one failed before and nobody knows why."""

_LENGTH_BYTES = 8
"""Of Dask's messages, before each: https://distributed.dask.org/en/stable/protocol.html"""

_LONGEST_GREETING = 1 << 20

_OPEN = ("tcp://", "ws://", "ucx://", "ucxx://")
"""Dask's ways of connecting that neither encrypt nor ask who is there."""

_IN_YAML = "distributed.comm.tls in Dask's YAML"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Files in PEM, named as ``dask scheduler`` and ``dask worker`` name them; None is left to Dask's configuration."""

    ca_file: str | None = None
    """The authority's certificate, by which the scheduler is known."""

    cert: str | None = None
    """Ours, by which the scheduler knows us."""

    key: str | None = None
    """Of `cert`; None where `cert` holds it too."""

    @property
    def is_given(self) -> bool:
        """Whether any of them is."""
        return any((self.ca_file, self.cert, self.key))

    def __str__(self) -> str:
        named = {"--tls-ca-file": self.ca_file, "--tls-cert": self.cert, "--tls-key": self.key}
        return " ".join(f"{option} {file}" for option, file in named.items() if file)


def security_of(cluster: str, address: str, files: TlsFiles) -> Security:
    """Return what a client connects to a scheduler with.

    Parameters
    ----------
    cluster
        As it was given by ``--cluster``, for people.
    address
        Of the scheduler, with its protocol.
    files
        What the options name.

    Raises
    ------
    ValueError
        If certificates are missing, cannot be used, or are given where none are taken.
    """
    if files.is_given and not address.startswith("tls://"):
        raise ValueError(
            f"{files}: {address} takes no certificates; give --cluster tls://{_place(address)}, "
            "or leave the --tls options out"
        )
    security = Security(**_fields(files))
    if address.startswith("tls://"):
        _check_files(cluster, address, security, files)
    elif security.require_encryption:
        raise ValueError(
            f"--cluster {cluster}: {address} is not encrypted, and Dask's configuration asks for it "
            f"(distributed.comm.require-encryption); give --cluster tls://{_place(address)}"
        )
    return security


def worker_as_client(security: Security) -> Security:
    """Return what a worker's process connects with as a client: the certificate that it has, where clients have none.

    ``dask worker --tls-cert`` names one for the worker alone.
    """
    if security.tls_client_cert or not security.tls_worker_cert:
        return security
    as_worker = security.get_tls_config_for_role("worker")
    return Security(
        require_encryption=security.require_encryption,
        tls_ca_file=as_worker["ca_file"],
        tls_ciphers=as_worker["ciphers"],
        tls_client_cert=as_worker["cert"],
        tls_client_key=as_worker["key"],
    )


def check_greeting(address: str, security: Security, timeout_s: float) -> None:
    """Raise an `OSError` unless a Dask process answers in time, where that can be told from its first bytes.

    `distributed.Client` waits without limit for somebody who is silent, and takes the first bytes of somebody who is no
    Dask process for the length of what follows.
    """
    if not address.startswith(("tcp://", "tls://")):
        return
    context = security.get_connection_args("client")["ssl_context"] if address.startswith("tls://") else None
    length = int.from_bytes(_first_bytes(address, context, _LENGTH_BYTES, timeout_s), "little")
    if not 0 < length < _LONGEST_GREETING:
        raise ConnectionError(f"whoever answers at {address} is no Dask process")


def why_refused(cluster: str, address: str, security: Security) -> str | None:
    """Return in one line why a scheduler and we cannot connect, as far as it is TLS; None where it is not."""
    is_tls = address.startswith("tls://")
    try:
        context = security.get_connection_args("client")["ssl_context"] if is_tls else _trusting()
        _first_bytes(address, context, 1, PROBE_S)
    except ssl.SSLCertVerificationError as error:
        return (
            f"--cluster {cluster}: the certificate of {address} is not one of the authority that --tls-ca-file names "
            f"({error.verify_message}); give the CA file that the scheduler was started with"
        )
    except ssl.SSLError as error:
        if "ALERT" in (error.reason or ""):
            return _refusal(cluster, address, error.reason)
        return _mistaken(cluster, address) if is_tls else None
    except (OSError, ValueError):  # nobody answers, or it is no address
        return None
    return None if is_tls else _refusal(cluster, address)


def is_open_to_strangers(address: str) -> bool:
    """Return whether anybody but this machine can reach a scheduler, read its traffic, and have it run what they like.

    >>> is_open_to_strangers("tcp://10.0.0.7:8786"), is_open_to_strangers("tcp://127.0.0.1:8786")
    (True, False)
    """
    return address.startswith(_OPEN) and not _is_on_this_machine(parse_host_port(_place(address))[0])


def _fields(files: TlsFiles) -> dict[str, str | None]:
    """Return what the options say over Dask's configuration; a certificate comes with its own key."""
    authority = {"tls_ca_file": files.ca_file} if files.ca_file else {}
    ours = {"tls_client_cert": files.cert, "tls_client_key": files.key} if files.cert else {}
    key = {"tls_client_key": files.key} if files.key else {}
    return authority | ours | key


def _check_files(cluster: str, address: str, security: Security, files: TlsFiles) -> None:
    tls = security.get_tls_config_for_role("client")
    authority = "--tls-ca-file" if files.ca_file else "distributed.comm.tls.ca-file"
    ours = "--tls-cert" if files.cert else "distributed.comm.tls.client.cert"
    missing = [name for name, file in ((authority, tls["ca_file"]), (ours, tls["cert"])) if not file]
    if missing:
        raise ValueError(
            f"--cluster {cluster}: {address} takes only clients with a certificate, and there is no "
            f"{' and no '.join(missing)}; give --tls-ca-file, --tls-cert and --tls-key, or set {_IN_YAML}"
        )
    if any("\n" in file for file in (tls["ca_file"], tls["cert"], tls["key"] or "")):
        return  # Dask's configuration may hold them themselves
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with _readable(authority, tls["ca_file"]):
        context.load_verify_locations(cafile=tls["ca_file"])
    key = "--tls-key" if files.key else "distributed.comm.tls.client.key"
    with _readable(ours, tls["cert"]), _readable(key, tls["key"]), _a_pair(ours, key, tls):
        context.load_cert_chain(tls["cert"], tls["key"], password=_no_passphrase)


@contextmanager
def _readable(option: str, file: str | None) -> Iterator[None]:
    """Say of a file what is wrong with it."""
    try:
        if file is not None:
            Path(file).open("rb").close()
        yield
    except ssl.SSLError as error:
        raise ValueError(f"{option} {file}: expected a certificate or key in PEM ({error.reason})") from error
    except OSError as error:
        raise ValueError(f"{option} {file}: expected a readable file in PEM ({error.strerror})") from error


@contextmanager
def _a_pair(cert: str, key: str, tls: dict[str, str | None]) -> Iterator[None]:
    try:
        yield
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ValueError(f"{key} {tls['key']} does not belong to {cert} {tls['cert']}: give its own key") from error
        told = f"{cert} {tls['cert']}" + (f", {key} {tls['key']}" if tls["key"] else " without --tls-key")
        raise ValueError(f"{told}: expected a certificate and its private key in PEM ({error.reason})") from error


def _no_passphrase() -> str:
    raise ValueError("the key of --tls-cert is encrypted: Dask would ask for its passphrase; give one without")


def _trusting() -> ssl.SSLContext:
    """Return what shakes hands with anybody: it is only asked whether they speak TLS at all."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _first_bytes(address: str, context: ssl.SSLContext | None, n_bytes: int, timeout_s: float) -> bytes:
    """Return what a server says first; with TLS 1.3 only then a refusal of our certificate shows."""
    plain = socket.create_connection(parse_host_port(_place(address)), timeout=timeout_s)
    with plain, nullcontext(plain) if context is None else context.wrap_socket(plain) as connection:
        return connection.recv(n_bytes)


def _mistaken(cluster: str, address: str) -> str:
    return f"--cluster {cluster}: {address} does not speak TLS; give --cluster tcp://{_place(address)}"


def _refusal(cluster: str, address: str, alert: str | None = None) -> str:
    place = _place(address)
    if address.startswith("tls://"):
        why = f" ({alert.lower().replace('_', ' ')})" if alert else ""
        return (
            f"--cluster {cluster}: {address} refuses our certificate{why}; give a --tls-cert and --tls-key that the "
            "scheduler's own authority has signed and that are still valid"
        )
    return (
        f"--cluster {cluster}: the scheduler at {place} speaks TLS only; give --cluster tls://{place} with "
        "--tls-ca-file, --tls-cert and --tls-key"
    )


def _place(address: str) -> str:
    """Return the host and port of an address.

    >>> _place("tls://10.0.0.7:8786/")
    '10.0.0.7:8786'
    """
    return address.partition("://")[2].rstrip("/")


def _is_on_this_machine(host: str) -> bool:
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in found)
