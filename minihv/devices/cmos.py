"""CMOS memory and real-time clock of a PC/AT: index at offset 0, data at offset 1.

Sources: Motorola MC146818A data sheet (ADI856R2); IBM PC/AT technical reference for the meaning of the
bytes from 0x0e on; Bochs rombios and QEMU for the memory sizes above 16 MiB and the number of CPUs.

The time is the injected wall clock plus an offset that changes when the guest sets the clock. Nothing
ticks: flags are brought up to date when the guest looks or the machine calls `tick`, and `next_deadline`
says when the next enabled interrupt falls due.
"""

from collections.abc import Callable
from math import floor
from threading import Lock

from minihv.devices.calendar_time import Fields, decode_hour, encode_hour, from_bcd, join, split, to_bcd
from minihv.interfaces import Clock, IrqLine

INDEX, DATA = 0, 1
CMOS_SIZE = 128
SHUTDOWN, CENTURY = 0x0F, 0x32
NMI_OFF = 0x80
"""Bit 7 of the index: kept in `Cmos.nmi_masked`; no device of this board raises an NMI."""

_SECONDS, _ALARM_S, _MINUTES, _ALARM_M, _HOURS, _ALARM_H = range(6)
_WEEKDAY, _DAY, _MONTH, _YEAR, _A, _B, _C, _D = range(6, 14)
_TIME_REGISTERS = frozenset((_SECONDS, _MINUTES, _HOURS, _WEEKDAY, _DAY, _MONTH, _YEAR, CENTURY))

A_UIP = 0x80
B_SET, B_PIE, B_AIE, B_UIE, B_BINARY, B_24H = 0x80, 0x40, 0x20, 0x10, 0x04, 0x02
C_IRQF, C_PF, C_AF, C_UF = 0x80, 0x40, 0x20, 0x10
D_VALID = 0x80
_DIVIDER_RESET = 0x60  # DV2 and DV1 set: the chain is held in reset
_A_DEFAULT = 0x26  # 32.768 kHz time base, 1024 Hz
_B_DEFAULT = B_24H
_ANY = 0xC0  # alarm bytes from here on match everything

UPDATE_SECONDS = 0.002228
"""UIP precedes the update by 244 us, which takes 1984 us (data sheet, "Update Cycle")."""

_KIB, _MIB = 1 << 10, 1 << 20


def _memory_bytes(low_bytes: int, high_bytes: int) -> dict[int, int]:
    """The size registers (register -> byte) for RAM below and above 4 GiB."""
    words = {
        0x15: min(low_bytes // _KIB, 640),  # base memory, KiB
        0x17: min(max(low_bytes - _MIB, 0) // _KIB, 0xFFFF),  # above 1 MiB, KiB
        0x34: min(max(low_bytes - 16 * _MIB, 0) >> 16, 0xFFFF),  # above 16 MiB, 64 KiB units
    }
    words[0x30] = words[0x17]
    registers = {at + i: value >> 8 * i & 0xFF for at, value in words.items() for i in range(2)}
    high = min(high_bytes >> 16, 0xFFFFFF)
    registers.update({0x5B + i: high >> 8 * i & 0xFF for i in range(3)})  # above 4 GiB, 64 KiB units
    return registers


class Cmos:
    """128 bytes, ten of which are a clock. IRQ 8 is level: high from a cause until status C is read.

    `tick` and `next_deadline` may be called from another thread while the guest reads and writes.
    """

    max_width = 1

    def __init__(
        self,
        wall: Callable[[], float],
        clock: Clock,
        irq8: IrqLine,
        low_bytes: int,
        high_bytes: int = 0,
        cpus: int = 1,
    ) -> None:
        """`wall`: seconds since the epoch, UTC; `clock`: what `next_deadline` is expressed in.

        `low_bytes`/`high_bytes`: RAM below/from 4 GiB on.
        """
        self._wall = wall
        self._clock = clock
        self._irq8 = irq8
        self._lock = Lock()
        self._level = False
        self.offset = 0.0
        """Guest time minus wall time in seconds."""
        self.ram = bytearray(CMOS_SIZE)
        self.ram[_A], self.ram[_B], self.ram[_D] = _A_DEFAULT, _B_DEFAULT, D_VALID
        self.ram[0x14] = 0x02  # equipment: FPU, VGA, no floppy, no PS/2 mouse
        self.ram[0x5F] = min(cpus - 1, 0xFF)
        for register, value in _memory_bytes(low_bytes, high_bytes).items():
            self.ram[register] = value
        checksum = sum(self.ram[0x10:0x2E])
        self.ram[0x2E], self.ram[0x2F] = checksum >> 8 & 0xFF, checksum & 0xFF
        self.index = 0
        self.nmi_masked = False
        self.seen = self._now()
        """Guest time up to which the flags in status C are right."""

    def reset(self) -> None:
        """The chip's RESET pin: interrupts off, flags clear. Time, alarm and memory are on battery."""
        with self._lock:
            self.ram[_B] &= ~(B_PIE | B_AIE | B_UIE)
            self.ram[_C] = 0
            self.index = 0
            self.nmi_masked = False
            self._update_line()

    def close(self) -> None:
        """Nothing to give back."""

    def register(self, offset: int, write: bool) -> str:
        """INDEX or DATA."""
        return "INDEX" if offset == INDEX else "DATA"

    def read(self, offset: int, size: int) -> int:
        """The selected byte; the index is write-only and reads all ones."""
        if offset == INDEX:
            return 0xFF
        with self._lock:
            return self._read_register(self.index)

    def write(self, offset: int, size: int, value: int) -> None:
        """Set the index and the NMI mask, or the selected byte."""
        if offset == INDEX:
            self.index = value & ~NMI_OFF & 0xFF
            self.nmi_masked = bool(value & NMI_OFF)
            return
        with self._lock:
            self._write_register(self.index, value & 0xFF)

    # For the machine's timer, from any thread.

    def next_deadline(self) -> int | None:
        """Clock time (ns) of the next enabled interrupt, or None. Ask again after each call or access:
        the wall clock may be stepped."""
        with self._lock:
            self._advance()
            times = list(self._due_times())
        if not times:
            return None
        return self._clock() + max(floor((min(times) - self.seen) * 1e9) + 1, 0)

    def tick(self, now: int) -> None:
        """Bring the flags up to date and raise the interrupt if one fell due; `now` is the clock's time."""
        with self._lock:
            self._advance()

    def _due_times(self) -> list[float]:
        """Guest times at which an enabled cause that is not yet pending will come up."""
        enabled, pending = self.ram[_B], self.ram[_C]
        times: list[float] = []
        period = self._period()
        if enabled & B_PIE and not pending & C_PF and period:
            times.append((floor(self.seen / period) + 1) * period)
        if not self._halted():
            if enabled & B_UIE and not pending & C_UF:
                times.append(floor(self.seen) + 1)
            alarm = self._next_alarm(floor(self.seen))
            if enabled & B_AIE and not pending & C_AF and alarm is not None:
                times.append(alarm)
        return times

    # Time.

    def _now(self) -> float:
        return self._wall() + self.offset

    def _halted(self) -> bool:
        """The calendar stands still: the guest is setting it, or the divider chain is in reset."""
        return bool(self.ram[_B] & B_SET) or self._divider_reset()

    def _divider_reset(self) -> bool:
        return self.ram[_A] & _DIVIDER_RESET == _DIVIDER_RESET

    def _period(self) -> float:
        """Seconds between periodic interrupts; 0 when they are off (data sheet, table 5)."""
        rate = self.ram[_A] & 0x0F
        if not rate or self._divider_reset():
            return 0.0
        return (1 << (rate + 6 if rate < 3 else rate - 1)) / 32768

    def _advance(self) -> None:
        """Set the flags for everything that happened since the last look."""
        before, now = self.seen, self._now()
        self.seen = now
        flags = 0
        period = self._period()
        if period and floor(now / period) > floor(before / period):
            flags |= C_PF
        if floor(now) > floor(before) and not self._halted():
            flags |= C_UF
            alarm = self._next_alarm(floor(before))
            if alarm is not None and alarm <= now:
                flags |= C_AF
        self.ram[_C] |= flags
        self._update_line()

    def _next_alarm(self, after: int) -> int | None:
        """First second later than `after` (guest time) that matches the alarm bytes, or None."""
        binary, hours24 = self._modes()
        wanted = []
        for register, limit in ((_ALARM_H, 24), (_ALARM_M, 60), (_ALARM_S, 60)):
            value = self.ram[register]
            if value >= _ANY:
                wanted.append(range(limit))
                continue
            if register == _ALARM_H:
                value = decode_hour(value, binary, hours24)
            elif not binary:
                value = from_bcd(value)
            wanted.append(range(value, min(value + 1, limit)))
        return _next_match(after, *wanted)

    def _modes(self) -> tuple[bool, bool]:
        status = self.ram[_B]
        return bool(status & B_BINARY), bool(status & B_24H)

    def _update_line(self) -> None:
        enabled = self.ram[_C] & self.ram[_B] & (C_PF | C_AF | C_UF)
        self.ram[_C] = self.ram[_C] & ~C_IRQF | (C_IRQF if enabled else 0)
        if bool(enabled) != self._level:
            self._level = bool(enabled)
            self._irq8(self._level)

    # Registers, with the lock held.

    def _read_register(self, register: int) -> int:
        if register in _TIME_REGISTERS:
            if not self._halted():
                self._store_time()
        elif register == _A:
            fraction = self._now() % 1.0
            updating = not self._halted() and fraction >= 1.0 - UPDATE_SECONDS
            return self.ram[_A] | (A_UIP if updating else 0)
        elif register == _C:
            self._advance()
            value = self.ram[_C]
            self.ram[_C] = 0
            self._update_line()
            return value
        return self.ram[register]

    def _write_register(self, register: int, value: int) -> None:
        self._advance()
        if register in (_A, _B):
            self._write_control(register, value)
        elif register in _TIME_REGISTERS:
            if not self._halted():
                self._store_time()
            self.ram[register] = value
            if not self._halted():
                self._load_time(self._now() % 1.0)
        elif register not in (_C, _D):  # both are read-only
            self.ram[register] = value

    def _write_control(self, register: int, value: int) -> None:
        """Status A or B. Stopping keeps the time in the registers, starting takes it from there."""
        was_halted, was_reset, fraction = self._halted(), self._divider_reset(), self._now() % 1.0
        if not was_halted:
            self._store_time()
        if register == _B and value & B_SET:
            value &= ~B_UIE  # data sheet, "SET": UIE is cleared
        self.ram[register] = value & ~A_UIP if register == _A else value
        if was_halted and not self._halted():
            # After a divider reset the first update comes half a second later.
            self._load_time(0.5 if was_reset else fraction)
        elif not was_halted and not self._halted():
            self._store_time()  # in the representation now asked for
        self._update_line()

    def _store_time(self) -> None:
        """Put the guest's time into the registers."""
        binary, hours24 = self._modes()
        now = split(floor(self._now()))
        plain = {
            _SECONDS: now.second, _MINUTES: now.minute, _WEEKDAY: now.weekday,
            _DAY: now.day, _MONTH: now.month, _YEAR: now.year % 100,
        }  # fmt: skip
        for register, value in plain.items():
            self.ram[register] = value if binary else to_bcd(value)
        self.ram[_HOURS] = encode_hour(now.hour, binary, hours24)
        self.ram[CENTURY] = to_bcd(now.year // 100)  # BCD in either mode, as BIOSes keep it

    def _load_time(self, fraction: float) -> None:
        """Take the guest's time from the registers; `fraction` of a second is added."""
        binary, hours24 = self._modes()

        def plain(register: int) -> int:
            return self.ram[register] if binary else from_bcd(self.ram[register])

        fields = Fields(
            second=plain(_SECONDS),
            minute=plain(_MINUTES),
            hour=decode_hour(self.ram[_HOURS], binary, hours24),
            weekday=0,  # follows from the date
            day=plain(_DAY),
            month=plain(_MONTH),
            year=from_bcd(self.ram[CENTURY]) * 100 + plain(_YEAR),
        )
        self.offset += join(fields) + fraction - self._now()
        self.seen = self._now()


def _next_match(after: int, hours: range, minutes: range, seconds: range) -> int | None:
    """First second after `after` whose time of day is in the three ranges, or None."""
    midnight = after - after % 86400
    for day in (midnight, midnight + 86400):
        for hour in hours:
            if day + hour * 3600 + 3599 <= after:
                continue
            for minute in minutes:
                at = day + hour * 3600 + minute * 60
                if at + 59 <= after:
                    continue
                for second in seconds:
                    if at + second > after:
                        return at + second
    return None
