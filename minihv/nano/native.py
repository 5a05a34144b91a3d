"""The native column: the same method with a process of the host instead of a guest."""

import platform
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from minihv.nano.dialogue import parse
from minihv.nano.measure import Goal, Measured, Timing, measure
from minihv.nano.model import NO_WAY, Cell
from minihv.nano.native_code import LOOPS
from minihv.nano.rows import Row

CALIBRATION_NS = 50_000_000


class NativeRunner:
    """Owns the process; a context manager. Answers with cells, never with an exception of the child's."""

    def __init__(self) -> None:
        self.broken = ""
        """Why it cannot work here."""
        self._child: subprocess.Popen[str] | None = None
        if platform.machine() not in ("x86_64", "AMD64") or sys.platform != "linux":
            self.broken = (
                f"this host is {sys.platform} on {platform.machine()}, the loops are for x86-64 Linux"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.communicate()

    def run_row(self, row: Row, goal: Goal) -> tuple[Cell, float]:
        """The cell of `row`, and ticks a second (0 without a measurement)."""
        if row.name not in LOOPS:
            return Cell(why=NO_WAY), 0.0
        if not self.broken:
            method = measure(goal)
            count = next(method)
            while not self.broken:
                timing = self._ask(row.name, count)
                if timing is None:
                    break
                try:
                    count = method.send(timing)
                except StopIteration as end:
                    return _cell(end.value), end.value.tick_hz
        return Cell(why=self.broken), 0.0

    def tick_hz(self) -> float:
        """The host's time-stamp ticks a second; 0 where the process cannot tell."""
        first = self._ask("call/ret_user", 1)
        last = first
        while first is not None and last is not None and last.host_ns - first.host_ns < CALIBRATION_NS:
            last = self._ask("call/ret_user", 1 << 16)
        if first is None or last is None:
            return 0.0
        return (last.now - first.now) * 1e9 / (last.host_ns - first.host_ns)

    def _ask(self, name: str, count: int) -> Timing | None:
        """One answer; None: `broken` tells why there is none."""
        if self.broken:
            return None
        child = self._child or self._start()
        assert child.stdin is not None
        assert child.stdout is not None
        line = ""
        try:
            child.stdin.write(f"{name} {count}\n")
            child.stdin.flush()
            line = child.stdout.readline()
        except BrokenPipeError:
            line = ""  # it is gone: `_died` says how
        timing = parse(line.rstrip())
        if timing is None:
            self.broken = line[2:].strip() if line.startswith("! ") else self._died(child)
        return timing

    def _start(self) -> "subprocess.Popen[str]":
        home = Path(__file__).resolve().parent.parent.parent
        code = f"import sys; sys.path.insert(0, {str(home)!r}); import runpy; "
        code += "runpy.run_module('minihv.nano.child', run_name='__main__')"
        pipe = subprocess.PIPE
        self._child = subprocess.Popen(
            [sys.executable, "-c", code], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
        )
        return self._child

    def _died(self, child: "subprocess.Popen[str]") -> str:
        self.close()
        status = child.returncode
        if status is not None and -status in (signal.SIGILL, signal.SIGSEGV, signal.SIGFPE, signal.SIGBUS):
            return f"the process with the loops was ended by {signal.Signals(-status).name}"
        return f"the process with the loops ended with status {status}"


def _cell(measured: Measured) -> Cell:
    return Cell(
        why="",
        count=measured.count,
        rounds_ns=tuple(ticks * 1e9 / measured.tick_hz for ticks in measured.rounds),
    )
