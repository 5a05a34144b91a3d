"""The local APIC of one software vCPU: xAPIC page, x2APIC MSRs, priorities, IPIs, local vector table.

Source: SDM Vol. 3A, chapter 10 (x2APIC: 10.12; chapter 11 in newer editions). It is an
`minihv.interfaces.InterruptSource`: the engine serves the page and the MSRs from it without an exit. No
SMM here, so SMIs are dropped; version and LVT count are KVM's (0x14, six entries).
"""

from collections.abc import Callable
from typing import Protocol

from minihv.devices import lapic_kvm, lapic_msr
from minihv.devices import lapic_registers as reg
from minihv.devices.apicbus import (
    MODE_EXTINT,
    MODE_FIXED,
    MODE_INIT,
    MODE_LOWEST,
    MODE_NMI,
    MODE_SIPI,
    ApicBus,
    Message,
)
from minihv.devices.lapic_timer import LapicTimer
from minihv.interfaces import Clock, InterruptTarget
from minihv.x86.registers import (
    APIC_BASE_BSP,
    APIC_BASE_DEFAULT,
    APIC_BASE_ENABLE,
    APIC_BASE_X2APIC,
    MSR_APIC_BASE,
    MSR_TSC_DEADLINE,
)


class ExtInt(Protocol):
    """The 8259 pair at LINT0 (virtual wire mode)."""

    requested: bool

    def peek(self) -> int: ...

    def acknowledge(self) -> int: ...


class LocalApic:
    """One local APIC. `target` is set by whoever connects it to its vCPU, before the vCPU runs."""

    def __init__(
        self,
        apic_id: int,
        bus: ApicBus,
        clock: Clock,
        tsc: Callable[[], int],
        tsc_hz: int,
        *,
        extint: ExtInt | None = None,
    ) -> None:
        """`apic_id` 0 is the bootstrap processor. `tsc`/`tsc_hz` drive the TSC-deadline timer."""
        self.target: InterruptTarget | None = None
        self.timer = LapicTimer(clock, tsc, tsc_hz)
        self._clock = clock
        self._bus = bus
        self._lock = bus.lock
        self._extint = extint
        self._first_id = apic_id
        self.id = apic_id
        self.apic_base = 0
        """IA32_APIC_BASE, all bits. Assign it only to load a saved state: no rule is checked."""
        self._lint_lines = {reg.LVT_LINT0: False, reg.LVT_LINT1: False}
        self.power_on()
        bus.attach(self)

    def power_on(self) -> None:
        """Everything as after power-on: id and base, too; the pins stay where they are held."""
        bsp = 0 if self._first_id else APIC_BASE_BSP
        self.apic_base = APIC_BASE_DEFAULT | APIC_BASE_ENABLE | bsp
        self.restore_id()
        self.reset()

    def reset(self) -> None:
        """INIT or power-on (SDM Vol. 3A, 10.4.7.1); the id and IA32_APIC_BASE stay.

        The bootstrap processor's LINT0 comes up as firmware leaves it: ExtINT, unmasked ("virtual wire"),
        since most guests here start without firmware; KVM does the same.
        """
        with self._lock:
            self.irr = self.isr = self.tmr = 0
            self.tpr = 0
            self.svr = 0xFF
            self.dfr = reg.ALL_32
            self.ldr = 0
            self.esr = self.errors = 0
            self.icr = self.icr_high = 0
            self.lvt = dict.fromkeys(reg.LVT_BITS, reg.LVT_MASKED)
            if self.apic_base & APIC_BASE_BSP:
                self.lvt[reg.LVT_LINT0] = MODE_EXTINT << 8
            self._extint_message = False
            self.timer.reset()

    def restore_id(self) -> None:
        """The id that the board gave, whatever software wrote meanwhile."""
        self.id = self._first_id

    # --- Modes --------------------------------------------------------------------------------------

    @property
    def enabled(self) -> bool:
        """IA32_APIC_BASE.EN: there is an APIC at all."""
        return bool(self.apic_base & APIC_BASE_ENABLE)

    @property
    def x2apic(self) -> bool:
        return bool(self.apic_base & APIC_BASE_X2APIC)

    @property
    def software_enabled(self) -> bool:
        return bool(self.svr & reg.SVR_ENABLE)

    def mmio_base(self) -> int | None:
        """GPA of the xAPIC page; None in x2APIC mode or when disabled."""
        mode = self.apic_base & (APIC_BASE_ENABLE | APIC_BASE_X2APIC)
        return self.apic_base & 0xF_FFFF_FFFF_F000 if mode == APIC_BASE_ENABLE else None

    # --- Towards the processor ----------------------------------------------------------------------

    @property
    def cr8(self) -> int:
        """Task-priority class: TPR bits 7:4."""
        return self.tpr >> 4

    @cr8.setter
    def cr8(self, value: int) -> None:
        self.tpr = (value & 0xF) << 4

    @property
    def ppr(self) -> int:
        """Processor priority (SDM Vol. 3A, 10.8.3.1)."""
        serving = self.isr.bit_length() - 1 & 0xF0 if self.isr else 0
        return self.tpr if self.tpr & 0xF0 >= serving else serving

    def pending(self) -> int | None:
        """The 8259's vector where it is wired through, else the highest IRR above the PPR."""
        if self._takes_extint() and self._extint is not None:
            return self._extint.peek()
        irr = self.irr
        if not irr or not self.enabled:
            return None
        vector = irr.bit_length() - 1
        return vector if vector & 0xF0 > self.ppr & 0xF0 else None

    def acknowledge(self) -> int:
        """IRR to ISR. Where the request has gone meanwhile: the spurious vector."""
        with self._lock:
            if self._takes_extint() and self._extint is not None:
                self._extint_message = False
                return self._extint.acknowledge()
            vector = self.pending()
            if vector is None:
                return self.svr & 0xFF
            self.irr &= ~(1 << vector)
            self.isr |= 1 << vector
            return vector

    def _takes_extint(self) -> bool:
        """Whether the 8259 asks and its INTR reaches the processor.

        With the APIC disabled, LINT0 is the INTR pin (SDM Vol. 3A, 10.4.3).
        """
        if self._extint is None or not self._extint.requested:
            return False
        if not self.enabled or self._extint_message:
            return True
        lint0 = self.lvt[reg.LVT_LINT0]
        return not lint0 & reg.LVT_MASKED and lint0 >> 8 & 7 == MODE_EXTINT

    def _notice(self) -> None:
        if self.target is not None:
            self.target.notice()

    # --- From the wire ------------------------------------------------------------------------------

    def matches(self, message: Message) -> bool:
        """Whether a message with a destination is for us (SDM Vol. 3A, 10.6.2, 10.12.10)."""
        if not self.enabled:
            return False
        if message.broadcast:
            return True
        destination = message.destination
        if not message.logical:
            return destination == (self.id if self.x2apic else self.id & 0xFF)
        if self.x2apic:
            ldr = self._x2apic_ldr()
            return ldr >> 16 == destination >> 16 and bool(ldr & destination & 0xFFFF)
        logical = self.ldr >> 24
        if self.dfr >> 28 == 0xF:
            return bool(logical & destination)
        return logical >> 4 == destination >> 4 and bool(logical & destination & 0xF)

    def _x2apic_ldr(self) -> int:
        return (self.id & 0xF_FFF0) << 12 | 1 << (self.id & 0xF)

    def arbitration(self) -> int | None:
        """Priority class for lowest-priority delivery (SDM Vol. 3A, 10.6.2.4)."""
        return self.ppr >> 4 if self.enabled and self.software_enabled else None

    def receive(self, message: Message) -> None:
        """Take a message that was found to be for us."""
        with self._lock:
            if self.enabled:
                self._take(message.mode, message.vector, message.level_triggered, message.asserted)

    def _take(self, mode: int, vector: int, level_triggered: bool, asserted: bool = True) -> None:
        if mode in (MODE_FIXED, MODE_LOWEST):
            self._accept(vector, level_triggered)
        elif mode == MODE_EXTINT:
            self._extint_message = True
            self._notice()
        elif self.target is None:
            return
        elif mode == MODE_NMI:
            self.target.deliver_nmi()
        elif mode == MODE_INIT:
            # INIT level de-assert only synchronised arbitration ids on old parts (SDM Vol. 3A, 10.6.1).
            if asserted:
                self.target.deliver_init()
        elif mode == MODE_SIPI:
            self.target.deliver_sipi(vector)

    def _accept(self, vector: int, level_triggered: bool) -> None:
        """Vector into the IRR, and into the TMR how it came."""
        if vector < 16:
            self._error(reg.ERROR_RECEIVE_VECTOR)
            return
        if not self.software_enabled:
            return
        bit = 1 << vector
        self.irr |= bit
        self.tmr = self.tmr | bit if level_triggered else self.tmr & ~bit
        self._notice()

    def _error(self, bit: int) -> None:
        """Remember for the ESR, and raise the error interrupt once per kind of error."""
        if self.errors & bit:
            return
        self.errors |= bit
        entry = self.lvt[reg.LVT_ERROR]
        if not entry & reg.LVT_MASKED:
            self._accept(entry & 0xFF, False)

    # --- Local pins ---------------------------------------------------------------------------------

    def lint0(self, level: bool, /) -> None:
        """LINT0: the 8259's INT, on a PC."""
        self._lint(reg.LVT_LINT0, level)

    def lint1(self, level: bool, /) -> None:
        """LINT1: NMI, on a PC."""
        self._lint(reg.LVT_LINT1, level)

    def _lint(self, pin: int, level: bool) -> None:
        with self._lock:
            rose = level and not self._lint_lines[pin]
            self._lint_lines[pin] = level
            entry = self.lvt[pin]
            if not self.enabled:
                if rose and pin == reg.LVT_LINT1 and self.target is not None:
                    self.target.deliver_nmi()
                self._notice()
                return
            mode = entry >> 8 & 7
            if mode == MODE_EXTINT:
                self._notice()
            elif not entry & reg.LVT_MASKED and mode == MODE_FIXED and entry & reg.LVT_LEVEL:
                self._lint_service(pin)
            elif rose and not entry & reg.LVT_MASKED:
                self._take(mode, entry & 0xFF, False)

    def _lint_service(self, pin: int) -> None:
        entry = self.lvt[pin]
        if self._lint_lines[pin] and not entry & reg.LVT_REMOTE_IRR:
            self.lvt[pin] |= reg.LVT_REMOTE_IRR
            self._accept(entry & 0xFF, True)

    # --- Time ---------------------------------------------------------------------------------------

    def next_deadline(self) -> int | None:
        """When (ns of the clock) `tick` should next be called; None: the timer is not armed."""
        return self.timer.next_deadline()

    def tick(self, now: int) -> None:
        """Deliver the timer interrupt if it is due."""
        with self._lock:
            if self.timer.expire(now):
                entry = self.lvt[reg.LVT_TIMER]
                if not entry & reg.LVT_MASKED and self.enabled:
                    self._accept(entry & 0xFF, False)

    def _replan(self) -> None:
        """The next deadline moved: let the machine plan anew."""
        if self.target is not None:
            self.target.kick()

    # --- Registers ----------------------------------------------------------------------------------

    def read(self, offset: int, size: int) -> int:
        """xAPIC page. Only the first four bytes of each 16 exist (SDM Vol. 3A, 10.4.1)."""
        shift = offset & 0xF
        if shift >= 4:
            return 0
        with self._lock:
            if offset & 0xFF0 in reg.WRITE_ONLY:
                return 0
            value = self.read_word(offset & 0xFF0)
            if value is None:
                self._error(reg.ERROR_REGISTER)
                return 0
            return value >> 8 * shift & (1 << 8 * min(size, 4 - shift)) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """xAPIC page. Registers take aligned 32-bit writes; anything else is undefined, and ignored here."""
        if offset & 0xF or size < 4:
            return
        with self._lock:
            self.write_word(offset & 0xFF0, value & reg.ALL_32)

    def register(self, offset: int, write: bool) -> str:
        """Name of the register at `offset` of the page."""
        return reg.register_name(offset)

    def read_word(self, offset: int) -> int | None:
        """None: no such register."""
        if reg.ISR <= offset < reg.ESR:
            word = (offset & 0x70) >> 4
            bits = self.isr if offset < reg.TMR else self.tmr if offset < reg.IRR else self.irr
            return bits >> 32 * word & reg.ALL_32
        if offset in self.lvt:
            return self.lvt[offset]
        if offset == reg.ID:
            return self.id if self.x2apic else (self.id & 0xFF) << 24
        if offset == reg.LDR:
            return self._x2apic_ldr() if self.x2apic else self.ldr
        reader = _READERS.get(offset)
        return None if reader is None else reader(self)

    def write_word(self, offset: int, value: int) -> None:
        writer = _WRITERS.get(offset)
        if offset in self.lvt:
            self._write_lvt(offset, value)
        elif writer is not None:
            writer(self, value)
        elif self.read_word(offset) is None or offset == reg.SELF_IPI:
            self._error(reg.ERROR_REGISTER)  # what is only read-only is ignored without one

    def _write_id(self, value: int) -> None:
        self.id = value >> 24

    def _write_tpr(self, value: int) -> None:
        self.tpr = value & 0xFF

    def _write_eoi(self, value: int) -> None:
        """End of interrupt for the highest vector in service (SDM Vol. 3A, 10.8.5)."""
        if not self.isr:
            return
        vector = self.isr.bit_length() - 1
        bit = 1 << vector
        self.isr &= ~bit
        if self.tmr & bit:
            for pin in (reg.LVT_LINT0, reg.LVT_LINT1):
                if self.lvt[pin] & reg.LVT_REMOTE_IRR and self.lvt[pin] & 0xFF == vector:
                    self.lvt[pin] &= ~reg.LVT_REMOTE_IRR
                    self._lint_service(pin)
            self._bus.eoi(vector)
        self._notice()

    def _write_ldr(self, value: int) -> None:
        self.ldr = value & 0xFF00_0000

    def _write_dfr(self, value: int) -> None:
        self.dfr = value | 0x0FFF_FFFF

    def _write_svr(self, value: int) -> None:
        self.svr = value & 0x3FF
        if not self.software_enabled:
            # Disabling masks the whole LVT (SDM Vol. 3A, 10.4.7.2).
            for offset in self.lvt:
                self.lvt[offset] |= reg.LVT_MASKED

    def _write_esr(self, value: int) -> None:
        """A write makes the errors since the last one readable (SDM Vol. 3A, 10.5.3)."""
        self.esr, self.errors = self.errors, 0

    def _write_icr(self, value: int) -> None:
        self.icr = value & 0x000C_CFFF
        self.send_ipi(self.icr, self.icr_high if self.x2apic else self.icr_high >> 24)

    def _write_icr_high(self, value: int) -> None:
        self.icr_high = value & 0xFF00_0000

    def _write_lvt(self, offset: int, value: int) -> None:
        entry = value & reg.LVT_BITS[offset] | self.lvt[offset] & reg.LVT_REMOTE_IRR
        if not entry & reg.LVT_LEVEL:
            entry &= ~reg.LVT_REMOTE_IRR
        if not self.software_enabled:
            entry |= reg.LVT_MASKED
        self.lvt[offset] = entry
        if offset == reg.LVT_TIMER:
            self.timer.set_mode(entry >> 17 & 3)
            self._replan()
        elif offset in self._lint_lines:
            if not entry & reg.LVT_MASKED and entry >> 8 & 7 == MODE_FIXED and entry & reg.LVT_LEVEL:
                self._lint_service(offset)
            self._notice()

    def _write_initial(self, value: int) -> None:
        self.timer.set_initial(value)
        self._replan()

    def _write_divide(self, value: int) -> None:
        self.timer.set_divide(value)
        self._replan()

    def send_ipi(self, icr: int, destination: int) -> None:
        """An interprocessor interrupt (SDM Vol. 3A, 10.6.1)."""
        mode, vector = icr >> 8 & 7, icr & 0xFF
        asserted = bool(icr & 0x4000)
        level = bool(icr & 0x8000)
        if mode in (MODE_FIXED, MODE_LOWEST) and vector < 16:
            self._error(reg.ERROR_SEND_VECTOR)
            return
        everybody = destination == (reg.ALL_32 if self.x2apic else 0xFF)
        # IPIs are always edge-triggered but for INIT level de-assert (SDM Vol. 3A, 10.6.1, "Trigger Mode").
        asserted = asserted or not level
        message = Message(mode, vector, destination, bool(icr & 0x800), False, asserted, everybody)
        shorthand = icr >> 18 & 3
        to_self = shorthand == 1 or (shorthand == 0 and destination == self.id and not message.logical)
        if not to_self and self.target is not None:
            self.target.kick()  # vCPUs that take turns: the receiver's turn comes at once
        if shorthand == 0:
            self._bus.deliver(message)
        elif shorthand == 1:
            if mode == MODE_FIXED:  # the only mode that exists with "self"
                self._accept(vector, False)
        else:
            self._bus.deliver_all(message, exclude=self if shorthand == 3 else None)

    # --- MSRs ---------------------------------------------------------------------------------------

    def read_msr(self, index: int) -> int | None:
        """IA32_APIC_BASE, IA32_TSC_DEADLINE, x2APIC registers; None: #GP."""
        with self._lock:
            return lapic_msr.read_msr(self, index)

    def write_msr(self, index: int, value: int) -> bool:
        """The same; False: #GP, nothing changed."""
        with self._lock:
            if not lapic_msr.write_msr(self, index, value):
                return False
            if index in (MSR_APIC_BASE, MSR_TSC_DEADLINE):
                self._notice()
                self._replan()
            return True

    # --- KVM's layout -------------------------------------------------------------------------------

    def to_kvm(self) -> bytes:
        """struct kvm_lapic_state, 1024 bytes; see `lapic_kvm`."""
        with self._lock:
            return lapic_kvm.pack(self)

    def from_kvm(self, data: bytes) -> None:
        """The reverse; set `apic_base` first, and IA32_TSC_DEADLINE afterwards."""
        with self._lock:
            lapic_kvm.unpack(self, data)
            self._notice()
            self._replan()


_WRITERS: dict[int, Callable[[LocalApic, int], None]] = {
    reg.ID: LocalApic._write_id,
    reg.TPR: LocalApic._write_tpr,
    reg.EOI: LocalApic._write_eoi,
    reg.LDR: LocalApic._write_ldr,
    reg.DFR: LocalApic._write_dfr,
    reg.SVR: LocalApic._write_svr,
    reg.ESR: LocalApic._write_esr,
    reg.ICR: LocalApic._write_icr,
    reg.ICR2: LocalApic._write_icr_high,
    reg.TIMER_INITIAL: LocalApic._write_initial,
    reg.TIMER_DIVIDE: LocalApic._write_divide,
}
_READERS: dict[int, Callable[[LocalApic], int]] = {
    reg.VERSION: lambda apic: reg.VERSION_VALUE,
    reg.TPR: lambda apic: apic.tpr,
    reg.APR: lambda apic: apic.ppr,
    reg.PPR: lambda apic: apic.ppr,
    reg.RRD: lambda apic: 0,
    reg.DFR: lambda apic: apic.dfr,
    reg.SVR: lambda apic: apic.svr,
    reg.ESR: lambda apic: apic.esr,
    reg.ICR: lambda apic: apic.icr,
    reg.ICR2: lambda apic: apic.icr_high,
    reg.TIMER_INITIAL: lambda apic: apic.timer.initial,
    reg.TIMER_CURRENT: lambda apic: apic.timer.current(),
    reg.TIMER_DIVIDE: lambda apic: apic.timer.divide,
}
