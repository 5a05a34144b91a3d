"""How the command line speaks: one sentence on standard error, colour only where it is wanted."""

import os
import sys
from typing import TextIO


def fail(message: str, status: int) -> int:
    """Print "minihv: message" on standard error; gives back `status`."""
    say(message)
    return status


def say(message: str) -> None:
    """One line on standard error; a closed standard error is no reason to fail."""
    try:
        print(f"minihv: {message}", file=sys.stderr, flush=True)
    except OSError:
        return


def wants_colour(stream: TextIO) -> bool:
    """A terminal, and NO_COLOR (no-color.org) is not set."""
    return stream.isatty() and not os.environ.get("NO_COLOR")
