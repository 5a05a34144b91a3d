"""The local-APIC timer: one-shot, periodic and TSC-deadline (SDM Vol. 3A, 10.5.4).

A pure function of the injected clock. The input clock is 1 GHz, as KVM's virtual APIC bus has it, so a
guest measures the same rate on every engine.
"""

from collections.abc import Callable

from minihv.interfaces import Clock

ONE_SHOT, PERIODIC, TSC_DEADLINE = 0, 1, 2
MIN_INTERRUPT_NS = 200_000
"""Periods shorter than this are merged, as KVM does (module parameter min_timer_period_us)."""


class LapicTimer:
    """Counts down from `initial` at 1 GHz / divisor; `expire` tells whether it came to its end."""

    def __init__(self, clock: Clock, tsc: Callable[[], int], tsc_hz: int) -> None:
        """`tsc` is the vCPU's time-stamp counter as the guest reads it, growing by `tsc_hz` a second."""
        self._clock = clock
        self.tsc = tsc
        self._tsc_hz = tsc_hz
        self.reset()

    def reset(self) -> None:
        """Stopped; divide by 2."""
        self.mode = ONE_SHOT
        self.divide = 0
        self.initial = 0
        self.start: int | None = None
        """When the count (of this period or an earlier one) began; None: not counting."""
        self.deadline = 0
        """IA32_TSC_DEADLINE; 0: disarmed."""
        self._periods_seen = 0
        self._last = -MIN_INTERRUPT_NS

    @property
    def divisor(self) -> int:
        """1..128 from the divide configuration register (SDM Vol. 3A, figure 10-10)."""
        return 1 << ((self.divide & 3 | self.divide >> 1 & 4) + 1 & 7)

    def set_mode(self, mode: int) -> None:
        """LVT timer bits 18:17. To or from TSC-deadline disarms (SDM Vol. 3A, 10.5.4.1)."""
        if mode == self.mode:
            return
        if TSC_DEADLINE in (mode, self.mode):
            self.initial, self.start, self.deadline = 0, None, 0
        elif self.start is not None and self.mode == PERIODIC:
            now = self._clock()
            self.start = now - self._elapsed(now) % self.initial * self.divisor
        self._periods_seen = 0
        self.mode = mode

    def set_divide(self, value: int) -> None:
        """The count goes on from where it is, at the new rate."""
        now = self._clock()
        done = self._elapsed(now)
        if self.mode == PERIODIC and self.initial:
            done %= self.initial
        self.divide = value & 0xB
        if self.start is not None:
            self.start = now - done * self.divisor
            self._periods_seen = 0

    def set_initial(self, value: int) -> None:
        """Start from `value`; 0 stops. Ignored in TSC-deadline mode."""
        if self.mode == TSC_DEADLINE:
            return
        self.initial = value
        self.start = self._clock() if value else None
        self._periods_seen = 0

    def set_deadline(self, value: int) -> None:
        """Write IA32_TSC_DEADLINE; ignored in the other modes."""
        if self.mode == TSC_DEADLINE:
            self.deadline = value

    def resume(self, initial: int, current: int) -> None:
        """Count on from `current`, as a saved state has it; 0 means: has expired."""
        self.initial = initial
        running = bool(initial) and (current > 0 or self.mode == PERIODIC)
        done = initial - min(current, initial) if current else 0
        self.start = self._clock() - done * self.divisor if running else None
        self._periods_seen = 0

    def _elapsed(self, now: int) -> int:
        return 0 if self.start is None else max(now - self.start, 0) // self.divisor

    def current(self) -> int:
        """The current count register."""
        if self.start is None:
            return 0
        done = self._elapsed(self._clock())
        if self.mode == PERIODIC:
            return self.initial - done % self.initial
        return max(self.initial - done, 0)

    def next_deadline(self) -> int | None:
        """When (ns of the clock) `expire` should be asked; None: not armed."""
        if self.mode == TSC_DEADLINE:
            if not self.deadline:
                return None
            left = max(self.deadline - self.tsc(), 0)
            return self._clock() + -(-left * 1_000_000_000 // self._tsc_hz)
        if self.start is None:
            return None
        period = self.initial * self.divisor
        if self.mode == ONE_SHOT:
            return self.start + period
        return max(self.start + (self._periods_seen + 1) * period, self._last + MIN_INTERRUPT_NS)

    def expire(self, now: int) -> bool:
        """Whether the timer came to its end since the last call; several periods count as one."""
        if self.mode == TSC_DEADLINE:
            if not self.deadline or self.tsc() < self.deadline:
                return False
            self.deadline = 0
            return True
        if self.start is None:
            return False
        done = self._elapsed(now) // self.initial
        if self.mode == ONE_SHOT:
            if done:
                self.start = None
            return bool(done)
        if done <= self._periods_seen or now - self._last < MIN_INTERRUPT_NS:
            return False
        self._periods_seen = done
        self._last = now
        return True
