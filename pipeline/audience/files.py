"""Files that a command leaves for people on this machine. Effects: a file."""

from pathlib import Path

from pipeline.errors import UsageError


def check_writable(option: str, file: str) -> None:
    """Raise `UsageError` unless the file that an option names can be written; an older one is left as it is."""
    is_new = not Path(file).exists()
    try:
        with Path(file).open("ab"):
            pass
        if is_new:
            Path(file).unlink()
    except OSError as error:
        raise UsageError(
            f"{option} {file}: expected the path of a file that can be written ({error.strerror})"
        ) from error


def save_text(text: str, path: Path) -> None:
    """Write a file; raise `UsageError` where that cannot be."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
