"""Hardware task switches: JMP, CALL, interrupts through task gates, IRET, and what they save."""

import struct

from lab import CODE, CODE32, DATA32, FREE, GDT, TSS, TSS_SELECTOR, Lab, protected

OTHER, OTHER_TSS, OTHER_CODE = FREE, 0x900, 0x12000


def _lab(text: str, other: str, flags: int = 2) -> Lab:
    lab = Lab()
    lab.catch(32)
    lab.put(GDT + TSS_SELECTOR + 5, 0x8B, 1)  # the running task is busy
    lab.descriptor(OTHER, OTHER_TSS, 0x67, 0x89)
    image = [0] * 26
    image[8], image[9] = OTHER_CODE, flags
    image[10:18] = [1, 2, 3, 4, 0x26000, 6, 7, 8]
    image[18:24] = [DATA32, CODE32, DATA32, DATA32, 0, DATA32]
    struct.pack_into("<26I", lab.ram, OTHER_TSS, *image)
    lab.code(32, text)
    lab.code(32, other, OTHER_CODE)
    lab.start(protected(), rbx=0x1111)
    return lab


def test_jump_switches_whole_and_does_not_nest() -> None:
    lab = _lab(f"jmp {OTHER}:0; hlt", "hlt")
    lab.run_to_halt()
    assert list(lab.cpu.r[:8]) == [1, 2, 3, 4, 0x26000, 6, 7, 8]
    assert lab.rip == OTHER_CODE + 1
    assert not lab.rflags & 0x4000
    assert lab.get(TSS + 0x20, 4) == CODE + 7
    assert lab.get(TSS + 0x28 + 12, 4) == 0x1111
    assert lab.get(GDT + TSS_SELECTOR + 5, 1) == 0x89
    assert lab.get(GDT + OTHER + 5, 1) == 0x8B
    assert lab.cpu.cr0 & 8
    assert lab.cpu.tr.selector == OTHER


def test_call_nests_and_iret_comes_back() -> None:
    lab = _lab(f"call {OTHER}:0; mov eax, 0x55; hlt", "inc eax; iretd; hlt")
    lab.run_to_halt()
    assert (lab.rax, lab.rbx) == (0x55, 0x1111)
    assert lab.get(OTHER_TSS, 2) == TSS_SELECTOR
    assert lab.get(OTHER_TSS + 0x28, 4) == 2  # EAX went back into its TSS
    assert lab.get(GDT + TSS_SELECTOR + 5, 1) == 0x8B
    assert lab.get(GDT + OTHER + 5, 1) == 0x89
    assert not lab.rflags & 0x4000


def test_task_gate_gets_the_error_code_on_the_new_stack() -> None:
    lab = _lab("mov eax, 0x1f8; mov ds, eax; hlt", "pop edx; hlt")
    lab.gate32(13, 0, 0x85, OTHER)
    lab.run_to_halt()
    assert lab.rdx == 0x1F8
    assert lab.rflags & 0x4000
    assert lab.get(TSS + 0x20, 4) == CODE + 5


def test_busy_task_is_gp_and_nothing_happened() -> None:
    lab = _lab(f"jmp {TSS_SELECTOR}:0; hlt", "hlt")
    lab.run_to_halt()
    assert lab.taken() == 13
    assert lab.frame(4, 2) == [TSS_SELECTOR, CODE]


def test_bad_segment_of_the_new_task_is_ts_in_the_new_task() -> None:
    lab = _lab(f"jmp {OTHER}:0; hlt", "hlt")
    lab.put(OTHER_TSS + 0x54, 0x1F8, 2)  # DS beyond the table
    lab.run_to_halt()
    assert lab.taken() == 10
    assert lab.frame(4, 2) == [0x1F8, OTHER_CODE]
    assert lab.cpu.tr.selector == OTHER


def test_debug_trap_flag_of_a_tss() -> None:
    lab = _lab(f"jmp {OTHER}:0; hlt", "hlt")
    lab.put(OTHER_TSS + 0x64, 1, 2)
    lab.run_to_halt()
    assert lab.taken() == 1
    assert lab.cpu.dr[4] & 0x8000
    assert lab.frame(4, 1) == [OTHER_CODE]
