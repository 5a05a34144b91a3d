"""The local APIC by the manual: priorities, IPIs, timer, errors, modes, and the wire to the I/O APIC."""

import pytest

from minihv.devices import lapic_registers as reg
from minihv.devices.apicbus import ApicBus
from minihv.devices.ioapic import REDIR_LEVEL, IoApic
from minihv.devices.lapic import LocalApic
from minihv.devices.lapic_timer import MIN_INTERRUPT_NS
from minihv.devices.pic import PicPair
from minihv.interfaces import InterruptSource
from minihv.x86.registers import MSR_APIC_BASE, MSR_TSC_DEADLINE

TSC_HZ = 2_000_000_000


class Cpu:
    """Records what its APIC tells it; an `InterruptTarget`."""

    def __init__(self, apic: LocalApic) -> None:
        self.local_apic: InterruptSource | None = apic
        self.log: list[str] = []

    def notice(self) -> None:
        self.log.append("notice")

    def deliver_init(self) -> None:
        self.log.append("init")

    def deliver_sipi(self, vector: int) -> None:
        self.log.append(f"sipi {vector:#x}")

    def deliver_nmi(self) -> None:
        self.log.append("nmi")

    def kick(self) -> None:
        self.log.append("kick")

    def events(self) -> list[str]:
        """What came but for notices and kicks."""
        return [e for e in self.log if e not in ("notice", "kick")]


class Board:
    def __init__(self, cpus: int = 1) -> None:
        self.now = 0
        self.bus = ApicBus()
        self.pic = PicPair(lambda level: self.lint0(level), self.bus.lock)
        self.apics: list[LocalApic] = []
        self.cpus = []
        for index in range(cpus):
            apic = LocalApic(index, self.bus, lambda: self.now, lambda: self.now * 2, TSC_HZ, extint=self.pic)
            cpu = Cpu(apic)
            apic.target = cpu
            self.apics.append(apic)
            self.cpus.append(cpu)
        for index in range(cpus):
            self.put(reg.SVR, 0x1FF, index)

    @property
    def apic(self) -> LocalApic:
        return self.apics[0]

    def lint0(self, level: bool) -> None:
        for apic in self.apics:
            apic.lint0(level)

    def get(self, offset: int, cpu: int = 0) -> int:
        return self.apics[cpu].read(offset, 4)

    def put(self, offset: int, value: int, cpu: int = 0) -> None:
        self.apics[cpu].write(offset, 4, value)

    def ipi(self, low: int, destination: int = 0, cpu: int = 0) -> None:
        self.put(reg.ICR2, destination << 24, cpu)
        self.put(reg.ICR, low, cpu)

    def self_ipi(self, vector: int) -> None:
        self.put(reg.ICR, 1 << 18 | vector)

    def x2apic(self) -> None:
        for apic in self.apics:
            assert apic.write_msr(MSR_APIC_BASE, apic.apic_base | 0x400)

    def tick(self, to: int) -> None:
        self.now = to
        self.apic.tick(to)

    def take(self, cpu: int = 0) -> int | None:
        """What the processor would take now, taken."""
        apic = self.apics[cpu]
        return None if apic.pending() is None else apic.acknowledge()


# --- Reset and registers ----------------------------------------------------------------------------


def test_values_after_reset() -> None:
    apic = LocalApic(1, ApicBus(), lambda: 0, lambda: 0, TSC_HZ)
    expected = {
        reg.ID: 1 << 24, reg.VERSION: 0x50014, reg.TPR: 0, reg.PPR: 0, reg.LDR: 0, reg.DFR: 0xFFFFFFFF,
        reg.SVR: 0xFF, reg.ESR: 0, reg.ICR: 0, reg.LVT_TIMER: 0x10000, reg.LVT_LINT0: 0x10000,
        reg.LVT_LINT1: 0x10000, reg.LVT_ERROR: 0x10000, reg.TIMER_INITIAL: 0, reg.TIMER_CURRENT: 0,
    }  # fmt: skip
    assert {offset: apic.read(offset, 4) for offset in expected} == expected
    assert apic.read_msr(MSR_APIC_BASE) == 0xFEE00800
    assert apic.mmio_base() == 0xFEE00000


def test_the_bootstrap_processor_starts_in_virtual_wire_mode() -> None:
    apic = LocalApic(0, ApicBus(), lambda: 0, lambda: 0, TSC_HZ)
    assert apic.read_msr(MSR_APIC_BASE) == 0xFEE00900
    assert apic.read(reg.LVT_LINT0, 4) == 0x700


def test_names() -> None:
    apic = Board().apic
    assert apic.register(reg.TPR, True) == "TPR"
    assert apic.register(reg.IRR + 0x30, False) == "IRR3"
    assert apic.register(0x40, False) == "reserved"


def test_odd_accesses() -> None:
    board = Board()
    assert board.apic.read(reg.SVR + 1, 1) == 1
    assert board.apic.read(reg.SVR + 4, 4) == 0
    assert board.apic.read(reg.SVR, 8) == 0x1FF
    board.apic.write(reg.TPR, 1, 0x20)
    board.apic.write(reg.TPR + 4, 4, 0x20)
    assert board.get(reg.TPR) == 0
    assert board.get(reg.EOI) == 0


# --- Priorities -------------------------------------------------------------------------------------


def test_fixed_interrupt_from_request_to_eoi() -> None:
    board = Board()
    board.self_ipi(0x41)
    assert board.get(reg.IRR + 0x20) == 1 << 1
    assert board.apic.pending() == 0x41
    assert board.take() == 0x41
    assert (board.get(reg.IRR + 0x20), board.get(reg.ISR + 0x20)) == (0, 2)
    assert board.get(reg.PPR) == 0x40
    board.put(reg.EOI, 0)
    assert board.get(reg.ISR + 0x20) == 0
    assert "notice" in board.cpus[0].log


def test_higher_class_nests_and_the_same_class_waits() -> None:
    board = Board()
    board.self_ipi(0x41)
    board.take()
    board.self_ipi(0x4F)
    assert board.apic.pending() is None
    board.self_ipi(0x51)
    assert board.take() == 0x51
    board.put(reg.EOI, 0)
    assert board.apic.pending() is None
    board.put(reg.EOI, 0)
    assert board.take() == 0x4F


def test_task_priority_and_cr8() -> None:
    board = Board()
    board.self_ipi(0x41)
    board.apic.cr8 = 4
    assert board.get(reg.TPR) == 0x40
    assert board.apic.pending() is None
    assert board.apic.acknowledge() == 0xFF  # gone meanwhile: spurious, no ISR bit
    board.put(reg.TPR, 0x3F)
    assert board.apic.cr8 == 3
    assert board.get(reg.PPR) == 0x3F
    assert board.take() == 0x41


def test_eoi_without_anything_in_service() -> None:
    board = Board()
    board.put(reg.EOI, 0)
    assert board.apic.isr == 0


def test_software_disable_masks_and_refuses_but_keeps_what_is_there() -> None:
    board = Board()
    board.put(reg.LVT_TIMER, 0x50)
    board.self_ipi(0x41)
    board.put(reg.SVR, 0xFF)
    board.self_ipi(0x61)
    assert board.take() == 0x41
    assert board.get(reg.LVT_TIMER) == 0x10050
    board.put(reg.LVT_TIMER, 0x50)
    assert board.get(reg.LVT_TIMER) == 0x10050


# --- Interprocessor interrupts ----------------------------------------------------------------------


def test_physical_destination_and_broadcast() -> None:
    board = Board(3)
    board.ipi(0x41, destination=2)
    assert [board.take(n) for n in range(3)] == [None, None, 0x41]
    board.ipi(0x61, destination=0xFF)
    assert [board.take(n) for n in range(3)] == [0x61, 0x61, 0x61]


@pytest.mark.parametrize(
    ("shorthand", "expected"), [(1, [True, False, False]), (2, [True, True, True]), (3, [False, True, True])]
)
def test_shorthands(shorthand: int, expected: list[bool]) -> None:
    board = Board(3)
    board.ipi(shorthand << 18 | 0x41, destination=2)
    assert [board.take(n) == 0x41 for n in range(3)] == expected


def test_logical_flat() -> None:
    board = Board(3)
    for index in range(3):
        board.put(reg.LDR, 1 << 24 + index, index)
    board.ipi(0x841, destination=0b110)
    assert [board.take(n) for n in range(3)] == [None, 0x41, 0x41]


def test_logical_cluster() -> None:
    board = Board(3)
    for index, ldr in enumerate((0x11, 0x12, 0x21)):
        board.put(reg.DFR, 0, index)
        board.put(reg.LDR, ldr << 24, index)
    board.ipi(0x841, destination=0x13)
    assert [board.take(n) for n in range(3)] == [0x41, 0x41, None]


def test_lowest_priority_goes_to_one() -> None:
    board = Board(2)
    for index in range(2):
        board.put(reg.LDR, 1 << 24 + index, index)
    board.apics[0].cr8 = 3
    board.ipi(0x941, destination=3)
    assert [board.take(n) for n in range(2)] == [None, 0x41]
    board.put(reg.EOI, 0, 1)
    board.apics[0].cr8 = 0
    for _ in range(2):
        board.ipi(0x951, destination=3)
    assert [board.take(n) for n in range(2)] == [0x51, 0x51]  # equals take turns


def test_init_sipi_nmi() -> None:
    board = Board(2)
    board.ipi(0xC500, destination=1)  # INIT, level, assert
    board.ipi(0x8500, destination=1)  # INIT, level, de-assert: nothing
    board.ipi(0x0608, destination=1)
    board.ipi(0x0400, destination=1)
    assert board.cpus[1].events() == ["init", "sipi 0x8", "nmi"]
    assert board.cpus[0].events() == []


def test_illegal_vectors_are_errors() -> None:
    board = Board(2)
    board.put(reg.LVT_ERROR, 0x7E)
    board.ipi(0x05, destination=1)
    assert board.get(reg.ESR) == 0
    board.put(reg.ESR, 0)
    assert board.get(reg.ESR) == reg.ERROR_SEND_VECTOR
    assert board.take() == 0x7E
    board.put(reg.EOI, 0)
    board.put(reg.ESR, 0)
    assert board.get(reg.ESR) == 0


def test_reserved_registers_are_errors() -> None:
    board = Board()
    assert board.get(0x40) == 0
    board.put(reg.ESR, 0)
    assert board.get(reg.ESR) == reg.ERROR_REGISTER


def test_an_error_vector_that_is_itself_illegal_ends() -> None:
    board = Board()
    board.put(reg.LVT_ERROR, 0x05)
    board.self_ipi(0x05)
    board.put(reg.ESR, 0)
    assert board.get(reg.ESR) == reg.ERROR_SEND_VECTOR | reg.ERROR_RECEIVE_VECTOR


# --- Timer ------------------------------------------------------------------------------------------


def test_one_shot() -> None:
    board = Board()
    board.put(reg.TIMER_DIVIDE, 0xB)  # by 1
    board.put(reg.LVT_TIMER, 0x50)
    board.put(reg.TIMER_INITIAL, 1_000_000)
    assert "kick" in board.cpus[0].log
    assert board.apic.next_deadline() == 1_000_000
    board.tick(400_000)
    assert (board.get(reg.TIMER_CURRENT), board.take()) == (600_000, None)
    board.tick(1_000_000)
    assert board.take() == 0x50
    assert (board.get(reg.TIMER_CURRENT), board.apic.next_deadline()) == (0, None)


@pytest.mark.parametrize(
    ("config", "divisor"), [(0, 2), (1, 4), (2, 8), (3, 16), (8, 32), (9, 64), (10, 128), (11, 1)]
)
def test_divide_configuration(config: int, divisor: int) -> None:
    board = Board()
    board.put(reg.TIMER_DIVIDE, config)
    board.put(reg.TIMER_INITIAL, 1000)
    assert board.apic.next_deadline() == 1000 * divisor


def test_changing_the_divisor_keeps_the_count() -> None:
    board = Board()
    board.put(reg.TIMER_DIVIDE, 0xB)
    board.put(reg.TIMER_INITIAL, 1000)
    board.now = 600
    board.put(reg.TIMER_DIVIDE, 0)
    assert board.get(reg.TIMER_CURRENT) == 400
    assert board.apic.next_deadline() == 600 + 800


def test_periodic() -> None:
    board = Board()
    board.put(reg.TIMER_DIVIDE, 0xB)
    board.put(reg.LVT_TIMER, 0x2_0050)
    board.put(reg.TIMER_INITIAL, 1_000_000)
    for number in range(1, 4):
        assert board.apic.next_deadline() == number * 1_000_000
        board.tick(number * 1_000_000)
        assert board.take() == 0x50
        board.put(reg.EOI, 0)
    board.tick(7_300_000)
    assert board.take() == 0x50
    assert board.apic.pending() is None
    assert board.apic.next_deadline() == 8_000_000
    assert board.get(reg.TIMER_CURRENT) == 700_000
    board.put(reg.TIMER_INITIAL, 0)
    assert board.apic.next_deadline() is None


def test_a_hostile_period_is_limited() -> None:
    board = Board()
    board.put(reg.LVT_TIMER, 0x2_0050)
    board.put(reg.TIMER_INITIAL, 1)
    board.tick(1_000_000)
    assert board.apic.next_deadline() == 1_000_000 + MIN_INTERRUPT_NS


def test_masked_timer_counts_but_does_not_interrupt() -> None:
    board = Board()
    board.put(reg.LVT_TIMER, 0x1_0050)
    board.put(reg.TIMER_INITIAL, 10)
    board.tick(20)
    assert board.take() is None


def test_tsc_deadline() -> None:
    board = Board()
    board.put(reg.LVT_TIMER, 0x4_0050)
    board.put(reg.TIMER_INITIAL, 1000)
    assert board.get(reg.TIMER_INITIAL) == 0
    assert board.apic.write_msr(MSR_TSC_DEADLINE, 10_000)
    assert board.apic.read_msr(MSR_TSC_DEADLINE) == 10_000
    assert board.apic.next_deadline() == 5_000
    board.tick(4_999)
    assert board.take() is None
    board.tick(5_000)
    assert board.take() == 0x50
    assert board.apic.read_msr(MSR_TSC_DEADLINE) == 0
    board.put(reg.EOI, 0)
    assert board.apic.write_msr(MSR_TSC_DEADLINE, 1)  # long past: at once
    assert board.apic.next_deadline() == 5_000
    board.put(reg.LVT_TIMER, 0x50)  # leaving the mode disarms
    assert board.apic.next_deadline() is None
    assert board.apic.write_msr(MSR_TSC_DEADLINE, 10_000)
    assert board.apic.read_msr(MSR_TSC_DEADLINE) == 0


# --- The I/O APIC and the 8259 ----------------------------------------------------------------------


def test_level_interrupt_through_the_io_apic() -> None:
    board = Board()
    ioapic = IoApic(board.bus)
    ioapic.write(0, 4, 0x10 + 2 * 9)
    ioapic.write(0x10, 4, 0x59 | REDIR_LEVEL)
    ioapic.set_line(9, True)
    assert board.take() == 0x59
    assert board.get(reg.TMR + 0x20) == 1 << 0x19
    board.put(reg.EOI, 0)
    assert board.take() == 0x59  # still asserted
    ioapic.set_line(9, False)
    board.put(reg.EOI, 0)
    assert board.take() is None


def start_pic(board: Board) -> None:
    for value, a0 in ((0x11, 0), (0x20, 1), (4, 1), (1, 1)):
        board.pic.master.write(a0, 1, value)


def test_virtual_wire_through_lint0() -> None:
    board = Board(2)
    start_pic(board)
    board.pic.set_line(0, True)
    assert [apic.pending() for apic in board.apics] == [0x20, None]
    assert "notice" in board.cpus[0].log
    assert board.take() == 0x20
    assert board.apic.isr == 0  # the 8259 has it, not the APIC
    board.pic.master.write(0, 1, 0x20)
    board.put(reg.LVT_LINT0, 0x10700)
    board.pic.set_line(0, False)
    board.pic.set_line(0, True)
    assert board.apic.pending() is None


def test_a_disabled_apic_leaves_the_8259_at_the_pin() -> None:
    board = Board()
    start_pic(board)
    assert board.apic.write_msr(MSR_APIC_BASE, 0xFEE00100)
    assert board.apic.mmio_base() is None
    board.pic.set_line(1, True)
    assert board.take() == 0x21
    board.self_ipi(0x41)
    assert board.take() is None


def test_extint_message_from_the_io_apic() -> None:
    board = Board()
    start_pic(board)
    board.put(reg.LVT_LINT0, 0x10000)
    ioapic = IoApic(board.bus)
    ioapic.write(0, 4, 0x10)
    ioapic.write(0x10, 4, 0x700)
    board.pic.set_line(3, True)
    assert board.apic.pending() is None
    ioapic.set_line(0, True)
    assert board.take() == 0x23
    assert board.apic.pending() is None


def test_lint_pins_with_fixed_and_nmi_delivery() -> None:
    board = Board()
    board.put(reg.LVT_LINT1, 0x400)
    board.apic.lint1(True)
    board.apic.lint1(True)
    assert board.cpus[0].events() == ["nmi"]
    board.put(reg.LVT_LINT0, 0x8045)  # level, fixed
    board.apic.lint0(True)
    assert board.get(reg.LVT_LINT0) & reg.LVT_REMOTE_IRR
    assert board.take() == 0x45
    board.put(reg.EOI, 0)
    assert board.take() == 0x45
    board.apic.lint0(False)
    board.put(reg.EOI, 0)
    assert not board.get(reg.LVT_LINT0) & reg.LVT_REMOTE_IRR
    assert board.take() is None
    board.put(reg.LVT_LINT0, 0x46)  # edge
    board.apic.lint0(True)
    assert board.take() == 0x46


# --- x2APIC and IA32_APIC_BASE ----------------------------------------------------------------------


def test_mode_changes() -> None:
    apic = Board().apic
    assert not apic.write_msr(MSR_APIC_BASE, 0xFEE00500)  # x2APIC without enable
    assert not apic.write_msr(MSR_APIC_BASE, 0xFEE00901)  # reserved bit
    assert apic.write_msr(MSR_APIC_BASE, 0xFEE00D00)
    assert apic.mmio_base() is None
    assert not apic.write_msr(MSR_APIC_BASE, 0xFEE00900)  # back only through disabled
    assert apic.write_msr(MSR_APIC_BASE, 0xFEE00100)
    assert not apic.write_msr(MSR_APIC_BASE, 0xFEE00D00)  # and forth only through xAPIC
    assert apic.write_msr(MSR_APIC_BASE, 0xFED00900)
    assert apic.mmio_base() == 0xFED00000


def test_x2apic_registers() -> None:
    board = Board(2)
    assert board.apic.read_msr(0x802) is None
    board.x2apic()
    apic = board.apics[1]
    assert apic.read_msr(0x802) == 1
    assert apic.read_msr(0x80D) == 2  # logical id: cluster 0, bit 1
    assert apic.write_msr(0x808, 0x20)
    assert apic.cr8 == 2
    assert not apic.write_msr(0x808, 0x100)
    assert not apic.write_msr(0x802, 0)
    for absent in (0x809, 0x80E, 0x831, 0x80B, 0x83F, 0x840):
        assert apic.read_msr(absent) is None
    assert not apic.write_msr(0x80B, 1)
    assert apic.write_msr(0x80B, 0)
    assert not apic.write_msr(0x828, 1)
    assert apic.write_msr(0x835, 0x5700)  # read-only bits come back


def test_x2apic_ipis() -> None:
    board = Board(2)
    board.x2apic()
    assert board.apic.write_msr(0x830, 1 << 32 | 0x41)
    assert board.take(1) == 0x41
    assert board.apic.read_msr(0x830) == 1 << 32 | 0x41
    assert board.apic.write_msr(0x830, 0b10 << 32 | 0x851)
    assert board.take(1) == 0x51
    assert board.apic.write_msr(0x830, 0xFFFF_FFFF << 32 | 0x61)
    assert [board.take(n) for n in range(2)] == [0x61, 0x61]
    assert board.apic.write_msr(0x83F, 0x71)
    assert board.take() == 0x71
    assert not board.apic.write_msr(0x830, 1 << 13)


# --- Reset and KVM's layout -------------------------------------------------------------------------


def test_init_keeps_id_and_base() -> None:
    board = Board(2)
    board.self_ipi(0x41)
    apic = board.apics[1]
    apic.write_msr(MSR_APIC_BASE, 0xFED00800)
    apic.reset()
    assert (apic.id, apic.mmio_base(), apic.irr, apic.svr) == (1, 0xFED00000, 0, 0xFF)


def test_kvm_layout_round_trip() -> None:
    board = Board()
    board.put(reg.TPR, 0x10)
    board.put(reg.LVT_TIMER, 0x2_0050)
    board.put(reg.TIMER_DIVIDE, 0xB)
    board.put(reg.TIMER_INITIAL, 1_000_000)
    board.ipi(0x41)
    board.take()
    board.self_ipi(0xE1)
    board.now = 250_000
    data = board.apic.to_kvm()
    assert len(data) == 1024
    assert data[0x30:0x34] == bytes([0x14, 0, 5, 0])
    assert int.from_bytes(data[0x120:0x124], "little") == 2
    assert int.from_bytes(data[0x270:0x274], "little") == 2
    assert int.from_bytes(data[0x390:0x394], "little") == 750_000
    other = Board()
    other.now = 10**9
    other.apic.from_kvm(data)
    assert other.apic.to_kvm() == data
    assert other.apic.next_deadline() == 10**9 + 750_000
    assert other.take() == 0xE1


def test_kvm_layout_of_an_expired_one_shot_stays_expired() -> None:
    board = Board()
    board.put(reg.TIMER_INITIAL, 100)
    board.tick(1000)
    other = Board()
    other.apic.from_kvm(board.apic.to_kvm())
    assert other.apic.next_deadline() is None
    assert other.get(reg.TIMER_INITIAL) == 100


def test_kvm_layout_in_x2apic_mode_has_the_id_on_top() -> None:
    board = Board(2)
    board.x2apic()
    data = board.apics[1].to_kvm()
    assert data[0x20:0x24] == bytes([0, 0, 0, 1])
    board.apics[1].from_kvm(data)
    assert board.apics[1].read_msr(0x802) == 1
