"""Execute single instructions with the interpreter's ops, on the same context as `native_fpu` has.

64-bit mode, CPL 0, no paging; the scratch area is RAM at BASE + SCRATCH and R15 holds BASE, so the same
bytes mean the same on the host's processor and here.
"""

from random import Random
from typing import Any, cast

from float_cases import operand
from iced_x86 import (
    Code,
    Encoder,
    EncodingKind,
    Instruction,
    OpCodeInfo,
    OpCodeOperandKind,
    OpKind,
    Register,
)
from native_fpu import SCRATCH, NativeFpu

from minihv.engine.interpret.cpu import CS, Cpu
from minihv.engine.interpret.decode import decoder
from minihv.engine.interpret.mmu import Mmu
from minihv.engine.interpret.physical import Physical
from minihv.engine.interpret.site import Site
from minihv.engine.interpret.space import Space
from minihv.engine.interpret.table import Table
from minihv.memory import GuestMemory, Region
from minihv.x86.registers import CR4_OSFXSR, CR4_OSXMMEXCPT, EFER_LMA
from minihv.x86.softfloat import F32, F64

BASE = 0x8000
RAM_BYTES = 0x20000
CARRIED = (0, 1, 2, 3, 6, 7)
"""General registers that `native_fpu` carries: not RSP and RBP."""


def _host_vendor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:
            return next((line.split(":")[1].strip() for line in lines if line.startswith("vendor_id")), "")
    except OSError:
        return ""


HOST_IS_AMD = _host_vendor() == "AuthenticAMD"
"""Where the two vendors differ the interpreter follows the one it claims to be: here, the host's."""


class Interpreted:
    """A CPU with 128 KiB of RAM at 0 and the ops of one table."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.ram = bytearray(RAM_BYTES)
        region = Region(0, RAM_BYTES, memoryview(self.ram), False, "ram")
        physical = Physical(GuestMemory([region]))
        self.cpu = cpu = Cpu(0)
        cpu.mmu = Mmu(cpu, physical)
        cpu.user = Space(cpu, cpu.mmu, user=True)
        cpu.supervisor = Space(cpu, cpu.mmu, user=False)
        cpu.system = Space(cpu, cpu.mmu, user=False, implicit=True)
        physical.cpus.append(cpu)
        cpu.amd = HOST_IS_AMD
        cpu.cr0 = 0x33
        cpu.cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT
        cpu.efer = EFER_LMA
        cpu.seg[CS].set(8, 0, 0xFFFFFFFF, 0xA09B)
        cpu.mode_changed()
        cpu.fpu.init()
        cpu.r[15] = BASE

    def run(self, code: bytes) -> None:
        """Decode and execute one instruction at BASE. Raises GuestFault."""
        insn = decoder(self.cpu.mode.bits, code, BASE, False).decode()
        assert not insn.is_invalid, code.hex()
        site = Site(self.cpu, insn, self.cpu.mode, BASE)
        builder = self.table.get(insn.mnemonic)
        (site.undefined() if builder is None else builder(site))()

    def load(self, native: NativeFpu) -> None:
        """Copy the whole context that `native` would run with."""
        cpu, fpu = self.cpu, self.cpu.fpu
        for n in CARRIED:
            cpu.r[n] = native.gpr(n)
        cpu.set_rflags(native.rflags & 0xCD7)
        for n in range(16):
            cpu.xmm[n] = native.xmm(n)
        cpu.mxcsr = native.mxcsr
        fpu.fcw, fpu.fsw, fpu.empty = native.fcw, native.fsw, native.ftw ^ 0xFF
        top = native.fsw >> 11 & 7
        for n in range(8):
            fpu.regs[top + n & 7] = native.st(n)
        self.ram[BASE + SCRATCH : BASE + 4096] = native.scratch(4096 - SCRATCH)

    def differences(self, native: NativeFpu, flags: int = 0x8D5) -> list[str]:
        """What is not as `native` has it now; `flags`: the RFLAGS bits to compare."""
        cpu, fpu = self.cpu, self.cpu.fpu
        top = fpu.fsw >> 11 & 7
        pairs: list[tuple[str, int, int]] = [
            ("mxcsr", native.mxcsr, cpu.mxcsr),
            ("rflags", native.rflags & flags, cpu.get_rflags() & flags),
            ("fcw", native.fcw, fpu.fcw),
            ("fsw", native.fsw, fpu.fsw),
            ("ftw", native.ftw, fpu.empty ^ 0xFF),
        ]
        pairs += [(f"gpr{n}", native.gpr(n), cpu.r[n]) for n in CARRIED]
        pairs += [(f"xmm{n}", native.xmm(n), cpu.xmm[n]) for n in range(16)]
        pairs += [(f"st{n}", native.st(n), fpu.regs[top + n & 7]) for n in range(8)]
        found = [f"{name}: processor {a:#x}, here {b:#x}" for name, a, b in pairs if a != b]
        theirs, ours = native.scratch(4096 - SCRATCH), bytes(self.ram[BASE + SCRATCH : BASE + 4096])
        if theirs != ours:
            at = next(n for n in range(len(ours)) if ours[n] != theirs[n])
            found.append(
                f"memory +{at}: processor {theirs[at : at + 16].hex()}, here {ours[at : at + 16].hex()}"
            )
        return found


def random_vector(rng: Random) -> int:
    """128 bits: floats of either size, small lanes, bytes that end strings, or noise."""
    choice = rng.random()
    if choice < 0.25:
        return sum(random_float(rng, 32) << 32 * n for n in range(4))
    if choice < 0.5:
        return sum(random_float(rng, 64) << 64 * n for n in range(2))
    if choice < 0.6:
        return int.from_bytes(bytes(rng.choice((0, 1, 2, 0x7F, 0x80, 0xFF)) for _ in range(16)), "little")
    if choice < 0.7:
        return int.from_bytes(bytes(rng.choice(b"abcd\0") for _ in range(16)), "little")
    if choice < 0.8:
        return rng.getrandbits(64) << 64 | rng.randrange(80)
    return rng.getrandbits(128)


def random_float(rng: Random, bits: int) -> int:
    return operand(rng, F32 if bits == 32 else F64)


# Encoding any form of an instruction ---------------------------------------------------------------

_K = OpCodeOperandKind
_FIRST = {2: Register.AX, 4: Register.EAX, 8: Register.RAX}
_REGISTERS: dict[int, int | str] = {
    _K.XMM_REG: "xmm", _K.XMM_RM: "xmm", _K.MM_REG: "mm", _K.MM_RM: "mm", _K.STI_OPCODE: "st",
    _K.R32_REG: 4, _K.R32_RM: 4, _K.R64_REG: 8, _K.R64_RM: 8,
}  # fmt: skip
_OR_MEMORY: dict[int, int | str | None] = {
    _K.XMM_OR_MEM: "xmm", _K.MM_OR_MEM: "mm", _K.R8_OR_MEM: 1, _K.R16_OR_MEM: 2, _K.R32_OR_MEM: 4,
    _K.R64_OR_MEM: 8, _K.MEM: None,
}  # fmt: skip
_FIXED: dict[int, int] = {_K.ST0: Register.ST0, _K.AX: Register.AX}


def forms(table: Table) -> list[tuple[str, int, bool]]:
    """(name, iced code, with memory) of every 64-bit-mode legacy encoding in `table`, strings excepted."""
    found = []
    for name, code in sorted(vars(Code).items()):
        if not isinstance(code, int):
            continue
        info: Any = OpCodeInfo(cast(Any, code))
        if info.encoding != EncodingKind.LEGACY or not info.mode64:
            continue
        if info.mnemonic not in table or name in ("MOVSD_M32_M32", "CMPSD_M32_M32"):
            continue
        kinds = [info.op_kind(n) for n in range(info.op_count)]
        if any(kind in _OR_MEMORY for kind in kinds):
            found.append((name, code, True))
        if _K.MEM not in kinds:
            found.append((name, code, False))
    return found


def encode(code: int, rng: Random, memory: bool, displacement: int = SCRATCH) -> bytes:
    """Bytes of a random instance of `code`; its memory operand, if any, is [r15 + displacement]."""
    info: Any = OpCodeInfo(cast(Any, code))
    insn: Any = Instruction()
    insn.code = code
    for n in range(info.op_count):
        kind = info.op_kind(n)
        if kind in _OR_MEMORY and (memory or _OR_MEMORY[kind] is None):
            insn.set_op_kind(n, OpKind.MEMORY)
            insn.memory_base = Register.R15
            insn.memory_displacement = displacement
            insn.memory_displ_size = 8
        elif kind in _FIXED:
            insn.set_op_register(n, _FIXED[kind])
        elif kind in _REGISTERS or kind in _OR_MEMORY:
            insn.set_op_register(n, _pick(_REGISTERS.get(kind) or _OR_MEMORY[kind], rng))
        elif kind == _K.IMM8:
            insn.set_op_kind(n, OpKind.IMMEDIATE8)
            insn.immediate8 = rng.getrandbits(8)
        elif kind == _K.SEG_RDI:
            insn.set_op_kind(n, OpKind.MEMORY_SEG_RDI)
        else:
            raise AssertionError(f"operand kind {kind} of code {code} is not known here")
    encoder = Encoder(64)
    encoder.encode(insn, BASE)
    return encoder.take_buffer()


def _pick(what: int | str | None, rng: Random) -> int:
    if what == "xmm":
        return Register.XMM0 + rng.randrange(16)
    if what in ("mm", "st"):
        return (Register.MM0 if what == "mm" else Register.ST0) + rng.randrange(8)
    if what == 1:
        return rng.choice((Register.AL, Register.CL, Register.DL, Register.BL, Register.SIL, Register.DIL))
    assert isinstance(what, int)
    return _FIRST[what] + rng.choice(CARRIED)
