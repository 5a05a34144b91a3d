"""What an instruction works on: its operands with their values, and the flags it changes. Uses iced-x86."""

from functools import cache
from typing import Any

from minihv.errors import GuestMemoryError
from minihv.x86.delivery import cpl, look_up
from minihv.x86.disasm import disassemble
from minihv.x86.paging import ReadPhys
from minihv.x86.segments import code_bits
from minihv.x86.state import SEGMENT_NAMES, CpuState
from minihv.x86.steps import Operand, Step

MAX_LENGTH = 15
"""Bytes of the longest instruction (SDM Vol. 2A, 2.3.11)."""
READABLE = 8
"""Bytes of memory shown as a value; wider operands have none."""
_ACCESS = {1: "read", 2: "read", 3: "write", 4: "write", 5: "read and write", 6: "read and write"}
"""iced-x86 OpAccess -> word; a conditional access counts as one."""
_STATUS = ("CF", "PF", "AF", "ZF", "SF", "DF", "IF", "OF", "AC")


def linear_rip(state: CpuState) -> int:
    """Linear address of the instruction at RIP."""
    return state.rip if code_bits(state) == 64 else state.cs.base + state.rip & 0xFFFF_FFFF


def read_code(state: CpuState, read_phys: ReadPhys, address: int) -> bytes:
    """Up to 15 bytes at linear `address`, as far as they can be fetched."""
    data = bytearray()
    for at in range(address, address + MAX_LENGTH):
        found = look_up(state, read_phys, at, user=cpl(state) == 3, fetch=True)
        if found.gpa is None or found.failure is not None:
            break
        try:
            data.append(read_phys(found.gpa, 1))
        except GuestMemoryError:
            break
    return bytes(data)


def take_step(state: CpuState, read_phys: ReadPhys) -> Step:
    """The instruction at RIP, before it is executed."""
    import iced_x86 as iced

    address, bits = linear_rip(state), code_bits(state)
    code = read_code(state, read_phys, address)
    walked = look_up(state, read_phys, address, user=cpl(state) == 3, fetch=True)
    instruction = iced.Decoder(bits, code, ip=address).decode()
    if instruction.is_invalid:
        text = disassemble(code, address, bits)
        return Step(address, bits, code, text, "no valid instruction", walked, state, None, ())
    code = code[: instruction.len]
    return Step(
        address=address,
        bits=bits,
        code=code,
        text=disassemble(code, address, bits),
        encoding=instruction.op_code().instruction_string,
        walk=walked,
        before=state,
        after=None,
        operands=tuple(_operands(instruction, bits, state, read_phys)),
        flags=_flags(instruction.rflags_modified & ~instruction.rflags_undefined),
        undefined=_flags(instruction.rflags_undefined),
    )


def finish_step(step: Step, state: CpuState, read_phys: ReadPhys) -> Step:
    """The same step with the state after it, and its operands' values then."""
    operands = []
    for operand in step.operands:
        if operand.gva is None:
            after = register_value(state, operand.text)
        else:
            after = _read(read_phys, operand.gpa, operand.size)
        operands.append(operand._replace(after=after))
    return step._replace(after=state, operands=tuple(operands))


def register_value(state: CpuState, name: str) -> int | None:
    """The value of a register by its lower-case name; None for one that CpuState has not as a number."""
    found = _general().get(name)
    if found is not None:
        number, size, shift = found
        return state.gpr[number] >> shift & (1 << 8 * size) - 1
    if name in SEGMENT_NAMES:
        return int(getattr(state, name).selector)
    if name in ("cr0", "cr2", "cr3", "cr4", "cr8"):
        return int(getattr(state, name))
    if name[:2] == "dr" and name[2:] in ("0", "1", "2", "3", "6", "7"):
        return state.dr[(0, 1, 2, 3, 4, 4, 4, 5)[int(name[2:])]]
    return None


@cache
def _general() -> dict[str, tuple[int, int, int]]:
    """Lower-case name -> (number in encoding order, bytes, bit at which it begins)."""
    import iced_x86 as iced

    names: dict[str, tuple[int, int, int]] = {}
    formatter = iced.Formatter(iced.FormatterSyntax.INTEL)
    for register in range(iced.Register.AL, iced.Register.R15 + 1):
        info = iced.RegisterInfo(register)  # type: ignore[arg-type]
        high = iced.Register.AH <= register <= iced.Register.BH
        number = info.full_register - iced.Register.RAX
        names[formatter.format_register(register)] = (number, info.size, 8 if high else 0)  # type: ignore[arg-type]
    return names


def _operands(instruction: Any, bits: int, state: CpuState, read_phys: ReadPhys) -> list[Operand]:
    import iced_x86 as iced

    formatter = iced.Formatter(iced.FormatterSyntax.INTEL)
    info = iced.InstructionInfoFactory().info(instruction)
    found: list[Operand] = []
    for used in info.used_registers():
        name = formatter.format_register(used.register)
        if used.access in _ACCESS:
            size = iced.RegisterInfo(used.register).size
            found.append(Operand(name, _ACCESS[used.access], size, register_value(state, name)))
    for memory in info.used_memory():
        if memory.access in _ACCESS:
            found.append(_memory(memory, formatter, bits, state, read_phys))
    return _without_parts(found)


def _without_parts(operands: list[Operand]) -> list[Operand]:
    """A 64-bit register that is only written because its lower half is (SDM Vol. 1, 3.4.1.1) is no operand
    of its own; a register that is read and written through several names is one."""
    general = _general()
    kept: list[Operand] = []
    for operand in operands:
        place = general.get(operand.text)
        twin = next(
            (k for k in kept if place is not None and general.get(k.text, (None,))[0] == place[0]), None
        )
        if twin is None:
            kept.append(operand)
        elif operand.access != twin.access:
            wider = min(operand, twin, key=lambda o: o.size)
            kept[kept.index(twin)] = wider._replace(access="read and write" if twin.reads else "write")
    return kept


def _memory(memory: Any, formatter: Any, bits: int, state: CpuState, read_phys: ReadPhys) -> Operand:
    import iced_x86 as iced

    def value(register: int) -> int:
        return register_value(state, formatter.format_register(register)) or 0 if register else 0

    address_bits = {1: 16, 2: 32, 3: 64}.get(memory.address_size, bits)
    offset = value(memory.base) + value(memory.index) * memory.scale + memory.displacement
    offset &= (1 << address_bits) - 1
    segment = formatter.format_register(memory.segment)
    if bits == 64:
        base = getattr(state, segment).base if segment in ("fs", "gs") else 0
        gva = base + offset & (1 << 64) - 1
    else:
        gva = getattr(state, segment).base + offset & 0xFFFF_FFFF
    size = iced.MemorySizeInfo(memory.memory_size).size
    access = _ACCESS[memory.access]
    walked = look_up(state, read_phys, gva, write=access != "read", user=cpl(state) == 3)
    gpa = walked.gpa if walked.failure is None else None
    return Operand(f"[{gva:#x}]", access, size, _read(read_phys, gpa, size), None, gva, gpa)


def _read(read_phys: ReadPhys, gpa: int | None, size: int) -> int | None:
    if gpa is None or not 0 < size <= READABLE:
        return None
    try:
        return int.from_bytes(bytes(read_phys(gpa + at, 1) for at in range(size)), "little")
    except GuestMemoryError:
        return None  # a device's memory: looking would be an access


def _flags(bits: int) -> tuple[str, ...]:
    import iced_x86 as iced

    return tuple(name for name in _STATUS if bits & getattr(iced.RflagsBits, name))
