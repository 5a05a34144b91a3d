"""Operands of an instruction with their values, before and after."""

from minihv.errors import GuestMemoryError
from minihv.x86.operands import finish_step, linear_rip, register_value, take_step
from minihv.x86.state import CpuState, Segment

RAM = bytearray(0x1000)


def flat32(code: bytes, **registers: int) -> CpuState:
    """Protected mode, flat segments, no paging, `code` at 0x100."""
    RAM[:] = bytes(len(RAM))
    RAM[0x100 : 0x100 + len(code)] = code
    state = CpuState(rip=0x100, cr0=0x11)
    state.cs = Segment(8, 0, 0xFFFFFFFF, 0xC09B)
    state.ds = state.ss = state.es = Segment(16, 0, 0xFFFFFFFF, 0xC093)
    names = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
    for name, value in registers.items():
        state.gpr[names.index(name)] = value
    return state


def read(gpa: int, size: int) -> int:
    if gpa + size > len(RAM):
        raise GuestMemoryError(gpa, size)
    return int.from_bytes(RAM[gpa : gpa + size], "little")


def test_two_registers() -> None:
    step = take_step(flat32(b"\x01\xd8", eax=1, ebx=2), read)
    assert (step.text, step.encoding, step.code) == ("add eax, ebx", "ADD r/m32, r32", b"\x01\xd8")
    assert [(o.text, o.access, o.before) for o in step.operands] == [
        ("eax", "read and write", 1), ("ebx", "read", 2)
    ]  # fmt: skip
    assert step.flags == ("CF", "PF", "AF", "ZF", "SF", "OF")
    done = finish_step(step, flat32(b"", eax=3, ebx=2), read)
    assert [o.after for o in done.operands] == [3, 2]


def test_memory() -> None:
    step = take_step(flat32(b"\x89\x43\x04", eax=0x55, ebx=0x200), read)  # mov [ebx+4], eax
    memory = next(o for o in step.operands if o.gva is not None)
    assert (memory.text, memory.access, memory.gpa, memory.before) == ("[0x204]", "write", 0x204, 0)
    RAM[0x204] = 0x55
    assert next(o for o in finish_step(step, flat32(b""), read).operands if o.gva).after == 0
    RAM[0x204] = 0x55
    assert next(o for o in finish_step(step, step.before, read).operands if o.gva).after == 0x55


def test_a_devices_memory_is_not_looked_at() -> None:
    step = take_step(flat32(b"\xa1\x00\x00\x00\xfe"), read)  # mov eax, [0xfe000000]
    memory = next(o for o in step.operands if o.gva is not None)
    assert (memory.gva, memory.before) == (0xFE000000, None)


def test_parts_of_registers() -> None:
    state = flat32(b"", eax=0x12345678)
    assert register_value(state, "ah") == 0x56
    assert register_value(state, "al") == 0x78
    assert register_value(state, "rax") == 0x12345678
    assert register_value(state, "cs") == 8
    assert register_value(state, "cr0") == 0x11
    assert register_value(state, "dr7") == 0x400
    assert register_value(state, "xmm0") is None


def test_no_instruction() -> None:
    step = take_step(flat32(b"\xff\xff"), read)
    assert step.encoding == "no valid instruction"
    assert step.operands == ()


def test_nothing_to_fetch() -> None:
    state = flat32(b"")
    state.rip = 0x5000
    assert take_step(state, read).code == b""


def test_real_mode_addresses() -> None:
    state = CpuState(rip=0x10)
    state.cs = Segment(0x50, 0x500, 0xFFFF, 0x9B)
    assert linear_rip(state) == 0x510
