"""What the user calls a guest: a bundled name, a path, or bytes."""

import os
from typing import NamedTuple

from minihv.errors import ImageError

IMAGES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "images")
ALIASES = {"hello": "hello64"}
MAX_IMAGE = 1 << 30
"""A guest image or module above this is refused before it is read: nothing of that size is one."""


class BundledGuest(NamedTuple):
    """One row of images/index.json."""

    name: str
    file: str
    purpose: str
    shows: str
    format: str | None


def bundled_guests() -> dict[str, BundledGuest]:
    """The guests inside the package, by name."""
    import json

    with open(os.path.join(IMAGES, "index.json"), encoding="utf-8") as file:
        index = json.load(file)
    return {
        name: BundledGuest(name, row["file"], row["purpose"], row["shows"], row.get("format"))
        for name, row in index.items()
    }


def find_image(guest: str) -> str:
    """The file behind a bundled name or a path. Raises ImageError with what there is instead.

    A name without a slash is a bundled guest first; a file of that name in the working directory is
    reached by ./name.
    """
    if "/" not in guest and "." not in guest:
        name = ALIASES.get(guest, guest)
        for suffix in (".elf", ".img"):
            path = os.path.join(IMAGES, name + suffix)
            if _exists(path):
                return path
    if not guest or not _exists(guest):
        raise ImageError(
            f"expected a guest image or a bundled guest, found neither a file nor a guest named {guest!r}; "
            f"`minihv guests` lists the bundled ones"
        )
    return guest


def read_image(path: str, what: str = "guest image") -> bytes:
    """The file's bytes. Raises ImageError where it is no regular file or cannot be read."""
    if not _exists(path):
        raise ImageError(f"expected a {what}, found no file named {path!r}; name one that is there")
    if os.path.isdir(path):
        raise ImageError(f"expected a {what}, found the folder {path}; name a file in it")
    if not os.path.isfile(path):
        raise ImageError(f"expected a {what}, found {path}, which is no regular file; copy it to one")
    try:
        size = os.path.getsize(path)
        if size > MAX_IMAGE:
            raise ImageError(f"{path}: expected a {what} of at most 1 GiB, found {size} bytes")
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror}; make it readable") from error


def _exists(path: str) -> bool:
    try:
        return os.path.exists(path)
    except (OSError, ValueError):
        return False  # a name that no file can have, or behind a folder that is closed to us
