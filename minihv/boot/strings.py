"""Command line and modules, for the formats that carry them."""

from minihv.boot.image import ImageFile
from minihv.boot.place import Layout
from minihv.boot.plan import LoadRequest
from minihv.errors import ImageError

MAX_STRING = 4096
"""Bytes of a command line or a module name with its NUL; kernels copy into buffers of about this size."""
MAX_MODULES = 64
PAGE = 4096


def c_string(image: ImageFile, text: str) -> bytes:
    """UTF-8 with a NUL. Raises ImageError for a text with a NUL inside, above `MAX_STRING`, or no text."""
    try:
        # The operating system's own bytes, where the shell handed over something that is not UTF-8.
        data = text.encode("utf-8", "surrogateescape") + b"\0"
    except UnicodeEncodeError as error:
        raise image.refuse(
            f"expected a command line or module name in Unicode, found {text[:40]!r}"
        ) from error
    if len(data) > MAX_STRING or b"\0" in data[:-1]:
        raise image.refuse(
            f"expected a command line or module name of at most {MAX_STRING - 1} bytes without NUL, "
            f"found {len(data) - 1} bytes beginning {text[:40]!r}"
        )
    return data


def place_modules(request: LoadRequest, layout: Layout) -> list[tuple[int, int, str]]:
    """Put the modules page-aligned above the image, in order: (first GPA, GPA after the last byte, name).

    Raises ImageError where RAM ends before, and for an empty module or too many of them.
    """
    if len(request.modules) > MAX_MODULES:
        raise ImageError(
            f"{request.name}: expected at most {MAX_MODULES} modules, found {len(request.modules)}"
        )
    placed = []
    above = layout.image_end
    for name, data in request.modules:
        if not data:
            raise ImageError(f"{name}: expected a module with contents, found an empty file")
        # Whole pages, so that a guest may map a module without exposing something else.
        size = len(data) + PAGE - 1 & -PAGE
        chunk = layout.place(data, f"module {name}", size=size, align=PAGE, prefer=above, low=above)
        placed.append((chunk.gpa, chunk.gpa + len(data), name))
        above = chunk.end
    return placed
