"""Single-step, breakpoints, shadows, NMI, HLT, interrupts from a source, INIT and SIPI."""

import pytest
from lab import CODE, DATA, STUBS, Lab, long_mode, map_identity, protected, real_mode

from minihv.exits import BudgetSpent, DebugStop, Halt, Idle, Interrupted
from minihv.x86.state import MpState


class Source:
    """A queue of vectors at the interrupt pin."""

    def __init__(self, *vectors: int) -> None:
        self.waiting = list(vectors)
        self.cr8 = 0
        self.log: list[tuple[int, int, int]] = []
        self.resets = 0

    def pending(self) -> int | None:
        return self.waiting[0] if self.waiting and self.waiting[0] >> 4 > self.cr8 else None

    def acknowledge(self) -> int:
        return self.waiting.pop(0)

    def read_msr(self, index: int) -> int | None:
        return {0x1B: 0xFEE00900, 0x808: 0x77}.get(index)

    def write_msr(self, index: int, value: int) -> bool:
        self.waiting.append(value & 0xFF)
        return index == 0x83F

    def mmio_base(self) -> int | None:
        return 0xFEE00000

    def read(self, offset: int, size: int) -> int:
        self.log.append((offset, size, -1))
        return 0x14

    def write(self, offset: int, size: int, value: int) -> None:
        self.log.append((offset, size, value))
        self.waiting.append(value & 0xFF)

    def reset(self) -> None:
        self.resets += 1


def _lab(text: str, flags: int = 2, **gpr: int) -> Lab:
    lab = Lab()
    lab.catch(64)
    map_identity(lab)
    lab.code(64, text)
    state = long_mode()
    state.rflags = flags
    lab.start(state, **gpr)
    return lab


def test_trap_flag_steps_after_the_next_instruction() -> None:
    lab = _lab("pushf; or qword ptr [rsp], 0x100; popf; inc eax; inc ebx; hlt")
    lab.run_to_halt()
    assert lab.taken() == 1
    assert (lab.rax, lab.rbx) == (1, 0)
    assert lab.cpu.dr[4] & 0x4000
    rip, _, flags = lab.frame(8, 3)
    assert flags & 0x100
    assert rip == CODE + 12
    assert not lab.rflags & 0x100


def test_trap_flag_and_rep_traps_after_each_iteration() -> None:
    lab = _lab("rep stosb; hlt", 0x102, rcx=5, rdi=DATA, rax=0xAB)
    lab.run_to_halt()
    assert lab.taken() == 1
    assert lab.rcx == 4
    assert lab.frame(8, 1) == [CODE]


def test_mov_ss_holds_back_the_single_step_trap() -> None:
    lab = _lab("mov ss, eax; inc ebx; inc ebx; hlt", 0x102, rax=0x10)
    lab.run_to_halt()
    assert lab.taken() == 1
    assert lab.rbx == 1


def test_int_n_takes_no_single_step_trap() -> None:
    lab = _lab("int 0x30", 0x102)
    lab.run_to_halt()
    assert lab.taken() == 0x30


def test_instruction_breakpoint_faults_before_and_rf_lets_it_pass() -> None:
    lab = _lab("inc eax; inc ebx; hlt")
    lab.cpu.dr[0], lab.cpu.dr[5] = CODE + 2, 0x402
    lab.run_to_halt()
    assert lab.taken() == 1
    assert (lab.rax, lab.rbx) == (1, 0)
    assert lab.cpu.dr[4] & 1
    lab.code(64, "or qword ptr [rsp + 16], 0x10000; iretq", STUBS + 16)
    lab.cpu.halted = False
    lab.cpu.rip = STUBS + 16
    lab.run_to_halt()
    assert lab.rbx == 1
    assert lab.rip == CODE + 5


@pytest.mark.parametrize(("dr7", "text", "hit"), [
    (0xD0402, "mov eax, [0x30000]; inc ebx; hlt", False),
    (0xF0402, "mov eax, [0x30000]; inc ebx; hlt", True),
    (0xD0402, "mov [0x30003], al; inc ebx; hlt", True),
    (0xD0402, "mov [0x30004], al; inc ebx; hlt", False),
    (0xD0402, "mov [0x2fffd], eax; inc ebx; hlt", True),
])  # fmt: skip
def test_data_breakpoints_trap_after_the_access(dr7: int, text: str, hit: bool) -> None:
    lab = _lab(f"mov rax, {DATA}; mov dr0, rax; mov eax, {dr7}; mov dr7, rax; {text}")
    lab.run_to_halt()
    assert (lab.taken() == 1) == hit
    assert lab.rbx == (0 if hit else 1)
    assert lab.cpu.dr[4] & 0xF == (1 if hit else 0)


def test_general_detect() -> None:
    lab = _lab("mov rax, dr0; hlt")
    lab.cpu.dr[5] = 0x2400
    lab.run_to_halt()
    assert lab.taken() == 1
    assert lab.cpu.dr[4] & 0x2000
    assert not lab.cpu.dr[5] & 0x2000


def test_interrupt_waits_for_if_and_for_the_sti_shadow() -> None:
    lab = _lab("inc eax; sti; inc ebx; inc ecx; hlt", rcx=0, rbx=0, rax=0)
    lab.vcpu.local_apic = Source(0x31)
    lab.run_to_halt()
    assert lab.taken() == 0x31
    assert (lab.rax, lab.rbx, lab.rcx) == (1, 1, 0)


def test_task_priority_holds_back_an_interrupt() -> None:
    lab = _lab("mov eax, 3; mov cr8, rax; sti; nop; nop; inc ebx; mov eax, 2; mov cr8, rax; inc ecx; hlt")
    lab.vcpu.local_apic = Source(0x31)
    lab.run_to_halt()
    assert lab.taken() == 0x31
    assert (lab.rbx, lab.rcx) == (1, 0)


def test_interrupt_wakes_a_halted_processor() -> None:
    lab = _lab("sti; hlt; inc eax; hlt")
    source = Source()
    lab.vcpu.local_apic = source
    assert lab.run() == Halt(True, CODE + 2)
    assert isinstance(lab.run(), Interrupted)
    before = lab.vcpu.asleep
    source.waiting.append(0x40)
    assert (before, lab.vcpu.asleep) == (True, False)
    lab.run_to_halt()
    assert lab.taken() == 0x40
    assert lab.frame(8, 1) == [CODE + 2]


def test_halt_without_if_can_only_be_woken_by_nmi() -> None:
    lab = _lab("hlt; inc eax; hlt")
    assert lab.run() == Halt(False, CODE + 1)
    assert isinstance(lab.run(), Idle)
    lab.vcpu.deliver_nmi()
    lab.run_to_halt()
    assert lab.taken() == 2
    lab.vcpu.deliver_nmi()  # masked until IRET
    assert not isinstance(lab.run(), Halt)


def test_nmi_is_masked_until_iret() -> None:
    lab = _lab("nop; hlt")
    lab.code(64, "inc eax; iretq", STUBS + 32)
    lab.vcpu.deliver_nmi()
    lab.run_to_halt()
    assert lab.rax == 1
    assert not lab.cpu.nmi_masked


def test_local_apic_page_is_served_inside_and_exactly_once() -> None:
    lab = Lab()
    lab.catch(32)
    lab.code(32, "mov eax, [0xfee00030]; mov dword ptr [0xfee000b0], 0x55; inc ebx; sti; nop; hlt")
    lab.start(protected(), rbx=0)
    source = Source()
    lab.vcpu.local_apic = source
    lab.run_to_halt()
    assert source.log == [(0x30, 4, -1), (0xB0, 4, 0x55)]
    assert (lab.rax, lab.rbx, lab.taken()) == (0x14, 1, 0x55)


def test_x2apic_registers_and_self_ipi() -> None:
    lab = _lab(
        "mov ecx, 0x808; rdmsr; mov ebx, eax; sti; nop; mov ecx, 0x83f; mov eax, 0x66; wrmsr; inc esi; hlt"
    )
    lab.vcpu.local_apic = Source()
    lab.run_to_halt()
    assert (lab.rbx, lab.taken(), lab.rsi) == (0x77, 0x66, 0)


def test_init_and_start_up_ipi() -> None:
    lab = Lab()
    second = lab.engine.create_vcpu(1)
    assert isinstance(second.run(10), Idle)
    second.deliver_sipi(0x9)
    lab.ram[0x9000:0x9002] = b"\x40\xf4"  # inc ax; hlt
    assert isinstance(second.run(10), Halt)
    assert second.cpu.r[0] & 0xFFFF == 1
    assert second.cpu.seg[1].selector == 0x900
    source = Source()
    second.local_apic = source
    second.cpu.index = 1
    second.deliver_init()
    source.read_msr = lambda index: 0xFEE00800  # type: ignore[method-assign]
    assert isinstance(second.run(10), Idle)
    assert second.get_state().mp_state is MpState.INIT_RECEIVED
    assert source.resets == 1


def test_budget_counts_exactly_and_in_any_portions() -> None:
    text = "mov ecx, 10; l: add eax, ecx; push rax; pop rbx; dec ecx; jnz l; hlt"
    whole = _lab(text, rax=0)
    whole.run_to_halt()
    total = whole.vcpu.instructions
    assert total == 1 + 5 * 10 + 1
    for portion in (1, 2, 3, 7, 51):
        lab = _lab(text, rax=0)
        while not isinstance(exit := lab.run(portion), Halt):
            assert isinstance(exit, BudgetSpent)
            assert lab.vcpu.instructions % portion == 0
        assert lab.vcpu.instructions == total
        assert lab.cpu.r == whole.cpu.r


def test_rep_counts_once() -> None:
    lab = _lab("rep movsb; hlt", rcx=5000, rsi=DATA, rdi=DATA + 0x4001)
    lab.run_to_halt()
    assert lab.vcpu.instructions == 2
    assert lab.rcx == 0


def test_host_single_step_and_breakpoints() -> None:
    lab = _lab("inc eax; inc ebx; inc ecx; hlt", rax=0, rbx=0, rcx=0)
    lab.vcpu.debug(True)
    assert lab.run() == DebugStop(0x4000, CODE + 2)
    lab.vcpu.debug(False, (CODE + 4,))
    assert lab.run() == DebugStop(1, CODE + 4)
    assert (lab.rbx, lab.rcx) == (1, 0)
    lab.run_to_halt()
    assert lab.rcx == 1


def test_kick_makes_run_come_back_once() -> None:
    lab = _lab("nop; hlt")
    lab.vcpu.kick()
    assert isinstance(lab.run(), Interrupted)
    lab.run_to_halt()


def test_time_stamp_counter_counts_instructions_exactly() -> None:
    lab = _lab("nop; rdtsc; mov ebx, eax; nop; nop; rdtsc; sub eax, ebx; hlt")
    lab.run_to_halt()
    assert lab.rax == 4


def test_real_mode_sti_hlt_loop() -> None:
    lab = Lab()
    lab.catch(16)
    lab.ram[CODE : CODE + 2] = b"\xfb\xf4"
    source = Source(8)
    lab.vcpu.local_apic = source
    lab.start(real_mode())
    source.cr8 = -1
    lab.run_to_halt()  # the HLT executes in the shadow of STI, then the interrupt wakes it
    assert lab.taken() == 8
