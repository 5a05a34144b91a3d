"""What the tests of the command line share: how a command ended, and flat guests of a few bytes."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

USAGE, CANNOT_START, CRASHED, TIMED_OUT, BUDGET_SPENT, VMM_STOPPED = 2, 240, 242, 244, 246, 248
SCRIPT = Path(sys.executable).with_name("minihv")
"""The installed console script."""


class Done(NamedTuple):
    """How a command ended and what it said."""

    status: int
    out: str
    err: str


Typed = Callable[..., Done]


def works(engine: str) -> bool:
    """Whether `engine` can run guests here."""
    from minihv.engine.select import survey

    return survey()[engine] is None


def assert_one_sentence(done: Done, status: int, tells: tuple[str, ...]) -> None:
    """The form of every refusal."""
    assert done.err.startswith("minihv: "), done.err
    assert done.err.count("\n") == 1, done.err
    assert done.err.endswith("\n")
    assert "Traceback" not in done.err
    for words in tells:
        assert words in done.err
    assert done.status == status, done.err
    assert done.out == ""


def out_byte(port: int, value: int) -> bytes:
    """mov al, value; mov dx, port; out dx, al: the same bytes in 32- and 64-bit mode but for MOV's prefix."""
    return b"\xb0" + bytes((value,)) + b"\x66\xba" + port.to_bytes(2, "little") + b"\xee"


def flat_guest(folder: str | os.PathLike[str], code: bytes, name: str = "guest.bin") -> list[str]:
    """The arguments that run `code` as a flat 64-bit image."""
    path = Path(folder) / name
    path.write_bytes(code)
    return ["run", str(path), "--format", "flat64"]
