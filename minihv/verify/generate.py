"""Random cases: an instruction of the wanted kind, and a state in which it has something to do."""

import struct
from random import Random
from typing import NamedTuple

from iced_x86 import Instruction, MemorySizeInfo, Mnemonic, OpCodeInfo, OpKind, Register

from minihv.verify import layout as at
from minihv.verify.case import Case
from minihv.verify.instructions import Encoded, instance
from minihv.verify.targets import SELECTORS, inside, special_int, target
from minihv.verify.values import Values
from minihv.x86 import registers as x

_RSP, _RBP, _RSI, _RDI, _RBX, _RCX = 4, 5, 6, 7, 3, 1
_FLAGS = x.RFLAGS_ARITHMETIC | x.RFLAGS_DF
_M64 = (1 << 64) - 1


class Subject(NamedTuple):
    """What to test: an iced-x86 code in 32- or 64-bit code."""

    code: int
    bits: int


class Generator:
    """Cases for a set of subjects. The same seed gives the same cases."""

    def __init__(self, allowed: frozenset[Subject], seed: int) -> None:
        """`allowed`: prefixes may turn an instruction into another one, but into none that is not in here."""
        self.rng = Random(seed)
        self.allowed = allowed
        self.values = Values(self.rng)

    def case(self, subject: Subject) -> Case | None:
        """A case for `subject`; None where ten attempts gave no instruction."""
        for _ in range(10):
            rip = self._rip()
            encoded = instance(subject.code, subject.bits, rip, self.rng)
            if encoded is None or Subject(encoded.insn.code, subject.bits) not in self.allowed:
                continue
            if _meaningless(encoded):
                continue
            if rip + len(encoded.raw) > at.CODE + 0x2000:
                rip = at.CODE + 0x2000 - len(encoded.raw)
            return self._state(encoded, subject.bits, rip)
        return None

    def _rip(self) -> int:
        """Mostly in the middle of a page; some cross into the next, some end at the last byte."""
        choice = self.rng.random()
        if choice < 0.9:
            return at.CODE + 0x800
        return at.CODE + (0x1000 if choice < 0.97 else 0x2000) - self.rng.randrange(1, 16)

    def _state(self, encoded: Encoded, bits: int, rip: int) -> Case:
        rng, insn = self.rng, encoded.insn
        fs_base, gs_base = (self._base(), self._base()) if bits == 64 else (0, 0)
        gpr = [special_int(rng, 64) for _ in range(16)]
        for register in (_RSP, _RBP, _RSI, _RDI, _RBX):
            if rng.random() < 0.85:
                gpr[register] = target(rng, 16)
        if rng.random() < 0.8:
            gpr[_RSP] = inside(rng, 8) + rng.choice((0, 0, 0, 0, 4, 2, 1))
        if insn.is_string_instruction or rng.random() < 0.5:
            gpr[_RCX] = rng.randrange(20) if rng.random() < 0.9 else rng.randrange(3000)
        windows = bytearray(self.values.contents(at.WINDOW0_SIZE + at.WINDOW1_SIZE))
        self._aim(encoded, bits, rip, gpr, fs_base, gs_base, windows)
        self._prepare(insn, bits, gpr, windows)
        if bits == 32:
            gpr = [value & 0xFFFFFFFF if n < 8 else 0 for n, value in enumerate(gpr)]
        rflags = rng.getrandbits(32) & _FLAGS | x.RFLAGS_FIXED | x.RFLAGS_IF
        if rng.random() < 0.7:
            rflags &= ~x.RFLAGS_DF
        if rng.random() < 0.1:
            rflags |= rng.choice((x.RFLAGS_AC, x.RFLAGS_ID, x.RFLAGS_NT))
        return Case(encoded.raw, bits, rip, tuple(gpr), rflags, self.values.fx(), fs_base, gs_base,
                    bytes(windows))  # fmt: skip

    def _base(self) -> int:
        """A segment base: mostly something harmless."""
        choice = self.rng.random()
        if choice < 0.5:
            return 0
        return self.rng.choice((8, 0x1000, at.ARENA, _M64 - 0xFFF, 1 << 40)) if choice < 0.9 else at.WINDOW1

    def _aim(
        self, encoded: Encoded, bits: int, rip: int, gpr: list[int], fs_base: int, gs_base: int,
        windows: bytearray,
    ) -> None:  # fmt: skip
        """Make the explicit memory operand lie at some target, by its base register; put a value there."""
        insn, rng = encoded.insn, self.rng
        if not has_memory(insn):
            return
        size = operand_bytes(insn)
        bit_string = insn.op_count == 2 and insn.op_kind(1) == OpKind.REGISTER and _is_bit_test(insn)
        base = _general_number(insn.memory_base)
        if base is None:
            return
        number, width = base
        aim = target(rng, size)
        if bits == 32 or width < 8:
            aim &= 0xFFFFFFFF
        if width == 2:
            aim = at.LOW + (aim - at.ARENA) & 0xFFFF
        mask = (1 << 8 * width) - 1
        offset = aim - insn.memory_displacement
        offset -= {Register.FS: fs_base, Register.GS: gs_base}.get(insn.memory_segment, 0)
        index = _general_number(insn.memory_index)
        if index is not None:
            if index[0] == number:
                offset //= 1 + insn.memory_index_scale
            else:
                offset -= gpr[index[0]] * insn.memory_index_scale
        gpr[number] = gpr[number] & ~mask | offset & mask if width < 8 else offset & mask
        if bit_string:
            bit = _general_number(insn.op_register(1))
            if bit is not None and bit[0] != number and rng.random() < 0.9:
                gpr[bit[0]] = rng.randrange(-64, 128) & _M64
        self.values.place(windows, aim, insn.memory_size)

    def _prepare(self, insn: Instruction, bits: int, gpr: list[int], windows: bytearray) -> None:
        """Little helps for instructions that would fault nearly always."""
        rng = self.rng
        name = _NAMES.get(insn.mnemonic)
        if (
            name in ("RET", "IRET", "IRETD", "IRETQ", "RETF", "CALL", "JMP", "POP", "POPF", "POPFD", "POPFQ")
            and rng.random() < 0.8
        ):
            self._frame(insn, bits, gpr, windows)
        if name in ("DIV", "IDIV") and rng.random() < 0.6:
            gpr[2] = rng.choice((0, 0, 1, _M64, special_int(rng, 64)))
        if name == "LEAVE" and rng.random() < 0.8:
            gpr[_RBP] = inside(rng, 8)
        if name in ("XRSTOR", "XRSTOR64", "FXRSTOR", "FXRSTOR64"):
            self._xsave_image(windows)
        if name in ("XSAVE", "XSAVE64", "XSAVEOPT", "XSAVEOPT64", "XSAVEC", "XSAVEC64", "XRSTOR", "XRSTOR64"):
            gpr[0], gpr[2] = rng.randrange(4) | rng.choice((0, 1 << 60)) & 0, 0
        if name in ("LAR", "LSL", "VERR", "VERW", "MOV") and rng.random() < 0.9:
            selector = rng.choice(SELECTORS)
            for n in range(insn.op_count):
                register = _general_number(insn.op_register(n))
                if insn.op_kind(n) != OpKind.REGISTER or register is None:
                    continue
                if name != "MOV" or _is_segment(insn.op_register(0)):
                    gpr[register[0]] = selector

    def _frame(self, insn: Instruction, bits: int, gpr: list[int], windows: bytearray) -> None:
        """A plausible return frame at RSP: address, selector, flags, stack, selector."""
        rng = self.rng
        sp = gpr[_RSP]
        start = sp - at.WINDOW1 + at.WINDOW0_SIZE
        if not at.WINDOW1 <= sp < at.ARENA_END:
            return
        code = OpCodeInfo(insn.code)
        width = code.operand_size // 8 or bits // 8
        items = (
            at.CODE + rng.randrange(0x2000), rng.choice(SELECTORS), rng.getrandbits(22),
            inside(rng, 8), rng.choice(SELECTORS),
        )  # fmt: skip
        for n, value in enumerate(items):
            place = start + n * width
            if place + width <= len(windows):
                windows[place : place + width] = (value & (1 << 8 * width) - 1).to_bytes(width, "little")

    def _xsave_image(self, windows: bytearray) -> None:
        """Make the end window an image that can be loaded, and spoil it a little now and then."""
        rng = self.rng
        fx = bytearray(self.values.fx())
        header = struct.pack("<QQ48x", rng.choice((0, 1, 2, 3, 3, 3)), 0)
        image = bytes(fx) + header
        windows[at.WINDOW0_SIZE : at.WINDOW0_SIZE + len(image)] = image
        if rng.random() < 0.1:
            windows[at.WINDOW0_SIZE + 512 + 8 + rng.randrange(24)] ^= 1 << rng.randrange(8)


def operand_bytes(insn: Instruction) -> int:
    """Bytes of the memory operand; 576 where it varies (XSAVE), 0 where there is none."""
    if not has_memory(insn):
        return 0
    return MemorySizeInfo(insn.memory_size).size or 576


def has_memory(insn: Instruction) -> bool:
    """It has an explicit memory operand."""
    return any(insn.op_kind(n) == OpKind.MEMORY for n in range(insn.op_count))


def reads_frame(insn: Instruction) -> bool:
    """It takes several items from the stack or from a far pointer, and checks them."""
    return _NAMES.get(insn.mnemonic) in ("RETF", "IRET", "IRETD", "IRETQ") or (
        insn.is_call_far_indirect or insn.is_jmp_far_indirect
    )


def _general_number(register: int) -> tuple[int, int] | None:
    return GENERAL.get(register)


def _general() -> dict[int, tuple[int, int]]:
    found = {}
    for n in range(16):
        found[Register.RAX + n], found[Register.EAX + n], found[Register.AX + n] = (n, 8), (n, 4), (n, 2)
    for n in range(4):
        found[Register.AL + n] = (n, 1)
    return found


GENERAL = _general()
"""iced-x86 register -> (number, bytes)."""


def _meaningless(encoded: Encoded) -> bool:
    """It has a prefix that processors read although they do not list it: on AMD's F2 or F3 before LOOPcc
    turns it into another LOOPcc, and LOCK before MOV CR0 makes it CR8 (a CPUID bit that is not claimed)."""
    insn = encoded.insn
    if 0xF0 in encoded.raw[:-2] and insn.mnemonic == Mnemonic.MOV:
        return any(Register.CR0 <= insn.op_register(n) <= Register.CR15 for n in range(insn.op_count))
    loop = insn.is_loop or insn.is_loopcc
    return loop and bool({0xF2, 0xF3}.intersection(encoded.raw[:-2]))


def _is_bit_test(insn: Instruction) -> bool:
    return _NAMES.get(insn.mnemonic) in ("BT", "BTS", "BTR", "BTC")


def _is_segment(register: int) -> bool:
    return Register.ES <= register <= Register.GS


def _mnemonics() -> dict[int, str]:
    return {value: name for name, value in vars(Mnemonic).items() if isinstance(value, int)}


_NAMES = _mnemonics()
