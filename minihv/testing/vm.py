"""What the fixture `vm` gives: guests run on one engine, results that assert."""

from os import PathLike, fspath
from re import Pattern
from typing import Any

from minihv.errors import HandlerFailed
from minihv.exits import Exit
from minihv.host.console import BufferSink
from minihv.machine.build import Parts
from minihv.machine.machine import Machine
from minihv.machine.recorders import Recorder
from minihv.report.model import Exits, OutcomeReport, Report
from minihv.testing.assemble import Program, assemble, why_no_assembler

TIMEOUT = 10.0
"""Seconds after which a guest is ended, unless the test says otherwise: a hanging kernel fails its test."""
SHOWN = 2000
"""Bytes of the console's end shown with a failed test."""
QUIET = frozenset(("exit", "power-off", "halted"))


class VmResult:
    """How one run went. `report` is the whole minihv report; the assertions explain themselves."""

    def __init__(self, engine: str, report: Report, console: bytes, state: str = "") -> None:
        self.engine = engine
        self.report = report
        self.console = console
        """What the guest printed, the last MiB of it."""
        self.state = state
        """Registers, tables and last exits in words, where the guest did not end by itself."""

    @property
    def text(self) -> str:
        """The console as text; what is no UTF-8 is escaped."""
        return self.console.decode("utf-8", "backslashreplace")

    @property
    def outcome(self) -> OutcomeReport:
        return self.report.outcome

    @property
    def status(self) -> int:
        return self.report.outcome.status

    @property
    def exits(self) -> Exits:
        """All exits: `result.exits.where(name="io", register="serial.THR").total`."""
        return self.report.exits

    def assert_outcome(self, reason: str = "exit", status: int = 0) -> "VmResult":
        """It ended for `reason` (a key of minihv.machine.outcome.REASONS) with `status`."""
        __tracebackhide__ = True
        found = (self.outcome.reason, self.status)
        if found != (reason, status):
            detail = f" ({self.outcome.detail})" if self.outcome.detail else ""
            raise AssertionError(
                f"on {self.engine}: expected outcome {reason} with status {status}, "
                f"found {found[0]} with status {found[1]}{detail}"
            )
        return self

    def assert_console(self, expected: "str | bytes | Pattern[str]") -> "VmResult":
        """It printed exactly this; for a compiled pattern: the whole text matches."""
        __tracebackhide__ = True
        if isinstance(expected, str):
            expected = expected.encode()
        if isinstance(expected, bytes):
            if self.console != expected:
                raise AssertionError(_difference(self.engine, expected, self.console))
        elif expected.fullmatch(self.text) is None:
            raise AssertionError(
                f"on {self.engine}: expected a console that matches {expected.pattern!r}, found {self.text!r}"
            )
        return self

    def assert_prints(self, *pieces: str | bytes) -> "VmResult":
        """It printed these, in this order, with anything between."""
        __tracebackhide__ = True
        at = 0
        for piece in pieces:
            wanted = piece.encode() if isinstance(piece, str) else piece
            found = self.console.find(wanted, at)
            if found < 0:
                raise AssertionError(
                    f"on {self.engine}: expected {wanted!r} on the console after byte {at}, "
                    f"found {self.console[at:][:SHOWN]!r}"
                )
            at = found + len(wanted)
        return self

    def assert_exits(self, **counts: int) -> "VmResult":
        """So many exits of each kind, exactly: io=23, mmio=0 (`system_event` stands for system-event)."""
        __tracebackhide__ = True
        for kind, count in counts.items():
            exits = self.exits.where(name=kind.replace("_", "-"))
            if exits.total != count:
                listed = "".join(f"\n  {e.count} {e.name} {e.detail}" for e in exits)
                raise AssertionError(
                    f"on {self.engine}: expected {count} {kind} exits, found {exits.total}{listed}"
                )
        return self

    def assert_budget(self, budgets: str) -> "VmResult":
        """Limits as with `minihv run --budget`: "io=200,mmio=0,p99=50us,wall=2s"."""
        __tracebackhide__ = True
        from minihv.report.budget import check, parse_budgets

        broken = check(self.report, parse_budgets(budgets))
        if broken:
            raise AssertionError("\n".join(f"on {self.engine}: {words}" for words in broken))
        return self

    def describe(self) -> str:
        """The run in words, for a failed test."""
        from minihv.report.escape import visible_lines
        from minihv.report.table import stats_table

        tail = self.console[-SHOWN:].decode("utf-8", "backslashreplace")
        size = len(self.console)
        console = f"console, the last {min(size, SHOWN)} of {size} bytes:\n{visible_lines(tail)}"
        parts = [console, stats_table(self.report), self.state or self.report.autopsy]
        return "\n\n".join(filter(None, parts))


class Vm:
    """Runs guests on one engine. `results` are those of this test so far, the newest last."""

    def __init__(self, engine: str) -> None:
        self.engine = engine
        self.results: list[VmResult] = []

    def run(self, image: str | PathLike[str] | bytes, *, input: bytes | str = b"", **config: Any) -> VmResult:
        """Run a bundled guest, a file, the bytes of an image, or what `asm` gave, to its end.

        `input` is typed at the serial port; `config` are fields of MachineConfig. Ends after TIMEOUT seconds
        unless `timeout` says otherwise. Raises what `Machine.run` raises.
        """
        if isinstance(image, Program):
            config = {**image.config, **config}
        if input:
            config["serial_input"] = input.encode() if isinstance(input, str) else input
        sink, keeper = BufferSink(), _StateKeeper()
        machine = Machine(console=sink, **{"timeout": TIMEOUT, **config, "engine": self.engine}).watch(keeper)
        machine.load(bytes(image) if isinstance(image, bytes) else fspath(image))
        try:
            report = machine.run()
        except HandlerFailed as error:
            if isinstance(error.report, Report):
                self._keep(machine, error.report, sink, keeper)
            raise
        return self._keep(machine, report, sink, keeper)

    def _keep(self, machine: Machine, report: Report, sink: BufferSink, keeper: "_StateKeeper") -> VmResult:
        result = VmResult(self.engine, machine.with_symbols(report), sink.data, keeper.text)
        self.results.append(result)
        return result

    def asm(self, text: str, bits: int = 64, origin: int | None = None) -> Program:
        """Assemble Intel syntax as a flat guest for `run`. Skips the test where there is no assembler."""
        reason = why_no_assembler()
        if reason is not None:
            import pytest

            pytest.skip(reason)
        return assemble(text, bits, origin)


class _StateKeeper(Recorder):
    """Keeps, in words, where the guest was when it did not end by itself: after a time-out, above all."""

    text = ""

    def begin(self, parts: Parts, now: int) -> None:
        self._parts = parts

    def end(self, report: Report, now: int) -> Report:
        if report.outcome.reason in QUIET or report.autopsy:
            return report
        from minihv.errors import GuestMemoryError
        from minihv.report.autopsy import autopsy
        from minihv.report.exitwords import exit_words
        from minihv.x86.disasm import disassemble

        memory = self._parts.memory

        def read(gpa: int, size: int) -> int:
            if memory.find(gpa) is None:
                raise GuestMemoryError(gpa, size)
            return memory.read_int(gpa, size)

        texts = []
        for loop in self._parts.loops:
            recent: list[Exit] = list(loop.recent)
            state = loop.final_state or loop.vcpu.get_state()
            words = [exit_words(exit) for exit in recent]
            texts.append(
                f"vCPU {loop.stats.index} when it was ended\n\n"
                + autopsy(state, read, words, None, disassemble, shutdown=False)
            )
        self.text = "\n\n".join(texts)
        return report


def _difference(engine: str, expected: bytes, found: bytes) -> str:
    from minihv.report.comparison import first_difference

    at = first_difference(expected, found)
    line = expected.count(b"\n", 0, at) + 1
    column = at - (expected.rfind(b"\n", 0, at) + 1) + 1
    start = max(at - 20, 0)
    return (
        f"on {engine}: the console differs at line {line}, column {column}:\n"
        f"  expected {expected[start : at + 40]!r}\n  found    {found[start : at + 40]!r}"
    )
