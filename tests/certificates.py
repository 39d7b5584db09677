"""Certificates of our own making, as files that Dask's options name."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

PEM = serialization.Encoding.PEM


class Authority:
    """Signs certificates.

    Parameters
    ----------
    folder
        Where everything that is signed is written to.
    name
        What tells one authority's files from another's.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, f"{name}-authority"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.file = self._write("pem", _certificate(self._name, self._name, self._key, self._key).public_bytes(PEM))

    def sign(self, name: str) -> tuple[str, str]:
        """Return the files of a new certificate and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _certificate(name, self._name, key, self._key)
        private = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return self._write(f"{name}.pem", certificate.public_bytes(PEM)), self._write(f"{name}-key.pem", private)

    def _write(self, name: str, data: bytes) -> str:
        path = self._folder / f"{self._name}-{name}"
        path.write_bytes(data)
        return str(path)


def _certificate(
    subject: str, issuer: str, key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=subject == issuer, path_length=None), critical=True)
        .sign(signer, hashes.SHA256())
    )
