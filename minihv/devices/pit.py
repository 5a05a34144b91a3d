"""The 8254 programmable interval timer: three counters, a control port, channel 0's OUT on an IRQ line.

Source: Intel 8254 data sheet (231164). Owns no thread: the machine's loop asks `next_deadline` how long it
may sleep and calls `tick` then; reads of the counters need neither.
"""

import struct
import threading
from contextlib import AbstractContextManager

from minihv.devices.pit_channel import UNPROGRAMMED, WORD_LSB, WORD_MSB, Channel
from minihv.interfaces import Clock, IrqLine

MIN_INTERRUPT_NS = 200_000
"""Rises of channel 0 that come closer than this are merged: a hostile count of 2 must not eat the host.
KVM's floor for timer interrupts is the same (module parameter min_timer_period_us)."""

_KVM_CHANNEL = struct.Struct("<IH10Bq")
_KVM_TAIL = struct.Struct("<I36x")
_KVM_NOT_COUNTING = -1


class Pit8254:
    """Ports: counters 0, 1, 2 at offsets 0..2, the control word at offset 3."""

    max_width = 1

    def __init__(
        self, clock: Clock, irq: IrqLine, lock: AbstractContextManager[object] | None = None
    ) -> None:
        """`irq` follows the OUT of channel 0. `lock`: shared with the machine's interrupt controllers."""
        self._clock = clock
        self._irq = irq
        self._lock = lock if lock is not None else threading.RLock()
        self._line = False
        self._last_edge = -MIN_INTERRUPT_NS
        # Channels 0 and 1 have their gates wired high; channel 2's is bit 0 of port 0x61.
        self.channels = (Channel(True), Channel(True), Channel(False))
        self.flags = 0
        """struct kvm_pit_state2.flags; kept, of no effect here (bit 1: speaker data, port 0x61's affair)."""

    # --- Device -------------------------------------------------------------------------------------

    def read(self, offset: int, size: int) -> int:
        with self._lock:
            if offset == 3:
                return 0xFF  # the control word cannot be read: the bus floats
            return self.channels[offset].read(self._clock())

    def write(self, offset: int, size: int, value: int) -> None:
        value &= 0xFF
        with self._lock:
            now = self._clock()
            self._advance(now)
            if offset != 3:
                self.channels[offset].write(value, now)
            elif value >> 6 == 3:
                self._read_back(value, now)
            elif value & 0x30:
                self.channels[value >> 6].control(value)
            else:
                self.channels[value >> 6].latch_count(now)
            self._drive(self.channels[0].output(now))

    def _read_back(self, value: int, now: int) -> None:
        for number, channel in enumerate(self.channels):
            if value & 2 << number:
                if not value & 0x20:
                    channel.latch_count(now)
                if not value & 0x10:
                    channel.latch_status(now)

    def register(self, offset: int, write: bool) -> str:
        return "CONTROL" if offset == 3 else f"COUNTER{offset}"

    def reset(self) -> None:
        """After power-on: no channel programmed, IRQ line low."""
        with self._lock:
            for channel in self.channels:
                channel.reset()
            self._drive(False)

    def close(self) -> None:
        """Nothing is held."""

    # --- Time ---------------------------------------------------------------------------------------

    def next_deadline(self) -> int | None:
        """When (ns of the clock) `tick` should next be called; None: channel 0 will not rise."""
        with self._lock:
            due = self.channels[0].next_edge()
            return None if due is None else max(due, self._last_edge + MIN_INTERRUPT_NS)

    def tick(self, now: int) -> None:
        """Bring the IRQ line up to `now`. Rises that were slept through come as one."""
        with self._lock:
            if now - self._last_edge >= MIN_INTERRUPT_NS:
                self._advance(now)
                self._drive(self.channels[0].output(now))

    def _advance(self, now: int) -> None:
        if self.channels[0].take_edges(now):
            self._last_edge = now
            if self._line:
                self._drive(False)
            self._drive(True)

    def _drive(self, level: bool) -> None:
        # Before the first control word OUT is undefined: keep the line low.
        if self.channels[0].mode == UNPROGRAMMED:
            level = False
        if level != self._line:
            self._line = level
            self._irq(level)

    # --- Channel 2, for port 0x61 -------------------------------------------------------------------

    def timer2_output(self) -> bool:
        """OUT of channel 2."""
        with self._lock:
            return self.channels[2].output(self._clock())

    def set_timer2_gate(self, level: bool) -> None:
        """GATE of channel 2."""
        with self._lock:
            self.channels[2].set_gate(level, self._clock())

    # --- KVM's layout -------------------------------------------------------------------------------

    def to_kvm(self) -> bytes:
        """struct kvm_pit_state2, 112 bytes (KVM API, KVM_GET_PIT2).

        `count_load_time` is in nanoseconds of this clock; -1 where the counter does not count.
        """
        with self._lock:
            now = self._clock()
            self._advance(now)
            parts = [self._pack(channel, now) for channel in self.channels]
            return b"".join([*parts, _KVM_TAIL.pack(self.flags)])

    @staticmethod
    def _pack(channel: Channel, now: int) -> bytes:
        channel.sync(now)
        count = channel.next_count or channel.count
        start = _KVM_NOT_COUNTING if channel.start is None else channel.start
        return _KVM_CHANNEL.pack(
            count, channel.latched_count, channel.count_latched, channel.status_latched, channel.status,
            channel.read_state, channel.write_state, channel.write_latch, channel.rw_mode, channel.mode,
            channel.bcd, channel.gate, start,
        )  # fmt: skip

    def from_kvm(self, data: bytes, same_clock: bool = False) -> None:
        """The reverse. Without `same_clock` the load times mean nothing here: counting begins anew, as
        KVM itself does in KVM_SET_PIT2."""
        with self._lock:
            now = self._clock()
            for number, channel in enumerate(self.channels):
                at = number * _KVM_CHANNEL.size
                self._unpack(channel, data[at : at + _KVM_CHANNEL.size], now, same_clock)
            (self.flags,) = _KVM_TAIL.unpack_from(data, 3 * _KVM_CHANNEL.size)
            self._drive(self.channels[0].output(now))

    @staticmethod
    def _unpack(channel: Channel, data: bytes, now: int, same_clock: bool) -> None:
        (
            count, latched, count_latched, status_latched, status, read_state, write_state, write_latch,
            rw_mode, mode, bcd, gate, load_time,
        ) = _KVM_CHANNEL.unpack(data)  # fmt: skip
        channel.reset()
        channel.count = min(count, 0x10000) or 0x10000
        channel.latched_count = latched
        channel.count_latched = count_latched if count_latched <= WORD_MSB else 0
        channel.status_latched, channel.status = bool(status_latched), status
        channel.read_state = read_state if 0 < read_state <= WORD_MSB else WORD_LSB
        channel.write_state = write_state if 0 < write_state <= WORD_MSB else WORD_LSB
        channel.write_latch = write_latch
        channel.rw_mode = rw_mode if 0 < rw_mode <= WORD_LSB else WORD_LSB
        channel.mode = mode if mode <= 5 else UNPROGRAMMED
        channel.bcd, channel.gate = bool(bcd), bool(gate)
        counting = load_time != _KVM_NOT_COUNTING and channel.mode != UNPROGRAMMED
        channel.loaded = counting or channel.mode in (1, 5)
        if counting and (channel.gate or channel.mode in (1, 5)):
            channel.start = load_time if same_clock else now
            channel.take_edges(now)
