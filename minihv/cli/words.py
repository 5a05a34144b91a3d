"""How the command line speaks: one sentence on standard error, colour only where it is wanted."""

import os
import sys
from typing import TextIO

from minihv.errors import HostError
from minihv.report.escape import visible, visible_lines


def fail(message: str, status: int) -> int:
    """Print "minihv: message" on standard error; gives back `status`."""
    say(message)
    return status


def say(message: str) -> None:
    """One line on standard error; what a guest or a file name put into it is shown, not obeyed."""
    note(f"minihv: {visible(message)}")


def note(text: str) -> None:
    """More than a line on standard error; that nobody reads it is no reason to fail."""
    if sys.stderr is not None:  # it is None where the descriptor was closed from the start
        try:
            print(visible_lines(text), file=sys.stderr, flush=True)
        except OSError:
            return


def tell(text: str | bytes) -> None:
    """Results, on standard output at once. Raises HostError where it cannot take them; BrokenPipeError where
    nobody reads them, which `minihv.cli.main` turns into a status."""
    if sys.stdout is None:
        return
    try:
        if isinstance(text, bytes):
            sys.stdout.buffer.write(text)
        else:
            sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        leave_stdout()
        raise HostError(
            f"cannot write to standard output: {error.strerror}; send it to a place with room"
        ) from error


def leave_stdout() -> None:
    """Point standard output to nowhere, so that what is still buffered harms nobody when the process ends."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
    except OSError:
        return  # no descriptor to be had: the end of the process copes with what cannot be flushed, too
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def wants_colour(stream: TextIO) -> bool:
    """A terminal, and NO_COLOR (no-color.org) is not set."""
    return stream.isatty() and not os.environ.get("NO_COLOR")
