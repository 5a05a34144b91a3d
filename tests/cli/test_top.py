"""`minihv top`: lines into a pipe, a full screen with keys on a terminal, and little cost."""

import fcntl
import os
import re
import struct
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_support import CRASHED, TIMED_OUT, USAGE, Done, Typed, assert_one_sentence, flat_guest
from test_terminal import Session

from minihv.cli import top
from minihv.report.live import EMPTY, Sample

POST_FOREVER = b"\x66\xba\x80\x00\xb0\x41\xee\xeb\xfd"
"""mov dx, 0x80; mov al, 'A'; out dx, al; jmp to the out."""
COM1_ONCE = b"\x66\xba\xf8\x03" + b"".join(b"\xb0" + bytes((c,)) + b"\xee" for c in b"hi \x1b[31mred\n")


def test_lines_into_a_pipe(script: Callable[..., Done], tmp_path: Path) -> None:
    guest = flat_guest(tmp_path, POST_FOREVER)[1:]
    done = script("top", *guest, "--interval", "0.1", "--timeout", "0.6")
    assert done.status == TIMED_OUT
    *lines, last = done.out.splitlines()
    assert len(lines) >= 2
    for text in lines:
        assert re.fullmatch(
            r" +[\d.]+s +[\d.]+[kM]? exits/s \(io [\d.]+[kM]?\), \d+ so far, VMM \d+ %, "
            r"hottest: io out 0x80 byte post.CODE at 0x100006",
            text,
        ), text
    counts = [int(found) for found in re.findall(r"(\d+) so far", done.out)]
    assert counts == sorted(counts)
    assert last.endswith("in the whole run")


def test_a_short_guest_gives_the_last_line_only(typed: Typed) -> None:
    done = typed("top", "hello", "--interval", "60")
    assert done.status == 0
    assert re.fullmatch(r" .*io \d+[.\dk]*\), 23 so far, .* in the whole run\n", done.out)


def test_a_crash_is_told(typed: Typed) -> None:
    done = typed("top", "triple", "--interval", "60")
    assert done.status == CRASHED
    assert "triple fault (status 242)" in done.err
    assert "Registers" in done.err


def test_wrong_usage(typed: Typed) -> None:
    assert_one_sentence(typed("top", "hello", "--interval", "0"), USAGE, ("interval",))


class TopSession(Session):
    """top on a terminal of 100 x 40."""

    def __init__(self, *arguments: str) -> None:
        super().__init__("top", *arguments)
        fcntl.ioctl(self.screen, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))


@pytest.fixture
def session(tmp_path: Path) -> Iterator[TopSession]:
    code = COM1_ONCE + POST_FOREVER
    session = TopSession(*flat_guest(tmp_path, code)[1:], "--interval", "0.05", "--timeout", "50")
    yield session
    if session.process.poll() is None:  # the test failed
        session.process.kill()
        session.process.wait()
    os.close(session.screen)
    os.close(session.keyboard)


def test_a_screen_on_a_terminal(session: TopSession) -> None:
    session.read_until(b"post.CODE")
    session.read_until(rb"hi \x1b[31mred")
    assert b"\x1b[31m" not in session.seen
    assert b"vCPU 0 VMM [" in session.seen
    session.type(b"s")
    session.read_until(b"total*")
    session.type(b"p")
    session.read_until(b"PAUSED")
    session.type(b"q")
    assert session.end() == 0
    assert session.attributes() == session.before
    assert b"\x1b[?1049l" in session.seen  # the alternate screen is left
    assert session.seen.rstrip().endswith(b"in the whole run")


def test_ctrl_c_ends_it_and_gives_the_terminal_back(session: TopSession) -> None:
    session.read_until(b"post.CODE")
    session.type(b"\x03")
    assert session.end() == 0
    assert session.attributes() == session.before


def test_keys() -> None:
    reasons: list[str] = []
    keys = top.Keys(reasons.append)
    keys.feed(b"?x\x1b")
    assert (keys.sort, keys.paused, reasons) == ("rate", False, [])
    keys.feed(b"spS")
    assert (keys.sort, keys.paused) == ("time", True)
    keys.feed(b"sPq")
    assert (keys.sort, keys.paused, reasons) == ("rate", False, ["user"])


def test_looking_takes_a_small_share_however_long_it_takes() -> None:
    """A clock that only runs while something is done: 10 ms for a sample, 30 ms for a frame, 1 ms between."""
    now = 0
    spent = 0

    class FakeSampler:
        def take(self) -> Sample:
            nonlocal now, spent
            now += 10_000_000
            spent += 10_000_000
            return EMPTY

    def show(before: Sample, after: Sample) -> None:
        nonlocal now, spent
        now += 30_000_000
        spent += 30_000_000

    looker = top.Looker(FakeSampler(), 0.05, show, lambda: now)  # type: ignore[arg-type]
    for _ in range(20_000):
        now += 1_000_000
        looker.tick()
    assert spent > 0
    assert spent / now < 0.05
