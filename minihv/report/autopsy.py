"""The autopsy: what is shown when a guest died of a triple fault, or an engine gave it up.

Pure: from the last state, a way to read guest-physical memory and the last exits to a text that says not
only what the registers held but what the processor could not do with it. Only what can be believed is
shown: a state that the hardware has already reset is said to be just that.
"""

from collections.abc import Callable, Iterator, Sequence

from minihv.x86.delivery import cpl, find_obstacle, look_up, read_linear
from minihv.x86.paging import ReadPhys, describe
from minihv.x86.registers import (
    CR0_NAMES,
    CR0_PE,
    CR0_PG,
    CR3_NAMES,
    CR4_NAMES,
    CR4_PCIDE,
    DR6_NAMES,
    DR6_RESET,
    DR7_NAMES,
    DR7_RESET,
    EFER_LMA,
    EFER_NAMES,
    PF_FETCH,
    PF_USER,
    PF_WRITE,
    RFLAGS_FIXED,
    RFLAGS_IOPL,
    RFLAGS_IOPL_SHIFT,
    RFLAGS_NAMES,
    VECTOR_BP,
    VECTOR_DF,
    VECTOR_GP,
    VECTOR_PF,
    VECTOR_UD,
    bit_words,
    vector_name,
)
from minihv.x86.segments import code_bits, cpu_mode, describe_segment
from minihv.x86.state import CpuState, Segment

Symbols = Callable[[int], str | None]
"""Linear address -> "name+0x12", or None where no symbol covers it."""
Disassemble = Callable[[bytes, int, int], str]
"""(bytes, linear address, 16/32/64) -> one instruction in words."""

_CODE_BYTES = 16
_GPR_64 = (
    ("RAX", 0), ("RBX", 3), ("RCX", 1), ("RDX", 2), ("RSI", 6), ("RDI", 7), ("RBP", 5), ("RSP", 4),
    ("R8", 8), ("R9", 9), ("R10", 10), ("R11", 11), ("R12", 12), ("R13", 13), ("R14", 14), ("R15", 15),
)  # fmt: skip
_RESET_NOTE = (
    "The processor's state is the one after RESET (CS:RIP F000:FFF0), not the one that failed: on AMD",
    "processors a shutdown exit leaves the guest's registers undefined and KVM resets the vCPU (APM Vol. 2,",
    "15.14.3). Registers, descriptors and page walks would tell nothing about the guest, so none are shown.",
    "(A guest that stopped at its very first instruction after RESET looks the same.) For a full autopsy,",
    "run the guest with another engine, or on another processor.",
)


def autopsy(
    state: CpuState,
    read_phys: ReadPhys,
    last_exits: Sequence[str] = (),
    symbols: Symbols | None = None,
    disassemble: Disassemble | None = None,
    *,
    shutdown: bool = True,
) -> str:
    """The whole text, without a trailing newline.

    `read_phys(gpa, size)` may raise GuestMemoryError; that is reported. `last_exits` are lines, oldest
    first. `shutdown`: the vCPU ended in a triple fault (then a RESET state means that the real one is
    lost); False for an engine that gave up, whose state is always real.
    """
    name = symbols if symbols is not None else _no_symbols
    parts = [_section("Last exits, oldest first", list(last_exits) or ["(none recorded)"])]
    if shutdown and looks_reset(state):
        parts.append("\n".join(_RESET_NOTE))
        return "\n\n".join(parts)
    parts.append(_section(f"Registers ({cpu_mode(state)}, CPL {cpl(state)})", _registers(state, name)))
    parts.append(_section("Segments and tables", _segments(state)))
    parts.append(_section("Control registers", _control(state)))
    parts.append(_section("Code", _code(state, read_phys, name, disassemble)))
    parts.append(
        _section("Exceptions the guest could (not) take here", _exceptions(state, read_phys, shutdown))
    )
    fault = _page_fault(state, read_phys)
    if fault:
        parts.append(_section(f"Page walk of CR2 = {state.cr2:#x}", fault))
    return "\n\n".join(parts)


def looks_reset(state: CpuState) -> bool:
    """Whether `state` is where RESET or INIT puts a processor (SDM Vol. 3A, table 10-1)."""
    at_vector = state.rip == 0xFFF0 and state.cs.selector == 0xF000 and state.cs.base == 0xFFFF0000
    return at_vector and not state.cr0 & CR0_PE


def _no_symbols(_address: int) -> str | None:
    return None


def _section(title: str, lines: list[str]) -> str:
    return "\n".join([f"{title}:", *(f"  {line}" for line in lines)])


def _linear_rip(state: CpuState) -> int:
    if code_bits(state) == 64:
        return state.rip
    return state.cs.base + state.rip & 0xFFFF_FFFF


def _registers(state: CpuState, symbols: Symbols) -> list[str]:
    wide = bool(state.efer & EFER_LMA)
    digits = 16 if wide else 8
    count, columns = (16, 4) if wide else (8, 4)
    cells = []
    for label, index in _GPR_64[:count]:
        shown = label if wide else "E" + label[1:]
        cells.append(f"{shown:<3} {state.gpr[index] & (1 << 4 * digits) - 1:0{digits}x}")
    lines = ["  ".join(cells[at : at + columns]) for at in range(0, count, columns)]
    linear = _linear_rip(state)
    where = f"{'RIP' if wide else 'EIP'} {state.rip:0{digits}x}"
    if linear != state.rip:
        where += f" (linear {linear:#x})"
    symbol = symbols(linear)
    lines.append(where + (f" <{symbol}>" if symbol else ""))
    iopl = (state.rflags & RFLAGS_IOPL) >> RFLAGS_IOPL_SHIFT
    flags = bit_words(state.rflags & ~RFLAGS_FIXED & ~RFLAGS_IOPL, RFLAGS_NAMES)
    lines.append(f"{'RFL' if wide else 'EFL'} {state.rflags:0{digits}x}  {flags}, IOPL {iopl}")
    lines += _pending(state)
    return lines


def _pending(state: CpuState) -> Iterator[str]:
    events = state.events
    if events.exception is not None:
        code = f", error code {events.error_code:#x}" if events.error_code is not None else ""
        how = "pending" if events.exception_pending else "being delivered"
        yield f"exception {how}: {vector_name(events.exception)}{code}"
    if events.interrupt is not None:
        yield f"interrupt being delivered: vector {events.interrupt:#x}"
    if events.nmi_injected or events.nmi_pending:
        yield "NMI pending or being delivered"
    if events.shadow_sti or events.shadow_mov_ss:
        yield "interrupts held off by the instruction before (STI or MOV SS)"


def _segments(state: CpuState) -> list[str]:
    long_mode = bool(state.efer & EFER_LMA)
    protected = bool(state.cr0 & CR0_PE)
    lines = []
    segments = {**state.segments(), "ldtr": state.ldtr, "tr": state.tr}
    for name, segment in segments.items():
        words = _segment_words(name, segment, protected, long_mode)
        lines.append(f"{name.upper():<4} {segment.selector:04x}  {words}")
    digits = 16 if long_mode else 8
    for name, table in (("GDTR", state.gdtr), ("IDTR", state.idtr)):
        lines.append(f"{name} {table.base:0{digits}x}  limit {table.limit:#x} ({table.limit + 1} bytes)")
    return lines


def _segment_words(name: str, segment: Segment, protected: bool, long_mode: bool) -> str:
    if protected or name in ("ldtr", "tr"):
        return describe_segment(segment, long_mode)
    return f"base {segment.base:#x}, limit {segment.limit:#x}"


def _control(state: CpuState) -> list[str]:
    digits = 16 if state.efer & EFER_LMA else 8
    pcid = state.cr4 & CR4_PCIDE
    cr3 = f"PCID {state.cr3 & 0xFFF:#x}" if pcid else bit_words(state.cr3 & 0x18, CR3_NAMES)
    lines = [
        f"CR0  {state.cr0:0{digits}x}  {bit_words(state.cr0, CR0_NAMES)}",
        f"CR2  {state.cr2:0{digits}x}",
        f"CR3  {state.cr3:0{digits}x}" + ("" if cr3 == "none" else f"  {cr3}"),
        f"CR4  {state.cr4:0{digits}x}  {bit_words(state.cr4, CR4_NAMES)}",
        f"EFER {state.efer:0{digits}x}  {bit_words(state.efer, EFER_NAMES)}",
    ]
    dr6, dr7 = state.dr[4], state.dr[5]
    if dr6 != DR6_RESET or dr7 != DR7_RESET:
        lines.append(f"DR6  {dr6:0{digits}x}  {bit_words(dr6 & sum(DR6_NAMES), DR6_NAMES)}")
        lines.append(f"DR7  {dr7:0{digits}x}  {bit_words(dr7 & sum(DR7_NAMES), DR7_NAMES)}")
    return lines


def _code(
    state: CpuState, read_phys: ReadPhys, symbols: Symbols, disassemble: Disassemble | None
) -> list[str]:
    linear = _linear_rip(state)
    data, failed = read_linear(state, read_phys, linear, _CODE_BYTES, fetch=True)
    lines = []
    if data:
        lines.append(f"{linear:#x}: {data.hex(' ')}")
        if disassemble is not None:
            lines.append(f"{linear:#x}: {disassemble(data, linear, code_bits(state))}")
    elif failed is not None:
        lines.append(f"nothing can be fetched at {linear:#x}; its page walk:")
        lines += describe(failed)
    else:
        lines.append(f"nothing can be fetched at {linear:#x}: there is no RAM")
    return lines


def _exceptions(state: CpuState, read_phys: ReadPhys, shutdown: bool) -> list[str]:
    lines: list[str] = []
    blocked = False
    for vector in _candidates(state, read_phys):
        obstacle = find_obstacle(state, read_phys, vector)
        if obstacle is None:
            lines.append(f"{vector_name(vector)}: yes, its handler can be reached")
            continue
        blocked = True
        lines.append(f"{vector_name(vector)}: no, {obstacle.sentence}")
        if obstacle.walk is not None:
            lines += [f"    {line}" for line in describe(obstacle.walk)]
    if shutdown and not blocked:
        lines.append("no obstacle found: the tables may have been repaired since, or the fault was elsewhere")
    return lines


def _candidates(state: CpuState, read_phys: ReadPhys) -> list[int]:
    """The exceptions worth a look: the known or likely first one, then what would have followed it."""
    vectors = []
    if state.events.exception is not None:
        vectors.append(state.events.exception)
    data, failed = read_linear(state, read_phys, _linear_rip(state), 2, fetch=True)
    if failed is not None:
        vectors.append(VECTOR_PF)
    elif data[:2] in (b"\x0f\x0b", b"\x0f\xff"):
        vectors.append(VECTOR_UD)
    elif data[:1] == b"\xcc":
        vectors.append(VECTOR_BP)
    elif data[:1] == b"\xcd" and len(data) == 2:
        vectors.append(data[1])
    vectors += [VECTOR_GP, VECTOR_DF]
    if state.cr0 & CR0_PG:
        vectors.append(VECTOR_PF)
    return list(dict.fromkeys(vectors))


def _page_fault(state: CpuState, read_phys: ReadPhys) -> list[str]:
    """The walk of CR2; empty where paging is off or CR2 was never written."""
    if not state.cr0 & CR0_PG or not (state.cr2 or state.events.exception == VECTOR_PF):
        return []
    code = state.events.error_code if state.events.exception == VECTOR_PF else None
    if code is not None:
        user, fetch, write = bool(code & PF_USER), bool(code & PF_FETCH), bool(code & PF_WRITE)
        return describe(look_up(state, read_phys, state.cr2, write=write, user=user, fetch=fetch))
    user = cpl(state) == 3
    fetch = state.cr2 == _linear_rip(state)
    result = look_up(state, read_phys, state.cr2, user=user, fetch=fetch)
    if result.failure is None and not fetch:
        result = look_up(state, read_phys, state.cr2, user=user, write=True)
    lines = describe(result)
    if result.failure is None:
        lines.append("no fault there now: CR2 may be old")
    return lines
