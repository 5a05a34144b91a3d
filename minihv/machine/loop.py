"""The run loop of one vCPU: run, handle, count. The hot path of the whole VMM.

What happens for every exit is written out in line, because each Python call costs as much as the counting
itself; everything rare is in a method.
"""

import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from minihv.bus import Bus
from minihv.exits import (
    DebugStop,
    Exit,
    Fault,
    Halt,
    Hypercall,
    Idle,
    Interrupted,
    IoIn,
    IoOut,
    MmioRead,
    MmioWrite,
    MsrRead,
    MsrWrite,
    Shutdown,
    SystemEvent,
    SystemEventKind,
)
from minihv.interfaces import Vcpu
from minihv.machine import dispatch
from minihv.machine.idle import IdleRounds
from minihv.machine.outcome import outcome
from minihv.machine.stop import Pause, Stop
from minihv.stats import Counter, SiteInfo, VcpuStats
from minihv.x86.state import CpuState

RECENT = 16
"""Exits kept for the autopsy."""

AUTOPSY_REASONS = frozenset(("triple-fault", "guest-crash", "engine-fault", "handler-failed", "vmm-failed"))

Rescue = Callable[[Vcpu, Fault, Callable[[Exit], bytes | None]], str | None]
"""See `minihv.machine.rescue.Rescuer`."""

Observer = Callable[[int, Exit, SiteInfo, int, int], None]
"""(vCPU index, exit, what it was, host time when the guest was left, ns of handling): trace, timeline."""


class Lane:
    """How one class of exits is handled, told apart and named."""

    __slots__ = ("subject", "handle", "key", "info", "counters")

    def __init__(
        self,
        subject: Any,
        handle: Callable[[Any, Any], bytes | None],
        key: Callable[[Any], object],
        info: Callable[[Any], SiteInfo],
    ) -> None:
        self.subject = subject
        """Whom the handler works on; it comes with the exit, because a closure would be one more call."""
        self.handle = handle
        self.key = key
        """What makes two exits of the class the same site."""
        self.info = info
        self.counters: dict[object, Counter] = {}


class VcpuLoop:
    """Runs one vCPU until the machine stops, or for one turn."""

    def __init__(
        self,
        index: int,
        ports: Bus,
        mmio: Bus,
        stop: Stop,
        idle: IdleRounds,
        lock: AbstractContextManager[object] | None = None,
        take_exit: Callable[[], int] | None = None,
        observe: Observer | None = None,
        pause: Pause | None = None,
    ) -> None:
        """`lock` is held while a device works, where several vCPUs run at once. `take_exit` takes one exit
        from the budget of the machine and says how many are left: below 0 there was none to take."""
        self._vcpu: Vcpu | None = None
        self._past_instructions = 0
        self._pause = pause or Pause()
        self.stats = VcpuStats(index)
        self.recent: deque[Exit] = deque(maxlen=RECENT)
        self.failure: BaseException | None = None
        """What a device's handler raised."""
        self.error: BaseException | None = None
        """What anything else raised on this vCPU's thread: the engine, the trace file."""
        self.final_state: CpuState | None = None
        self.takes_turns = False
        """Somebody else looks after sleeping vCPUs: see `minihv.machine.turns`."""
        self.wakeable = False
        """The last HLT was with interrupts on."""
        self.sleeps = False
        """There are controllers that may end a HLT; without them it is the end."""
        self.on_kick: Callable[[], None] | None = None
        """Called when somebody kicked the vCPU: a timer may have been set."""
        self.rescue: Rescue | None = None
        """Executes what the engine cannot; None: such a fault ends the machine."""
        self._stop = stop
        self._idle = idle
        self._take_exit = take_exit
        self._observe = observe
        self._lock = lock or nullcontext()
        self.lanes = self._make_lanes(ports, mmio, lock)

    def _make_lanes(
        self, ports: Bus, mmio: Bus, lock: AbstractContextManager[object] | None
    ) -> dict[type[Any], Lane]:
        def locked(handler: Callable[[Bus, Any], bytes | None]) -> Callable[[Bus, Any], bytes | None]:
            if lock is None:
                return handler

            def with_lock(bus: Bus, exit: Any) -> bytes | None:
                with lock:
                    return handler(bus, exit)

            return with_lock

        def io(exit: IoIn | IoOut, direction: str) -> SiteInfo:
            register = ports.owner(exit.port, direction == "out")
            return SiteInfo("io", direction, exit.port, exit.size, register)

        def memory(exit: MmioRead | MmioWrite, direction: str, size: int) -> SiteInfo:
            return SiteInfo("mmio", direction, exit.gpa, size, mmio.owner(exit.gpa, direction == "write"))

        def plain(name: str) -> Callable[[Any], SiteInfo]:
            return lambda exit: SiteInfo(name)

        def rip(exit: Any) -> object:
            return exit.rip

        return {
            IoOut: Lane(
                ports,
                locked(dispatch.io_out),
                lambda e: (e.port, e.size, e.rip),
                lambda e: io(e, "out"),
            ),
            IoIn: Lane(
                ports,
                locked(dispatch.io_in),
                lambda e: (e.port, e.size, e.rip),
                lambda e: io(e, "in"),
            ),
            MmioRead: Lane(
                mmio,
                locked(dispatch.mmio_read),
                lambda e: (e.gpa, e.size, e.rip),
                lambda e: memory(e, "read", e.size),
            ),
            MmioWrite: Lane(
                mmio,
                locked(dispatch.mmio_write),
                lambda e: (e.gpa, len(e.data), e.rip),
                lambda e: memory(e, "write", len(e.data)),
            ),
            Halt: Lane(self, VcpuLoop._halt, rip, plain("hlt")),
            Shutdown: Lane(self, VcpuLoop._shutdown, rip, plain("shutdown")),
            DebugStop: Lane(self, VcpuLoop._debug_stop, rip, plain("debug")),
            Fault: Lane(self, VcpuLoop._fault, lambda e: (e.rescued, e.rip), _fault_info),
            SystemEvent: Lane(self, VcpuLoop._system_event, rip, plain("system-event")),
            Hypercall: Lane(
                None,
                lambda _, e: dispatch.hypercall(e),
                lambda e: (e.number, e.rip),
                lambda e: SiteInfo("hypercall", "", e.number),
            ),
            MsrRead: Lane(
                None,
                lambda _, e: dispatch.msr_read(e),
                lambda e: (e.index, e.rip),
                lambda e: SiteInfo("msr", "read", e.index, 8),
            ),
            MsrWrite: Lane(
                None,
                lambda _, e: dispatch.msr_write(e),
                lambda e: (e.index, e.rip),
                lambda e: SiteInfo("msr", "write", e.index, 8),
            ),
        }

    @property
    def vcpu(self) -> Vcpu:
        """The vCPU it runs; engines may change, the loop and its counts stay."""
        assert self._vcpu is not None
        return self._vcpu

    def take(self, vcpu: Vcpu, takes_turns: bool) -> None:
        """From now on run `vcpu`, which must be at rest as the one before it was."""
        if self._vcpu is not None:
            self._past_instructions += self._vcpu.instructions
        self._vcpu = vcpu
        self.takes_turns = takes_turns

    def tap(self, vcpu: Vcpu) -> None:
        """Put `vcpu`, which passes everything on, before the one it runs."""
        self._vcpu = vcpu

    @property
    def instructions(self) -> int:
        """Guest instructions on all engines so far, where they count them."""
        return self._past_instructions + (self._vcpu.instructions if self._vcpu is not None else 0)

    def run(self, budget: int | None = None) -> None:
        """Until the machine stops; with a budget, until it is spent or somebody kicks. Never raises: a
        vCPU that fails stops the machine, and `failure` or `error` tells why."""
        try:
            self._run(budget)
        except BaseException as error:
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Stop the machine because of something that is no device's fault."""
        self.error = self.error or error
        self._stop(outcome("vmm-failed", detail=f"{type(error).__name__}: {error}"))

    def _run(self, budget: int | None) -> None:
        vcpu, lanes, stop, stats = self.vcpu, self.lanes, self._stop, self.stats
        enter, clock, remember = vcpu.run, time.perf_counter_ns, self.recent.append
        take_exit, observe = self._take_exit, self._observe
        left_over = 1
        entered = clock()
        while stop.outcome is None:
            exit = enter(budget)
            left = vcpu.left_ns
            stats.guest_ns += left - entered
            lane = lanes.get(type(exit))
            if lane is None:
                self._not_the_guest(exit)
                entered = clock()
                if budget is not None or self._pause.requested:
                    return
                continue
            if take_exit is not None:
                left_over = take_exit()
                if left_over < 0:
                    return  # another vCPU took the last one, and stops the machine when it is done with it
            remember(exit)
            # Locals, because CPython 3.11 specializes the call of a local, not of an attribute in a slot.
            handle, key = lane.handle, lane.key
            try:
                answer = handle(lane.subject, exit)
            except BaseException as error:
                answer = None
                self._handler_failed(error)
            if answer is not None:
                vcpu.complete(answer)
            counter = lane.counters.get(key(exit))
            entered = clock()
            elapsed = entered - left
            if counter is None:
                counter = self._new_site(lane, exit)
                entered = clock()
            counter.sum_ns += elapsed
            if elapsed < counter.min_ns:
                counter.min_ns = elapsed
            if elapsed > counter.max_ns:
                counter.max_ns = elapsed
            counter.histogram[elapsed.bit_length()] += 1
            if observe is not None:
                observe(vcpu.index, exit, counter.info, left, elapsed)
                entered = clock()  # watching is neither the guest's time nor the handler's
            if not left_over:
                stop(outcome("max-exits"))

    @property
    def stopped(self) -> bool:
        """The machine has an outcome."""
        return self._stop.outcome is not None

    @property
    def asleep(self) -> bool:
        """For vCPUs that take turns: nothing to do until an interrupt comes."""
        return bool(getattr(self.vcpu, "asleep", False))

    def settle(self) -> None:
        """On the vCPU's thread, after `run`: finish an instruction that is half done, and its exits."""
        while self._stop.outcome is None and (exit := self.vcpu.finish()) is not None:
            self.handle(exit)

    def handle(self, exit: Exit) -> None:
        """One exit, handled and counted as in `run`, for the rare ones that come outside of it."""
        lane = self.lanes.get(type(exit))
        if lane is None:
            return
        left = self.vcpu.left_ns
        self.recent.append(exit)
        try:
            answer = lane.handle(lane.subject, exit)
        except BaseException as error:
            answer = None
            self._handler_failed(error)
        if answer is not None:
            self.vcpu.complete(answer)
        elapsed = time.perf_counter_ns() - left
        counter = lane.counters.get(lane.key(exit))
        (counter if counter is not None else self._new_site(lane, exit)).add(elapsed)

    def take_final_state(self) -> None:
        """On the vCPU's thread, after the last `run`: keep the state where somebody will ask for it."""
        end = self._stop.outcome
        if end is not None and end.reason in AUTOPSY_REASONS:
            self.final_state = self.vcpu.get_state()

    def _new_site(self, lane: Lane, exit: Exit) -> Counter:
        """Name an exit that comes from here for the first time. Bounded: see stats.MAX_SITES."""
        try:
            info = lane.info(exit)
        except BaseException as error:  # it asks the device for the register's name
            self._handler_failed(error)
            info = SiteInfo(type(exit).__name__, register="(its device cannot name it)")
        stats = self.stats
        if stats.full:
            return stats.open(info)  # the shared one; not kept in the lane, whose dict must not grow
        site = self.vcpu.site(exit)
        info = SiteInfo(info.name, info.direction, info.address, info.size, info.register, site)
        counter = lane.counters[lane.key(exit)] = stats.open(info)
        return counter

    def _not_the_guest(self, exit: Exit) -> None:
        if isinstance(exit, Idle):
            self.wakeable = False
            if not self.takes_turns and self._idle.report(self.vcpu.index):
                self._stop(outcome("halted"))
        elif isinstance(exit, Interrupted):
            self.stats.kicks += 1
            if self.on_kick is not None:
                self.on_kick()

    def _handler_failed(self, error: BaseException) -> None:
        self.failure = self.failure or error
        self._stop(outcome("handler-failed", detail=f"{type(error).__name__}: {error}"))

    # What ends a machine

    def _halt(self, exit: Halt) -> None:
        self.wakeable = exit.wakeable
        if exit.wakeable and self.sleeps:
            return
        if not self.takes_turns and self._idle.park(self.vcpu.index):
            self._stop(outcome("halted"))

    def _shutdown(self, exit: Shutdown) -> None:
        self._stop(outcome("triple-fault"))

    def _debug_stop(self, exit: DebugStop) -> None:
        self._stop(outcome("debug-stop"))

    def _fault(self, exit: Fault) -> None:
        if self.rescue is not None and exit.rescuable:
            exit.rescued = self.rescue(self.vcpu, exit, self._answer) or ""
        if exit.rescued:
            return
        self._stop(outcome("engine-fault", detail=exit.message))

    def _answer(self, exit: Exit) -> bytes | None:
        """What a rescued instruction asks of the board; counted with the rescue."""
        lane = self.lanes.get(type(exit))
        return lane.handle(lane.subject, exit) if lane is not None else None

    def _system_event(self, exit: SystemEvent) -> None:
        reasons = {
            SystemEventKind.POWER_OFF: "power-off",
            SystemEventKind.RESET: "reset",
            SystemEventKind.CRASH: "guest-crash",
        }
        reason = reasons.get(exit.kind)
        if reason is not None:
            self._stop(outcome(reason))


def _fault_info(exit: Fault) -> SiteInfo:
    return SiteInfo("rescued", register=exit.rescued) if exit.rescued else SiteInfo("fault")
