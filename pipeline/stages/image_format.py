"""Which format a file has by its first bytes, whatever its name says. Pure."""

_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF8", "GIF"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"BM", "BMP"),
)
_HEIF_BRANDS = (b"heic", b"heix", b"mif1", b"msf1")


def format_of(data: bytes) -> str:
    """Return the name of a file's format, as its specification's first bytes tell; ``empty`` or ``unknown`` if none do.

    >>> [format_of(data) for data in (bytes.fromhex("ffd8ffe0"), b"RIFF....WEBPVP8 ", b"", b"<html>")]
    ['JPEG', 'WebP', 'empty', 'unknown']
    """
    if not data:
        return "empty"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data[4:8] == b"ftyp":  # https://www.iana.org/assignments/media-types/image/heic
        return {b"avif": "AVIF"}.get(data[8:12], "HEIF" if data[8:12] in _HEIF_BRANDS else "unknown")
    return next((name for signature, name in _SIGNATURES if data.startswith(signature)), "unknown")
