"""The public face: `Machine(config)`, `load`, `attach`, `run` -> Report."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from os import PathLike, fspath
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from minihv.boot.plan import BootPlan, LoadRequest
from minihv.errors import HandlerFailed, UsageError
from minihv.host.console import BufferSink
from minihv.interfaces import ByteSink, ByteSource, Device
from minihv.machine.board import Fitting
from minihv.machine.build import Parts, board_facts, build
from minihv.machine.config import ENGINES, MachineConfig
from minihv.machine.console import Console
from minihv.machine.images import find_image, read_image
from minihv.machine.loop import Observer
from minihv.machine.outcome import THE_GUESTS_CHOICE, Outcome, outcome
from minihv.machine.reporting import make_report, source_namer, symbol_namer
from minihv.machine.supervisor import JOIN_SECONDS, Supervisor
from minihv.report.model import Report

if TYPE_CHECKING:
    from minihv.machine.recorders import Recorder

DEVICE_MEMBERS = ("max_width", "read", "write", "register", "reset", "close")


class Machine:
    """One guest on one machine. Use it as a context manager.

        with Machine(MachineConfig(cpus=2)) as m:
            m.load("smp")
            report = m.run()
            print(m.console.decode())

    Keyword arguments replace fields of the config. `console` and `console_input` put your own sink and
    source at the serial port. Nothing is opened before `run`, so a bad image is refused before a VM exists.
    """

    def __init__(
        self,
        config: MachineConfig | None = None,
        *,
        console: ByteSink | None = None,
        console_input: ByteSource | None = None,
        **overrides: Any,
    ) -> None:
        config = config or MachineConfig()
        self.config = config.replace(**overrides) if overrides else config
        self.outcome: Outcome | None = None
        self.guest_name = ""
        self._sink = console
        self._source = console_input
        self._plan: BootPlan | None = None
        self._fittings: list[Fitting] = []
        self._parts: Parts | None = None
        self._supervisor: Supervisor | None = None
        self._console: Console | None = None
        self._stop_early: Outcome | None = None
        self._running = threading.Lock()
        self._screen: list[str] = []
        self._keys = b""
        self._ticks: list[tuple[int, Callable[[], None]]] = []
        self._makers: list[Callable[[int], Observer | None]] = []
        self._watchers: list[Recorder] = []

    # Before the run

    def load(self, image: str | PathLike[str] | bytes, name: str | None = None) -> Self:
        """Load a bundled guest ("hello"), a file, or the bytes of an image. Raises ImageError."""
        from minihv.boot.load import load

        data, name, file = _bytes_of(image, name)
        modules = tuple((path, read_image(path, "module")) for path in self.config.modules)
        request = LoadRequest(
            name=file,
            data=data,
            format=self.config.format,
            load_address=self.config.load_address,
            entry=self.config.entry,
            cmdline=self.config.cmdline,
            modules=modules,
        )
        self._plan = load(request, board_facts(self.config))
        self.guest_name = name
        return self

    def load_firmware(
        self, image: str | PathLike[str] | bytes | None = None, name: str | None = None
    ) -> Self:
        """Load a firmware ROM (by default the one of the config). Raises ImageError."""
        from minihv.boot.load import load_firmware

        image = self.config.firmware if image is None else image
        if image is None:
            raise UsageError("expected a firmware ROM, found none; name one in the config or in the call")
        # No bundled guest is a ROM, so a string is a path here.
        data, name, file = _bytes_of(image, name, "firmware ROM", bundled=False)
        self._plan = load_firmware(file, data, board_facts(self.config))
        self.guest_name = name
        return self

    def attach(self, device: Device, *, port: int | None = None, mmio: int | None = None, size: int = 1,
               name: str = "device") -> Self:  # fmt: skip
        """Put `device` at `size` ports from `port` on, or at guest-physical `mmio`. Raises UsageError for
        what is no device; whether its window is free is checked when the machine runs."""
        if (port is None) == (mmio is None):
            raise UsageError(f"expected either a port or an mmio address for {name}, found both or none")
        space, start = ("port", port) if port is not None else ("mmio", mmio)
        assert start is not None
        missing = [member for member in DEVICE_MEMBERS if not hasattr(device, member)]
        if missing:
            raise UsageError(
                f"expected a device (see minihv.Device) as {name}, found {type(device).__name__} without "
                f"{', '.join(missing)}; add what is missing"
            )
        self._fittings.append(Fitting(space, start, size, name, device))
        return self

    def on_port(
        self,
        port: int,
        read: Callable[[], int] | None = None,
        write: Callable[[int], None] | None = None,
        *,
        size: int = 1,
        name: str = "handler",
    ) -> Self:
        """Answer a port with two functions: `read()` gives the value, `write(value)` takes it.

        `size` is the widest access in bytes that they see; wider ones come in pieces.
        """
        from minihv.devices.callbacks import PortHandler

        reader = None if read is None else lambda offset, width: read()
        writer = None if write is None else lambda offset, width, value: write(value)
        device = PortHandler(reader, writer, name="PORT", max_width=size)
        return self.attach(device, port=port, size=size, name=name)

    def on_tick(self, call: Callable[[], None], interval_ns: int) -> Self:
        """Call `call` about every `interval_ns` while the guest runs, on the thread that called `run`."""
        self._ticks.append((interval_ns, call))
        return self

    def on_exit(self, make: Callable[[int], Observer | None]) -> Self:
        """Watch every exit: `make(index)` gives the observer of one vCPU (None: not that one).

        An observer is called as `observer(vcpu index, exit, what it was, host time in ns when the guest was
        left, ns of handling)`, on the vCPU's own thread, after the exit was handled and counted. What it
        does is not counted as handling. What it raises ends the machine.
        """
        self._makers.append(make)
        return self

    def watch(self, recorder: "Recorder") -> Self:
        """Let `recorder` see every run from its beginning to its end. It is the caller's, and not closed."""
        self._watchers.append(recorder)
        return self

    def press(self, scan_codes: bytes) -> int:
        """Type on the guest's keyboard (i8042, IRQ 1): set-1 scan codes, make and break. From any thread.

        Before the run they wait for its start. Returns how many the keyboard's queue had room for.
        """
        parts = self._parts
        if parts is None:
            from minihv.devices.i8042 import KEYBOARD_QUEUE

            taken = scan_codes[: max(KEYBOARD_QUEUE - len(self._keys), 0)]
            self._keys += taken
            return len(taken)
        count = parts.board.keyboard().press(scan_codes)
        if parts.turns is not None:
            parts.turns.wake()
        return count

    # The run

    def run(self) -> Report:
        """Build the machine, run the guest to its end, and tell everything about it.

        Raises CannotStart where it cannot begin, HandlerFailed (with the report as `report`) where a
        device raised. Everything is closed again, however it ends.
        """
        if self._running.acquire(blocking=False):
            try:
                return self._run_once()
            finally:
                self._stop_early = None
                self._running.release()
        raise UsageError(
            "expected a machine that is at rest, found one that is running; make another Machine"
        )

    def _run_once(self) -> Report:
        if self._plan is None:
            self.load_firmware()
        plan = self._plan
        assert plan is not None
        self.outcome = None
        with ExitStack() as stack:
            console = Console(self.config, self._sink, self._source, self._console_broken, self._user_stop)
            stack.callback(console.close)
            self._console = console
            recorders = [*self._open_recorders(plan, stack), *self._watchers]
            observers = self._observers(recorders)
            parts = build(self.config, plan, console.sink, console.source, self._fittings, observers)
            close_parts = stack.enter_context(ExitStack())
            close_parts.callback(_close, parts)
            stack.enter_context(console)
            for recorder in recorders:
                recorder.prepare(parts)
            self._parts = parts
            ticks = [*self._ticks, *(tick for recorder in recorders for tick in recorder.ticks)]
            if self._keys:
                keys, self._keys = self._keys, b""
                self.press(keys)
            parts.stop.listen(self._hurry_console)
            supervisor = self._supervisor = Supervisor(parts, console, self.config.timeout, ticks)
            if self._stop_early is not None:
                parts.stop(self._stop_early)
            started = time.perf_counter_ns()
            for recorder in recorders:
                recorder.begin(parts, started)
            try:
                supervisor.run()
            finally:
                self._parts = self._supervisor = None
                if supervisor.stuck:
                    supervisor.abandon(close_parts.pop_all().close)  # a thread still uses them
            self.outcome = parts.stop.outcome
            self._screen = _screen_text(parts)
            report = make_report(self.config, self.guest_name, plan, parts, supervisor.wall_ns)
            for recorder in recorders:
                report = recorder.end(report, time.perf_counter_ns())
        self._raise_failure(parts, report, supervisor.stuck)
        return report

    def stop(self, reason: str = "stopped") -> None:
        """End the run from any thread or signal handler; before the run, it ends at once."""
        self._stop(outcome(reason))

    def _stop(self, end: Outcome) -> None:
        self._stop_early = end
        parts = self._parts
        if parts is not None:
            parts.stop(end)
        if end.reason not in THE_GUESTS_CHOICE and self._console is not None:
            self._console.hurry()  # also where the guest has ended and only its output waits

    def _hurry_console(self) -> None:
        parts = self._parts
        end = parts.stop.outcome if parts is not None else None
        if end is not None and end.reason not in THE_GUESTS_CHOICE and self._console is not None:
            self._console.hurry()

    def switch_engine(self, name: str) -> None:
        """From any thread, a device's handler included, while the guest runs: let it go on on engine `name`
        from its next instruction boundary. Raises UsageError for an unknown engine or a machine at rest."""
        if name not in ENGINES or name == "auto":
            raise UsageError(f"expected an engine of {', '.join(ENGINES[1:])}, found {name!r}")
        supervisor = self._supervisor
        if supervisor is None:
            raise UsageError("expected a machine that is running, found one at rest; call run() first")
        supervisor.switch_engine(name)

    @property
    def console(self) -> bytes:
        """What the guest printed, with serial="buffer": the last MiB of it."""
        if self._console is None and self._sink is None and self.config.serial == "buffer":
            return b""
        sink = self._console.sink if self._console is not None else None
        if not isinstance(sink, BufferSink):
            raise UsageError(
                'expected serial="buffer" for Machine.console, found another sink; read that one'
            )
        return sink.data

    @property
    def screen(self) -> list[str]:
        """The text screen's 25 lines at the end of the run."""
        return self._screen

    def live_screen(self) -> list[str]:
        """The text screen's lines now; while the guest runs, from any thread."""
        parts = self._parts
        return self._screen if parts is None else _screen_text(parts)

    def with_symbols(self, report: Report) -> Report:
        """The report with symbols and source lines at its sites, where the image has them."""
        plan = self._plan
        return report if plan is None else report.with_symbols(symbol_namer(plan), source_namer(plan))

    @property
    def plan(self) -> BootPlan | None:
        """What `load` made of the image."""
        return self._plan

    def _open_recorders(self, plan: BootPlan, stack: ExitStack) -> "Sequence[Recorder]":
        """What the config wants recorded beside the counters; nothing is imported for a run without."""
        config = self.config
        wanted = (config.trace, config.history, config.timeline, config.metrics, config.kernel_exits,
                  config.trace_insns, config.max_insns)  # fmt: skip
        if not any(wanted):
            return ()
        from minihv.machine.recorders import open_recorders

        return open_recorders(config, self.guest_name, plan, stack)

    def _observers(self, recorders: "Sequence[Recorder]") -> Callable[[int], Observer | None] | None:
        makers = [*(recorder.observer for recorder in recorders), *self._makers]
        if not makers:
            return None
        from minihv.machine.recorders import join

        return join(makers)

    def _console_broken(self, error: OSError) -> None:
        self._stop(outcome("console-closed", detail=error.strerror or str(error)))

    def _user_stop(self) -> None:
        self.stop("user")

    def _raise_failure(self, parts: Parts, report: Report, stuck: list[str]) -> None:
        for loop in parts.loops:
            if loop.error is not None:
                raise loop.error
            if loop.failure is not None:
                failure = HandlerFailed(
                    f"a device handler raised {type(loop.failure).__name__}: {loop.failure}; "
                    "the machine was stopped"
                )
                failure.report = report
                raise failure from loop.failure
        if stuck:
            failure = HandlerFailed(
                f"a device handler did not return within {JOIN_SECONDS:g} s after the machine was stopped "
                f"({', '.join(stuck)}); make it return"
            )
            failure.report = report
            raise failure

    def close(self) -> None:
        """Nothing stays open after `run`; a run that is going on is stopped."""
        if self._parts is not None:
            self.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _bytes_of(
    image: str | PathLike[str] | bytes, name: str | None, what: str = "guest image", bundled: bool = True
) -> tuple[bytes, str, str]:
    """The image's bytes, what to call the guest, and what to call the file in messages."""
    if isinstance(image, bytes):
        return image, name or "image", name or "image"
    path = find_image(image) if isinstance(image, str) and bundled else fspath(image)
    return read_image(path, what), name or str(image), path


def _close(parts: Parts) -> None:
    try:
        parts.close()
    except Exception as error:  # all of it is closed; only a device of the caller's can have raised
        raise HandlerFailed(
            f"a device raised {type(error).__name__} when it was closed: {error}; the run was over"
        ) from error


def _screen_text(parts: Parts) -> list[str]:
    screen = parts.board.screen.made if parts.board is not None else None
    return screen.text() if screen is not None else [" " * 80] * 25
