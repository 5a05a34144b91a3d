"""The thread that called `Machine.run`: it starts the vCPU threads and looks after everything else.

Console input, flushing, the time-out, timers of devices, and the question whether all CPUs sleep for ever.
It sleeps in poll(2) and wakes for input, for a deadline, or because the machine stops.
"""

import os
import select
import threading
import time
from collections.abc import Callable, Sequence

from minihv.errors import HostError
from minihv.machine.build import Parts
from minihv.machine.console import Console
from minihv.machine.loop import VcpuLoop
from minihv.machine.outcome import outcome
from minihv.machine.socket import hop
from minihv.machine.turns import Turns

FIRST_POLL_NS = 1_000_000
LAST_POLL_NS = 100_000_000
"""The engine is asked about sleeping CPUs after 1 ms, then ever less often, at last ten times a second."""
JOIN_SECONDS = 10.0
HURRIED_JOIN_SECONDS = 1.0


class Supervisor:
    """Runs built `parts` to their end."""

    def __init__(
        self,
        parts: Parts,
        console: Console,
        timeout: float | None,
        ticks: Sequence[tuple[int, Callable[[], None]]] = (),
    ) -> None:
        """`timeout` in seconds of host time; `ticks` are (interval in ns, what to call)."""
        self._parts = parts
        self._console = console
        self._timeout = timeout
        self._clock = parts.clock
        self._ticks = [_Tick(interval, call) for interval, call in ticks]
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        # Nobody may write to the descriptor's number once it is closed. Re-entrant: a signal handler may
        # stop the machine while its own thread is in `wake`.
        self._wake_lock = threading.RLock()
        self._threads: list[threading.Thread] = []
        self._wanted_engine = ""
        self._busy = 0
        """Threads inside `run_group`."""
        self._abandoned: Callable[[], None] | None = None
        self.wall_ns = 0

    def run(self) -> None:
        """Until the machine stops and all its threads are gone. Interrupts (Ctrl-C) stop it, too."""
        parts = self._parts
        parts.stop.listen(self.wake)
        parts.stop.listen(self._wake_sleepers)
        started = time.perf_counter_ns()
        try:
            self._start()
            self._watch(started)
            while parts.stop.outcome is None:
                self._change_engine()
                self._watch(started)
        except BaseException:
            parts.stop(outcome("stopped"))
            raise
        finally:
            try:
                self._join()
            finally:
                self.wall_ns = time.perf_counter_ns() - started
                with self._wake_lock:
                    fd, self._wake_fd = self._wake_fd, -1
                os.close(fd)

    def switch_engine(self, name: str) -> None:
        """From any thread: take the guest to engine `name` at the next instruction boundary."""
        self._wanted_engine = name
        self._parts.pause.requested = True
        self._parts.kick()
        self._wake_sleepers()
        self.wake()

    def _change_engine(self) -> None:
        """Bring the vCPUs to rest, hop, and start them again."""
        parts = self._parts
        self._join()
        if self.stuck:
            raise HostError(f"{', '.join(self.stuck)} did not come to rest; the engine was not changed")
        self._threads.clear()
        if parts.stop.outcome is None:
            parts.pause.requested = False
            parts.idle.reset()
            hop(parts, self._wanted_engine)
            self._start()

    @property
    def stuck(self) -> list[str]:
        """Names of vCPU threads that did not end: nothing that they use may be closed."""
        return [thread.name for thread in self._threads if thread.is_alive()]

    def abandon(self, close: Callable[[], None]) -> None:
        """Nobody waits for the stuck threads any more: the last of them calls `close`, if it ever ends."""
        with self._wake_lock:
            if self._busy:
                self._abandoned = close
                return
        close()

    def _body(self, group: Sequence[VcpuLoop]) -> None:
        """What a vCPU thread does."""
        try:
            for hook in self._parts.thread_hooks:
                hook()
        except BaseException as error:
            group[0].fail(error)
        run_group(group, self._parts.turns)
        with self._wake_lock:
            self._busy -= 1
            close = None if self._busy else self._abandoned
        if close is not None:
            close()

    def _wake_sleepers(self) -> None:
        if self._parts.turns is not None:
            self._parts.turns.wake()

    def wake(self) -> None:
        """From any thread: look at the stop flag now."""
        with self._wake_lock:
            if self._wake_fd >= 0:
                os.eventfd_write(self._wake_fd, 1)

    def _start(self) -> None:
        engine = self._parts.engine
        assert engine is not None
        loops = self._parts.loops
        groups: Sequence[Sequence[VcpuLoop]] = (
            [[loop] for loop in loops] if engine.traits.parallel else [loops]
        )
        for loop in loops:
            loop.on_kick = self.wake if self._parts.chips is not None and self._parts.turns is None else None
        for group in groups:
            name = f"vcpu{group[0].stats.index}"
            thread = threading.Thread(target=self._body, args=(group,), name=name, daemon=True)
            with self._wake_lock:
                self._busy += 1
            try:
                thread.start()
            except BaseException:
                with self._wake_lock:
                    self._busy -= 1
                raise
            self._threads.append(thread)

    def _join(self) -> None:
        """A vCPU thread ends at the next exit after a kick; a handler that blocks is given some time, which
        whoever interrupts (a second Ctrl-C) cuts short."""
        deadline = time.monotonic() + JOIN_SECONDS
        interrupt: BaseException | None = None
        while self.stuck and time.monotonic() < deadline:
            try:
                for thread in self._threads:
                    thread.join(0.05)
                for vcpu in self._parts.vcpus if self.stuck else ():
                    vcpu.kick()
            except BaseException as error:
                interrupt = error
                deadline = min(deadline, time.monotonic() + HURRIED_JOIN_SECONDS)
        if interrupt is not None:
            raise interrupt

    def _watch(self, started: int) -> None:
        parts, keyboard = self._parts, self._console.input
        stop, board, engine = parts.stop, parts.board, parts.engine
        assert engine is not None
        deadline = None if self._timeout is None else started + int(self._timeout * 1e9)
        interval = FIRST_POLL_NS
        next_poll = started + interval
        poller = select.poll()
        poller.register(self._wake_fd, select.POLLIN)
        watching = False
        while stop.outcome is None and not parts.pause.requested:
            if keyboard is not None and keyboard.wanted != watching:
                watching = keyboard.wanted
                (poller.register(keyboard.fd, select.POLLIN) if watching else poller.unregister(keyboard.fd))
            now = time.perf_counter_ns()
            timer = None if parts.turns is not None else board.next_deadline()
            wait = min([next_poll, *(t.due for t in self._ticks)]) - now
            if timer is not None:
                wait = min(wait, timer - self._clock())
            if deadline is not None:
                wait = min(wait, deadline - now)
            readable = {fd for fd, _ in poller.poll(max(wait, 0) / 1e6)}
            if self._wake_fd in readable:
                os.eventfd_read(self._wake_fd)  # else the next poll would not sleep
            if keyboard is not None and (keyboard.fd in readable or keyboard.waiting):
                keyboard.pump(keyboard.fd in readable, board.serial.receive)
                if parts.turns is not None:
                    parts.turns.wake()
            now = time.perf_counter_ns()
            if deadline is not None and now >= deadline:
                stop(outcome("timeout"))
            if timer is not None and self._clock() >= timer:
                board.tick(self._clock())
            for tick in self._ticks:
                tick.run(now)
            if now >= next_poll:
                self._console.flush()
                parts.idle.begin()
                engine.poll()
                interval = min(interval * 2, LAST_POLL_NS)
                next_poll = now + interval


class _Tick:
    """Something to call about every `interval` ns."""

    def __init__(self, interval: int, call: Callable[[], None]) -> None:
        self._interval = interval
        self._call = call
        self.due = time.perf_counter_ns() + interval

    def run(self, now: int) -> None:
        """Call it if it is due at `now` (host ns); what was missed meanwhile is not made up for."""
        if now >= self.due:
            self._call()
            self.due = now + self._interval


def run_group(loops: Sequence[VcpuLoop], turns: Turns | None) -> None:
    """The body of a vCPU thread. Nothing raises out of it: a thread that died in silence would leave the
    machine waiting for ever."""
    attached: list[VcpuLoop] = []
    try:
        for loop in loops:
            loop.vcpu.attach_thread()
            attached.append(loop)
        if turns is None:
            loops[0].run()
        else:
            turns.run()
    except BaseException as error:
        loops[len(attached) % len(loops)].fail(error)
    for loop in attached:
        try:
            loop.settle()
            loop.take_final_state()
        except BaseException as error:
            loop.fail(error)
        finally:
            loop.vcpu.detach_thread()
