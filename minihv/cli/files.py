"""Files that commands read and write, with one sentence for everything that can go wrong."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from minihv.errors import HostError, UsageError

MAX_BYTES = 256 << 20
"""A recorded run with all its sites is a few MiB; anything larger was made by somebody else."""


def read_text(path: str) -> str:
    """The text of a document; - is standard input. Raises UsageError."""
    import sys

    try:
        if path == "-":
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with open(path, "rb") as file:
                data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read: {error.strerror}; name a file that minihv wrote"
        ) from error
    if len(data) > MAX_BYTES:
        raise UsageError(
            f"{path}: expected a report of at most {MAX_BYTES >> 20} MiB, found more; name a file that "
            "minihv wrote"
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path}: expected JSON in UTF-8, found byte {data[error.start]:#04x} at offset {error.start}; "
            "name a file that minihv wrote"
        ) from error


@contextmanager
def writing(path: str, mode: str = "w") -> Iterator[IO[str]]:
    """A text file to write; what the host refuses becomes a HostError."""
    try:
        with open(path, mode, encoding="utf-8", errors="backslashreplace") as file:
            yield file
    except OSError as error:
        raise HostError(f"{path}: cannot be written: {error.strerror}; choose another file") from error


def check_writable(*paths: str | None) -> None:
    """Before the run, not after it: a report that cannot be written must not cost a run."""
    for path in paths:
        if path is not None and path != "-":
            with writing(path, "a"):
                continue


def write_text(text: str, path: str) -> None:
    """Write a whole document; - is standard output."""
    if path == "-":
        from minihv.cli.words import tell

        tell(text)
        return
    with writing(path) as file:
        file.write(text)
