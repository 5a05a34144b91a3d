"""One judge with the harness: gives cases to it in batches and takes the results.

A judge is an engine (as a guest), or "native", the host's own processor (as a process).
"""

import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol, Self

from minihv.engine.select import open_engine
from minihv.exits import IoOut
from minihv.host.ram import HostRam
from minihv.interfaces import EngineConfig, Vcpu
from minihv.memory import GuestMemory, Region
from minihv.verify import image
from minihv.verify import layout as at
from minihv.verify.case import Case, Result
from minihv.verify.native import NativeProcess

TIME_LIMIT = 60.0
"""Seconds of host time for one batch; then the case it stands at is taken to hang."""
INSTRUCTIONS_PER_CASE = 20_000
"""More than the harness and any REP that a case can have need; for engines that count."""
NATIVE = "native"

Outcome = Result | str
"""What a case left behind, or why the judge did not come back from it."""


class Processor(Protocol):
    """Whatever runs the harness in a `HostRam` of at.RAM bytes."""

    def enter(self, seconds: float) -> str | None:
        """Run the batch that is in memory; None when it came to its end, else what happened."""
        ...

    def close(self) -> None: ...


class EngineProcessor:
    """The harness as a guest of an engine."""

    def __init__(self, name: str, ram: HostRam, prepare: Callable[[Vcpu], None] | None) -> None:
        self._memory = GuestMemory([Region(0, at.RAM, ram.piece(0, at.RAM), False, "ram")])
        self._engine, _ = open_engine(name, self._memory, EngineConfig(irqchip="none"))
        try:
            self._vcpu = self._engine.create_vcpu(0)
            self._vcpu.attach_thread()
            if prepare is not None:
                prepare(self._vcpu)
            self._vcpu.set_state(image.build(self._memory))
        except BaseException:
            self._engine.close()
            raise

    def enter(self, seconds: float) -> str | None:
        watchdog = threading.Timer(seconds, self._vcpu.kick)
        watchdog.daemon = True
        watchdog.start()
        try:
            exit = self._vcpu.run(INSTRUCTIONS_PER_CASE * at.BATCH)
        finally:
            watchdog.cancel()
            watchdog.join()
        if isinstance(exit, IoOut) and exit.port == at.DONE_PORT:
            return None
        return f"the engine came back with {exit}"

    def close(self) -> None:
        self._vcpu.detach_thread()
        self._engine.close()
        self._memory.release()


class Session:
    """A context manager. `name` is an engine's name as `minihv.engine.select` knows it, or "native"."""

    def __init__(self, name: str, step: bool = True, prepare: Callable[[Vcpu], None] | None = None) -> None:
        """`step`: stop cases by the trap flag, else by an INT3 behind the instruction, so that engines which
        do something else for a step do not. `prepare` is called with an engine's new vCPU."""
        self.name = name
        self._step = step
        self._prepare = prepare
        self._ram: HostRam | None = None
        self._processor: Processor | None = None

    def run(self, cases: Sequence[Case]) -> list[Outcome]:
        """The outcomes of `cases`, in order. A case that the judge does not survive costs a new machine."""
        found: list[Outcome] = []
        while len(found) < len(cases):
            found += self._batch(cases[len(found) : len(found) + at.BATCH])
        return found

    def arena(self) -> bytes:
        """Both data pages as the last batch left them: stray writes show here."""
        assert self._ram is not None
        return bytes(self._ram.view[at.GPA_ARENA : at.GPA_ARENA + at.ARENA_END - at.ARENA])

    def _batch(self, cases: Sequence[Case]) -> list[Outcome]:
        if self._processor is None:
            self._open()
        processor, ram = self._processor, self._ram
        assert processor is not None
        assert ram is not None
        view = ram.view
        view[at.GPA_ARENA : at.GPA_ARENA + at.ARENA_END - at.ARENA] = bytes(at.ARENA_END - at.ARENA)
        view[at.GPA_INPUT : at.GPA_INPUT + at.RECORD * len(cases)] = b"".join(
            c.record(self._step) for c in cases
        )
        variables = at.GPA_HARNESS + at.VARS - at.HARNESS
        for n, value in enumerate((at.INPUT, at.OUTPUT, len(cases))):
            view[variables + 8 * n : variables + 8 * n + 8] = value.to_bytes(8, "little")
        trouble = processor.enter(TIME_LIMIT)
        left = int.from_bytes(view[variables + 16 : variables + 24], "little")
        done = len(cases) - left if left <= len(cases) else 0
        found: list[Outcome] = [
            Result.unpack(bytes(view[gpa : gpa + at.RECORD]))
            for gpa in range(at.GPA_OUTPUT, at.GPA_OUTPUT + done * at.RECORD, at.RECORD)
        ]
        if not self._step:
            found = [one if isinstance(one, str) else one.as_stepped() for one in found]
        if trouble is not None:
            self.close()
            if left:
                found.append(trouble)
        return found

    def _open(self) -> None:
        self._ram = HostRam(at.RAM)
        try:
            self._processor = (
                NativeProcess(self._ram)
                if self.name == NATIVE
                else EngineProcessor(self.name, self._ram, self._prepare)
            )
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give everything back; the next batch opens it anew."""
        if self._processor is not None:
            self._processor.close()
            self._processor = None
        if self._ram is not None:
            self._ram.close()
            self._ram = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
