"""The 8259A pair: master and slave interrupt controller, with the chipset's edge/level registers.

Sources: Intel 8259A data sheet (231468); ELCR: Intel 82371 (PIIX), 2.5.6. On a PC the slave's INT is wired
to the master's IR2 and neither works alone, so ICW1.SNGL and ICW3 are accepted and change nothing; the
trigger mode comes from the ELCR, so ICW1.LTIM changes nothing either.

Request lines carry "asserted", not a voltage. An edge is latched until it is acknowledged, even if the
line falls before that (real parts want the line held until INTA): our devices may pulse their lines.
"""

import struct
import threading
from contextlib import AbstractContextManager

from minihv.interfaces import IrqLine

CASCADE = 2
_ELCR_MASKS = (0xF8, 0xDE)
"""IRQ 0, 1, 2, 8 and 13 can only be edge-triggered."""
_KVM_STATE = struct.Struct("<16B")
_NO_ICW = 0


class Pic8259:
    """One 8259A. Use through `PicPair`."""

    def __init__(self, elcr_mask: int) -> None:
        self.elcr_mask = elcr_mask
        self.elcr = 0
        self.lines = 0
        self.power_on()

    def power_on(self) -> None:
        """Registers after power-on; the lines stay where the devices hold them, the ELCR clears."""
        self.irr = self.isr = self.imr = 0
        self.elcr = 0
        self.lowest_plus_one = 0
        """Number of the line with the highest priority (data sheet: rotation)."""
        self.base = 0
        self.read_isr = False
        self.poll = False
        self.special_mask = False
        self.icw = _NO_ICW
        """Which initialization word is expected next at A0 = 1: 2, 3, 4, or 0."""
        self.wants_icw4 = False
        self.auto_eoi = False
        self.rotate_on_auto_eoi = False
        self.fully_nested_special = False

    # --- Requests -----------------------------------------------------------------------------------

    def set_line(self, number: int, level: bool) -> None:
        """Input IR`number`. Level lines follow the device, edge lines latch a rise."""
        bit = 1 << number
        if level:
            if self.elcr & bit or not self.lines & bit:
                self.irr |= bit
            self.lines |= bit
        else:
            self.lines &= ~bit
            if self.elcr & bit:
                self.irr &= ~bit

    def _priority(self, mask: int) -> int:
        """Rank of the most urgent line in `mask`, 0 (highest) to 7; 8 where there is none."""
        if not mask:
            return 8
        rotated = (mask >> self.lowest_plus_one | mask << 8 - self.lowest_plus_one) & 0xFF
        return (rotated & -rotated).bit_length() - 1

    def request(self) -> int | None:
        """The line whose interrupt INT asks for now, None where INT is low."""
        wanted = self._priority(self.irr & ~self.imr)
        if wanted == 8:
            return None
        served = self.isr
        if self.special_mask:
            served &= ~self.imr
        if self.fully_nested_special:
            # The slave may interrupt its own handler with something more urgent.
            served &= ~(1 << CASCADE)
        if wanted >= self._priority(served):
            return None
        return wanted + self.lowest_plus_one & 7

    def acknowledge(self, number: int) -> None:
        """INTA for line `number`."""
        bit = 1 << number
        if self.auto_eoi:
            if self.rotate_on_auto_eoi:
                self.lowest_plus_one = number + 1 & 7
        else:
            self.isr |= bit
        if not self.elcr & bit:
            self.irr &= ~bit

    # --- Ports --------------------------------------------------------------------------------------

    def write(self, a0: int, value: int) -> None:
        """A byte written with address line A0 = `a0`."""
        if a0:
            self._write_data(value)
        elif value & 0x10:
            self._icw1(value)
        elif value & 0x08:
            self._ocw3(value)
        else:
            self._ocw2(value)

    def _icw1(self, value: int) -> None:
        self.wants_icw4 = bool(value & 1)
        self.irr = self.lines & self.elcr
        self.isr = self.imr = 0
        self.lowest_plus_one = 0
        self.special_mask = self.read_isr = self.poll = False
        self.rotate_on_auto_eoi = False
        if not self.wants_icw4:
            self.auto_eoi = self.fully_nested_special = False
        self.icw = 2

    def _write_data(self, value: int) -> None:
        if self.icw == _NO_ICW:
            self.imr = value
        elif self.icw == 2:
            self.base = value & 0xF8
            self.icw = 3
        elif self.icw == 3:
            self.icw = 4 if self.wants_icw4 else _NO_ICW
        else:
            self.fully_nested_special = bool(value & 0x10)
            self.auto_eoi = bool(value & 0x02)
            self.icw = _NO_ICW

    def _ocw2(self, value: int) -> None:
        command, line = value >> 5, value & 7
        if command in (0, 4):
            self.rotate_on_auto_eoi = command == 4
        elif command in (1, 5):
            rank = self._priority(self.isr)
            if rank != 8:
                served = rank + self.lowest_plus_one & 7
                self.isr &= ~(1 << served)
                if command == 5:
                    self.lowest_plus_one = served + 1 & 7
        elif command in (3, 7):
            self.isr &= ~(1 << line)
            if command == 7:
                self.lowest_plus_one = line + 1 & 7
        elif command == 6:
            self.lowest_plus_one = line + 1 & 7

    def _ocw3(self, value: int) -> None:
        if value & 0x04:
            self.poll = True
        if value & 0x02:
            self.read_isr = bool(value & 1)
        if value & 0x40:
            self.special_mask = bool(value & 0x20)

    def read(self, a0: int) -> int:
        """A byte read with address line A0 = `a0`; the read after a poll command is an acknowledge."""
        if self.poll:
            self.poll = False
            line = self.request()
            if line is None:
                return 0
            self.acknowledge(line)
            return 0x80 | line
        if a0:
            return self.imr
        return self.isr if self.read_isr else self.irr

    # --- KVM's layout -------------------------------------------------------------------------------

    def to_kvm(self) -> bytes:
        """struct kvm_pic_state, 16 bytes."""
        # KVM numbers its init_state 0..3; 1 waits for ICW2.
        return _KVM_STATE.pack(
            self.lines, self.irr, self.imr, self.isr, self.lowest_plus_one, self.base, self.read_isr,
            self.poll, self.special_mask, max(self.icw - 1, 0), self.auto_eoi, self.rotate_on_auto_eoi,
            self.fully_nested_special, self.wants_icw4, self.elcr, self.elcr_mask,
        )  # fmt: skip

    def from_kvm(self, data: bytes) -> None:
        """The reverse; `elcr_mask` belongs to the board and stays."""
        (
            self.lines, self.irr, self.imr, self.isr, add, self.base, read_isr, poll, special, init,
            auto_eoi, rotate, nested, icw4, elcr, _mask,
        ) = _KVM_STATE.unpack(data)  # fmt: skip
        self.lowest_plus_one = add & 7
        self.read_isr, self.poll, self.special_mask = bool(read_isr), bool(poll), bool(special)
        self.icw = min(init, 3) + 1 if init else _NO_ICW
        self.auto_eoi, self.rotate_on_auto_eoi = bool(auto_eoi), bool(rotate)
        self.fully_nested_special, self.wants_icw4 = bool(nested), bool(icw4)
        self.elcr = elcr & self.elcr_mask


class PicPair:
    """Both controllers and what the processor sees of them.

    `master`, `slave` and `elcr` are the three port devices (2 addresses each). `output` is called with
    the level of the master's INT whenever it changes. `lock` is shared by all interrupt controllers of a
    machine, because lines may move from any thread.
    """

    def __init__(self, output: IrqLine, lock: AbstractContextManager[object] | None = None) -> None:
        self._output = output
        self._lock = lock if lock is not None else threading.RLock()
        self._chips = (Pic8259(_ELCR_MASKS[0]), Pic8259(_ELCR_MASKS[1]))
        self.requested = False
        """Level of the master's INT."""
        self.master = PicPorts(self, 0)
        self.slave = PicPorts(self, 1)
        self.elcr = ElcrPorts(self)

    def set_line(self, irq: int, level: bool) -> None:
        """Assert or release IRQ 0..15. IRQ 2 is the cascade: there is no such input."""
        if irq == CASCADE:
            return
        with self._lock:
            self._chips[irq >> 3].set_line(irq & 7, level)
            self._update()

    def line(self, irq: int) -> IrqLine:
        """IRQ `irq` as a line to hand to a device."""

        def drive(level: bool, /) -> None:
            self.set_line(irq, level)

        return drive

    def peek(self) -> int:
        """The vector that `acknowledge` would give now; nothing changes."""
        with self._lock:
            return self._resolve()[1]

    def acknowledge(self) -> int:
        """The processor's two INTA cycles: the vector.

        Where the request has gone meanwhile it is IR7's, without an ISR bit, of whichever chip lost it
        (data sheet, "default IR7"); a slave's still sets the master's ISR bit 2.
        """
        with self._lock:
            lines, vector = self._resolve()
            for chip, line in zip(self._chips, lines, strict=True):
                if line is not None:
                    chip.acknowledge(line)
            self._update()
            return vector

    def _resolve(self) -> tuple[tuple[int | None, int | None], int]:
        """The lines to acknowledge on (master, slave), and the vector."""
        master, slave = self._chips
        line = master.request()
        if line is None:
            return (None, None), master.base + 7
        if line != CASCADE:
            return (line, None), master.base + line
        inner = slave.request()
        return (line, inner), slave.base + (7 if inner is None else inner)

    def _update(self) -> None:
        master, slave = self._chips
        if slave.request() is not None:
            master.irr |= 1 << CASCADE
        requested = master.request() is not None
        if requested != self.requested:
            self.requested = requested
            self._output(requested)

    def reset(self) -> None:
        """Both chips after power-on."""
        with self._lock:
            for chip in self._chips:
                chip.power_on()
            self._update()

    def to_kvm(self) -> bytes:
        """Two struct kvm_pic_state (KVM API, KVM_GET_IRQCHIP): master, then slave; 32 bytes."""
        with self._lock:
            return b"".join(chip.to_kvm() for chip in self._chips)

    def from_kvm(self, data: bytes) -> None:
        """The reverse of `to_kvm`."""
        with self._lock:
            self._chips[0].from_kvm(data[:16])
            self._chips[1].from_kvm(data[16:32])
            self._update()


class PicPorts:
    """The two ports of one chip (command, data); a `Device`."""

    max_width = 1

    def __init__(self, pair: PicPair, index: int) -> None:
        self._pair = pair
        self._chip = pair._chips[index]

    def read(self, offset: int, size: int) -> int:
        with self._pair._lock:
            value = self._chip.read(offset)
            self._pair._update()  # a poll may have taken the request
            return value

    def write(self, offset: int, size: int, value: int) -> None:
        with self._pair._lock:
            self._chip.write(offset, value & 0xFF)
            self._pair._update()

    def register(self, offset: int, write: bool) -> str:
        if offset:
            return "OCW1" if write else "IMR"
        return "OCW2" if write else "IRR"

    def reset(self) -> None:
        self._pair.reset()

    def close(self) -> None:
        """Nothing is held."""


class ElcrPorts:
    """ELCR1 and ELCR2: a set bit makes that IRQ level-triggered; a `Device`."""

    max_width = 1

    def __init__(self, pair: PicPair) -> None:
        self._pair = pair

    def read(self, offset: int, size: int) -> int:
        return self._pair._chips[offset].elcr

    def write(self, offset: int, size: int, value: int) -> None:
        with self._pair._lock:
            chip = self._pair._chips[offset]
            chip.elcr = value & chip.elcr_mask
            self._pair._update()

    def register(self, offset: int, write: bool) -> str:
        return f"ELCR{offset + 1}"

    def reset(self) -> None:
        self._pair.reset()

    def close(self) -> None:
        """Nothing is held."""


class PicInterruptSource:
    """The pair as the only interrupt controller of a processor without APIC (an `InterruptSource`)."""

    def __init__(self, pair: PicPair) -> None:
        self._pair = pair
        self.cr8 = 0

    def pending(self) -> int | None:
        return self._pair.peek() if self._pair.requested else None

    def acknowledge(self) -> int:
        return self._pair.acknowledge()

    def read_msr(self, index: int) -> int | None:
        return None

    def write_msr(self, index: int, value: int) -> bool:
        return False

    def mmio_base(self) -> int | None:
        return None

    def read(self, offset: int, size: int) -> int:
        return (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """No register page: nobody calls this, as `mmio_base` is None."""

    def reset(self) -> None:
        """INIT does not reach the 8259s (they hang on the bus reset); only CR8 clears."""
        self.cr8 = 0
