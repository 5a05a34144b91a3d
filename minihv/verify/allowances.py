"""Everything in which results may differ although nobody is wrong: one row each, with the reason.

The undefined flags have their own table.
"""

import math
import struct
from functools import cache
from pathlib import Path

from iced_x86 import Mnemonic, OpKind

from minihv.verify import layout as at
from minihv.verify.compare import Allowance, Pair
from minihv.verify.generate import operand_bytes, reads_frame
from minihv.verify.session import NATIVE
from minihv.x86 import registers as x
from minihv.x86.state import GPR_NAMES

_APPROXIMATE = {
    Mnemonic.RCPPS: 4, Mnemonic.RCPSS: 1, Mnemonic.RSQRTPS: 4, Mnemonic.RSQRTSS: 1,
}  # fmt: skip
_TINY = 2**-125
"""Results below the normal range may be flushed to zero."""
_RELATIVE_ERROR = 2 * 1.5 * 2**-12
_TRANSCENDENTAL = frozenset((
    Mnemonic.F2XM1, Mnemonic.FYL2X, Mnemonic.FYL2XP1, Mnemonic.FSIN, Mnemonic.FCOS, Mnemonic.FSINCOS,
    Mnemonic.FPTAN, Mnemonic.FPATAN,
))  # fmt: skip
_MASK_MOVES = frozenset((Mnemonic.MASKMOVQ, Mnemonic.MASKMOVDQU))
_IMAGES = frozenset((
    Mnemonic.FXSAVE, Mnemonic.FXSAVE64, Mnemonic.XSAVE, Mnemonic.XSAVE64, Mnemonic.XSAVEOPT,
    Mnemonic.XSAVEOPT64, Mnemonic.XSAVEC, Mnemonic.XSAVEC64,
))  # fmt: skip
_AREAS = _IMAGES | {Mnemonic.FXRSTOR, Mnemonic.FXRSTOR64, Mnemonic.XRSTOR, Mnemonic.XRSTOR64}
_STRINGS = frozenset((
    Mnemonic.MOVSB, Mnemonic.MOVSW, Mnemonic.MOVSD, Mnemonic.MOVSQ, Mnemonic.CMPSB, Mnemonic.CMPSW,
    Mnemonic.CMPSD, Mnemonic.CMPSQ,
))  # fmt: skip
_HOST_TABLE = 0x80
_DESCRIPTOR_QUERIES = frozenset((Mnemonic.LAR, Mnemonic.LSL, Mnemonic.VERR, Mnemonic.VERW))
_SMALL_ENVIRONMENT = 14
_M64 = (1 << 64) - 1
_USER_TOP = 1 << 47
_X87_ENVIRONMENT = ("fsw", "fop", "fip", "fdp")
_MM = 1 << 17
_C1, _UE_PE, _ES_B = 0x200, 0x30, 0x8080
_X87_ORDER = {"fsw", "ftw", *(f"st{n}" for n in range(8))}


def _number(value: int | bytes) -> int:
    assert isinstance(value, int)
    return value


def _null_selectors(p: Pair) -> set[str]:
    return {
        name for name in ("ds", "es", "fs", "gs") if _number(p.theirs[name]) < 4 and _number(p.ours[name]) < 4
    }


def _approximate(p: Pair) -> set[str]:
    lanes = _APPROXIMATE.get(p.insn.mnemonic)
    if lanes is None or p.insn.op_kind(0) != OpKind.REGISTER:
        return set()
    name = f"xmm{p.insn.op0_register - _xmm0()}"
    a, b = (struct.unpack("<4f", _number(f[name]).to_bytes(16, "little")) for f in (p.theirs, p.ours))
    close = all(
        u == v
        or max(abs(u), abs(v)) < _TINY
        or math.isclose(u, v, rel_tol=_RELATIVE_ERROR)
        or (math.isnan(u) and math.isnan(v))
        for u, v in zip(a[:lanes], b[:lanes], strict=True)
    )
    rest = -1 << 32 * lanes
    return {name} if close and _number(p.theirs[name]) & rest == _number(p.ours[name]) & rest else set()


def _xmm0() -> int:
    from iced_x86 import Register

    return Register.XMM0


def _transcendental(p: Pair) -> set[str]:
    """The result and, as it may be exact for one and not for the other, PE with all that follows."""
    if p.insn.mnemonic not in _TRANSCENDENTAL:
        return set()
    if _out_of_range(p):
        return {*_X87_ORDER, *_X87_ENVIRONMENT}
    excused = {
        name for name in ("st0", "st1")
        if abs(_in_order(_number(p.theirs[name])) - _in_order(_number(p.ours[name]))) <= 2
    }  # fmt: skip
    # C1 tells which way the result was rounded, PE (and UE with it) whether it was inexact.
    soft = _C1 | _UE_PE | _ES_B
    if _number(p.theirs["fsw"]) & ~soft == _number(p.ours["fsw"]) & ~soft:
        excused.update(_X87_ENVIRONMENT)
    return excused


def _in_order(value: int) -> int:
    """An 80-bit float without its explicit integer bit: then neighbours differ by one."""
    return (value >> 64) << 63 | value & (1 << 63) - 1


def _out_of_range(p: Pair) -> bool:
    """The argument of F2XM1 (-1..1) or FYL2XP1 (sqrt(1/2)-1..sqrt(2)-1) for which the result is undefined."""
    fraction, head = struct.unpack_from("<QH", p.case.fx, 32)
    size = math.ldexp(fraction, max((head & 0x7FFF) - 16446, -1100)) if head & 0x7FFF < 17000 else math.inf
    if p.insn.mnemonic == Mnemonic.F2XM1:
        return size > 1
    return p.insn.mnemonic == Mnemonic.FYL2XP1 and size > 0.29


def _big_operand(p: Pair) -> set[str]:
    """CR2 somewhere in an operand that takes several accesses."""
    if not (p.theirs["vector"] == p.ours["vector"] == x.VECTOR_PF):
        return set()
    size = operand_bytes(p.insn)
    if (size <= 16 and size != _SMALL_ENVIRONMENT) and not reads_frame(p.insn):
        return set()
    a, b = _number(p.theirs["cr2"]), _number(p.ours["cr2"])
    distance = min(a - b & _M64, b - a & _M64)
    return {"cr2", "error"} if distance < max(size, 64) + 0x10000 * reads_frame(p.insn) else set()


def _frame_order(p: Pair) -> set[str]:
    if not reads_frame(p.insn) or not p.faulted or p.ours["vector"] == x.VECTOR_DB:
        return set()
    vectors = {p.theirs["vector"], p.ours["vector"]}
    if x.VECTOR_PF in vectors or x.VECTOR_AC in vectors or x.VECTOR_SS in vectors:
        return {"vector", "error", "cr2"}
    return set()


def _mmx_fault(p: Pair) -> set[str]:
    return set(_X87_ORDER) if p.faulted and _uses_mmx(p) else set()


def _uses_mmx(p: Pair) -> bool:
    from iced_x86 import Register

    return any(
        p.insn.op_kind(n) == OpKind.REGISTER and Register.MM0 <= p.insn.op_register(n) < Register.MM0 + 8
        for n in range(p.insn.op_count)
    )


def _masked_bytes(p: Pair) -> set[str]:
    if p.insn.mnemonic in _MASK_MOVES and x.VECTOR_DB in (p.theirs["vector"], p.ours["vector"]):
        return set(p.theirs) if p.faulted else set()
    return set()


def _mxcsr_mask(p: Pair) -> set[str]:
    """The four bytes at offset 28 of an image in memory."""
    if p.insn.mnemonic not in _IMAGES:
        return set()
    excused = set()
    for name in ("window0", "window1"):
        a, b = p.theirs[name], p.ours[name]
        assert isinstance(a, bytes)
        assert isinstance(b, bytes)
        places = [n for n in range(len(a)) if a[n] != b[n]]
        if places and places[-1] - places[0] < 4:
            excused.add(name)
    return excused


def _two_operands(p: Pair) -> set[str]:
    """MOVS, CMPS: both operands in memory are bad, and one of them is reported."""
    if p.insn.mnemonic not in _STRINGS or x.VECTOR_DB in (p.theirs["vector"], p.ours["vector"]):
        return set()
    return {"vector", "error", "cr2"}


def _pointers(p: Pair) -> set[str]:
    same = (1 << 56) - 1
    return {
        name for name in ("fip", "fdp")
        if not (_number(p.theirs[name]) ^ _number(p.ours[name])) & same
    }  # fmt: skip


def _rep_trap(p: Pair) -> set[str]:
    repeated = p.insn.has_rep_prefix or p.insn.has_repne_prefix
    resume = _number(p.theirs["rflags"]) ^ _number(p.ours["rflags"]) == x.RFLAGS_RF
    return {"rflags"} if repeated and resume and not p.faulted else set()


def _popa(p: Pair) -> set[str]:
    return set(GPR_NAMES) if p.insn.mnemonic in (Mnemonic.POPA, Mnemonic.POPAD) and p.faulted else set()


def _mxcsr_mm(p: Pair) -> set[str]:
    loads = p.insn.mnemonic in _AREAS or p.insn.mnemonic == Mnemonic.LDMXCSR
    return set(p.theirs) if loads and _number(p.theirs["mxcsr"]) & _MM else set()


def _wrap(p: Pair) -> set[str]:
    vectors = {p.theirs["vector"], p.ours["vector"]}
    limit = vectors & {x.VECTOR_SS, x.VECTOR_GP}
    other = vectors & {x.VECTOR_PF, x.VECTOR_AC}
    return {"vector", "error", "cr2"} if p.case.bits == 32 and limit and other else set()


def _host_descriptors(p: Pair) -> set[str]:
    """The host has descriptors where the guest's table ends: Linux's TSS, LDT and per-CPU data."""
    zf = _number(p.theirs["rflags"]) & ~_number(p.ours["rflags"]) & x.RFLAGS_ZF
    if p.judge == NATIVE and p.insn.mnemonic in _DESCRIPTOR_QUERIES and zf and not p.faulted:
        return {"rflags", *GPR_NAMES}
    error = _number(p.ours["error"]) & 0xFFFC
    selector = p.ours["vector"] in (x.VECTOR_GP, x.VECTOR_NP) and error >= at.TSS_SELECTOR
    return set(p.theirs) if p.judge == NATIVE and selector and error < _HOST_TABLE else set()


def _save_area(p: Pair) -> set[str]:
    vectors = {p.theirs["vector"], p.ours["vector"]}
    either = vectors <= {x.VECTOR_AC, x.VECTOR_GP, x.VECTOR_SS}
    return {"vector", "error"} if p.insn.mnemonic in _AREAS and either else set()


def _host_pages(p: Pair) -> set[str]:
    """Bit 0 of a page fault's error code (present) where the host's tables differ from the guest's."""
    if not (p.theirs["vector"] == p.ours["vector"] == x.VECTOR_PF):
        return set()
    cr2 = _number(p.theirs["cr2"])
    strange = at.READ_ONLY <= cr2 < at.SUPERVISOR + 0x1000 or cr2 >= _USER_TOP
    return {"error"} if strange and _number(p.theirs["error"]) ^ _number(p.ours["error"]) == 1 else set()


def _low_pages(p: Pair) -> set[str]:
    if p.judge == NATIVE and p.theirs["vector"] == x.VECTOR_PF:
        cr2 = _number(p.theirs["cr2"])
        if at.LOW <= cr2 < at.LOW + 0x2000 and p.ours["vector"] != x.VECTOR_PF:
            return set(p.theirs)
    return set()


def _pvm_gp(p: Pair) -> set[str]:
    """What the emulator does instead may be anything; the native process judges these cases."""
    gp = x.VECTOR_GP in (p.ours["vector"], p.theirs["vector"]) or _is_prefetch_register(p)
    gp = gp or p.insn.mnemonic in _AREAS or reads_frame(p.insn)  # it emulates these, too, in part
    return set(p.theirs) if p.judge == "kvm" and gp and _is_pvm() else set()


def _is_prefetch_register(p: Pair) -> bool:
    return p.insn.mnemonic == Mnemonic.RESERVEDNOP or p.insn.mnemonic == Mnemonic.NOP


def _pvm_descriptors(p: Pair) -> set[str]:
    if p.judge != "kvm" or not _is_pvm():
        return set()
    return set(p.theirs) if p.insn.mnemonic in _DESCRIPTOR_QUERIES else {"ds", "es", "fs", "gs"}


@cache
def _is_pvm() -> bool:
    return Path("/sys/module/kvm_pvm").exists()


ALLOWANCES: tuple[Allowance, ...] = (
    Allowance("null selectors", "hosts reload a null selector as 0; its RPL means nothing", _null_selectors),
    Allowance(
        "approximations",
        "SDM Vol. 2B, RCPPS, RSQRTPS: a relative error of 1.5 * 2^-12 is allowed",
        _approximate,
    ),
    Allowance("transcendental", "SDM Vol. 1, 8.3.10: the last bit is the processor's own", _transcendental),
    Allowance(
        "several accesses",
        "no manual says which part of an operand of more than 16 bytes, or of a far pointer's frame, is "
        "accessed first: CR2 and what it decides",
        _big_operand,
    ),
    Allowance(
        "frame order",
        "far returns and IRET: processors read the frame before or after they check the selectors in it",
        _frame_order,
    ),
    Allowance(
        "MMX transition",
        "an MMX instruction that faults has or has not set TOP to 0 and all tags to valid",
        _mmx_fault,
    ),
    Allowance(
        "masked bytes",
        "SDM Vol. 2B, MASKMOVQ: faults for bytes that the mask leaves out are implementation dependent",
        _masked_bytes,
    ),
    Allowance("MXCSR_MASK", "SDM Vol. 1, 11.6.6: a constant of the processor", _mxcsr_mask),
    Allowance(
        "host pages",
        "user programs see the host's P bit for pages that are the kernel's, or that mmap made PROT_NONE",
        _host_pages,
    ),
    Allowance("low pages", "Linux keeps the first 64 KiB (vm.mmap_min_addr) from processes", _low_pages),
    Allowance(
        "two memory operands",
        "no manual says which of the two a string instruction checks first",
        _two_operands,
    ),
    Allowance(
        "RF in a REP",
        "SDM Vol. 3B, 18.3.1.1: RF in the image is set where something interrupted the repetition before",
        _rep_trap,
    ),
    Allowance("POPA", "no manual says that registers stay as they were where a later item faults", _popa),
    Allowance(
        "x87 pointers",
        "FIP and FDP hold as many bits as the processor has linear address; loading others is cut",
        _pointers,
    ),
    Allowance(
        "MXCSR.MM",
        "APM Vol. 1, 4.2.2: AMD's processors have a bit that switches SSE alignment checks off; not claimed",
        _mxcsr_mm,
    ),
    Allowance(
        "4 GiB",
        "SDM Vol. 3A, 5.3.1: an access that wraps around a limit of 4 GiB may or may not fault",
        _wrap,
    ),
    Allowance(
        "host descriptors", "the host's descriptor table is longer than the guest's", _host_descriptors
    ),
    Allowance(
        "#AC or #GP",
        "SDM Vol. 2A, FXSAVE: whether a misaligned area gives #AC, where that is on, is the processor's own; "
        "nor is there a rule which comes first, a bad stack address or misalignment",
        _save_area,
    ),
    Allowance(
        "PVM #GP",
        "KVM on PVM hands #GP and #UD of ring 3 to its emulator, which does what it likes with them",
        _pvm_gp,
    ),
    Allowance(
        "PVM descriptors",
        "on PVM ring 3 runs with the host's descriptor table, and data segments are reloaded behind its back",
        _pvm_descriptors,
    ),
)
