"""The 82093AA I/O APIC: 24 lines, each with a redirection entry that makes a message of it.

Source: Intel 82093AA data sheet (290566). Lines carry "asserted": the polarity bit is kept and changes
nothing, because the board wires every line the way its table says.
"""

import struct

from minihv.devices.apicbus import MODE_FIXED, MODE_LOWEST, ApicBus, Message
from minihv.interfaces import IrqLine

PINS = 24
VERSION = 0x11
DEFAULT_GPA = 0xFEC00000

REDIR_REMOTE_IRR = 1 << 14
REDIR_LEVEL = 1 << 15
REDIR_MASKED = 1 << 16
_REDIR_READ_ONLY = 1 << 12 | REDIR_REMOTE_IRR
_REDIR_WRITABLE = 0xFF00_0000_0001_FFFF & ~_REDIR_READ_ONLY

_IOREGSEL, _IOWIN = 0x00, 0x10
_ID, _VER, _ARB, _REDIR = 0x00, 0x01, 0x02, 0x10
_KVM = struct.Struct("<QIIII24Q")


class IoApic:
    """The register window (IOREGSEL at 0, IOWIN at 0x10); a `Device`."""

    max_width = 4

    def __init__(self, bus: ApicBus, apic_id: int = 0) -> None:
        self._bus = bus
        self._first_id = apic_id
        self.lines = 0
        """Bit n: pin n is asserted."""
        self._power_on()
        bus.on_eoi(self._eoi)

    def _power_on(self) -> None:
        self.id = self._first_id
        self.select = 0
        self.entries = [REDIR_MASKED] * PINS

    # --- Lines --------------------------------------------------------------------------------------

    def set_line(self, pin: int, level: bool) -> None:
        """Assert or release pin 0..23."""
        with self._bus.lock:
            bit = 1 << pin
            rose = level and not self.lines & bit
            self.lines = self.lines | bit if level else self.lines & ~bit
            # A masked edge is neither delivered nor kept (data sheet, 3.2.4, "Interrupt Mask").
            if level and (rose or self.entries[pin] & REDIR_LEVEL):
                self._service(pin)

    def line(self, pin: int) -> IrqLine:
        """Pin `pin` as a line to hand to a device."""

        def drive(level: bool, /) -> None:
            self.set_line(pin, level)

        return drive

    def _service(self, pin: int) -> None:
        entry = self.entries[pin]
        level = bool(entry & REDIR_LEVEL)
        if entry & REDIR_MASKED or (level and entry & REDIR_REMOTE_IRR):
            return
        mode = entry >> 8 & 7
        destination = entry >> 56
        message = Message(
            mode, entry & 0xFF, destination, bool(entry & 0x800), level, broadcast=destination == 0xFF
        )
        accepted = self._bus.deliver(message)
        # Remote IRR follows fixed and lowest-priority interrupts only; the others get no EOI.
        if accepted and level and mode in (MODE_FIXED, MODE_LOWEST):
            self.entries[pin] |= REDIR_REMOTE_IRR

    def _eoi(self, vector: int) -> None:
        for pin, entry in enumerate(self.entries):
            if entry & 0xFF == vector and entry & REDIR_REMOTE_IRR:
                self.entries[pin] = entry & ~REDIR_REMOTE_IRR
                if self.lines >> pin & 1:
                    self._service(pin)

    # --- Registers ----------------------------------------------------------------------------------

    def read(self, offset: int, size: int) -> int:
        with self._bus.lock:
            if offset & ~3 == _IOREGSEL:
                value = self.select
            elif offset & ~3 == _IOWIN:
                value = self._read_indirect(self.select)
            else:
                return 0
            return value >> 8 * (offset & 3) & (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        with self._bus.lock:
            if offset == _IOREGSEL:
                self.select = value & 0xFF
            elif offset == _IOWIN:
                self._write_indirect(self.select, value & 0xFFFF_FFFF)

    def _read_indirect(self, index: int) -> int:
        if index in (_ID, _ARB):
            return self.id << 24
        if index == _VER:
            return VERSION | (PINS - 1) << 16
        pin, high = divmod(index - _REDIR, 2)
        if 0 <= pin < PINS:
            return self.entries[pin] >> 32 if high else self.entries[pin] & 0xFFFF_FFFF
        return 0

    def _write_indirect(self, index: int, value: int) -> None:
        if index == _ID:
            self.id = value >> 24 & 0xF
            return
        pin, high = divmod(index - _REDIR, 2)
        if not 0 <= pin < PINS:
            return
        old = self.entries[pin]
        entry = (old & 0xFFFF_FFFF | value << 32) if high else (old & ~0xFFFF_FFFF | value)
        entry = entry & _REDIR_WRITABLE | old & _REDIR_READ_ONLY
        if not entry & REDIR_LEVEL:
            # Software without a directed EOI clears Remote IRR by a detour through edge mode.
            entry &= ~REDIR_REMOTE_IRR
        self.entries[pin] = entry
        if entry & REDIR_LEVEL and self.lines >> pin & 1:
            self._service(pin)

    def register(self, offset: int, write: bool) -> str:
        if offset & ~3 == _IOREGSEL:
            return "IOREGSEL"
        if offset & ~3 != _IOWIN:
            return "reserved"
        names = {_ID: "IOAPICID", _VER: "IOAPICVER", _ARB: "IOAPICARB"}
        pin = self.select - _REDIR >> 1
        return names.get(self.select) or (f"IOREDTBL{pin}" if 0 <= pin < PINS else "reserved")

    def reset(self) -> None:
        """All pins masked; the lines stay where the devices hold them."""
        with self._bus.lock:
            self._power_on()

    def close(self) -> None:
        """Nothing is held."""

    # --- KVM's layout -------------------------------------------------------------------------------

    def to_kvm(self, gpa: int = DEFAULT_GPA) -> bytes:
        """struct kvm_ioapic_state, 216 bytes (KVM API, KVM_GET_IRQCHIP). `gpa`: where the board has it."""
        with self._bus.lock:
            return _KVM.pack(gpa, self.select, self.id, self.lines, 0, *self.entries)

    def from_kvm(self, data: bytes) -> None:
        """The reverse; the base address is the board's affair and not read."""
        with self._bus.lock:
            _gpa, select, apic_id, lines, _pad, *entries = _KVM.unpack(data[: _KVM.size])
            self.select, self.id = select & 0xFF, apic_id & 0xF
            self.lines = lines & (1 << PINS) - 1
            self.entries = list(entries)
