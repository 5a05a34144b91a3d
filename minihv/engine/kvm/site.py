"""Which instruction caused an exit.

KVM leaves RIP at the instruction for reads (they finish at the next entry) and, on VT-x and AMD-V, for a
plain OUT (its fast path, `kvm_fast_pio_out`); but behind the instruction for writes that went through
KVM's emulator: MMIO writes anywhere, the last element of string output, and everything of ring 0 under PVM.
A repeated string instruction that is not finished is left with RIP at itself. So for a write the bytes on
both sides of RIP are kept with the registers, and looked at when a report asks.
"""

import struct
from typing import Any, NamedTuple

OUT_IMM = {0xE6: 1, 0xE7: 0}
OUT_DX = {0xEE: 1, 0xEF: 0}
OUTS = {0x6E: 1, 0x6F: 0}
"""Opcode -> bytes an element; 0: two or four, by operand size (SDM Vol. 2B, OUT, OUTS)."""
PREFIXES = frozenset((0x66, 0x67, 0xF2, 0xF3, 0x2E, 0x36, 0x3E, 0x26, 0x64, 0x65))
REPEATS = frozenset((0xF2, 0xF3))
BEFORE = 16
"""Bytes kept before RIP: an instruction has at most 15 (SDM Vol. 2A, 2.3.11)."""
AFTER = 16

GPRS = struct.Struct("<18Q")
"""struct kvm_regs."""
RCX, RDI, RFLAGS = 2, 5, 17
ENCODING_ORDER = (0, 2, 3, 1, 6, 7, 4, 5, *range(8, 16))
"""Register number of the instruction encoding -> place in struct kvm_regs."""
_ES, _DS, _FS = 0, 3, 4
_RFLAGS_DF = 1 << 10
_PAGE_OFFSET = 0xFFF
"""The part of an address that paging does not change: by it an operand is compared with a GPA."""


class CodeSite(NamedTuple):
    """The bytes around RIP at an exit. `code` starts at `linear` - `before`."""

    linear: int
    code: bytes = b""
    before: int = 0
    bits: int = 16
    write: str = ""
    """"port", "mmio", or "" where RIP is known to be at the instruction."""
    size: int = 0
    """Bytes of one element."""
    target: int = 0
    """Port or GPA."""
    prefer_after: bool = False
    """The engine knows that its plain OUT leaves RIP behind the instruction."""
    registers: bytes = bytes(GPRS.size)
    """struct kvm_regs at the exit."""
    bases: tuple[int, ...] = (0,) * 6
    """Bases of ES, CS, SS, DS, FS, GS."""

    def address(self) -> int:
        """Linear address of the instruction that caused the exit."""
        if self.write == "port":
            return self.linear - self._out_length()
        if self.write == "mmio":
            return self.linear - self._store_length()
        return self.linear

    def _register(self, place: int) -> int:
        value: int = GPRS.unpack(self.registers)[place]
        return value

    # Port output: the opcodes tell

    def _out_length(self) -> int:
        """0 where the instruction at RIP did it, else the length of the OUT before RIP."""
        at_rip, repeated = self._out_at_rip()
        if repeated and self._register(RCX):
            return 0
        length = self._out_before_rip()
        if not length or (at_rip and not self.prefer_after):
            return 0
        while length < self.before and self.code[self.before - length - 1] in PREFIXES:
            length += 1
        return length

    def _out_at_rip(self) -> tuple[bool, bool]:
        """Whether an OUT or OUTS of the right size stands at RIP, and whether it is a repeated OUTS."""
        code, here, repeated = self.code, self.before, False
        while here < len(code) and code[here] in PREFIXES:
            repeated = repeated or code[here] in REPEATS
            here += 1
        if here >= len(code):
            return False, False
        opcode = code[here]
        if self._fits(OUTS, opcode):
            return True, repeated
        immediate = self._fits(OUT_IMM, opcode) and code[here + 1 : here + 2] == bytes((self.target & 0xFF,))
        return immediate or self._fits(OUT_DX, opcode), False

    def _out_before_rip(self) -> int:
        """Length, without prefixes, of the OUT or OUTS that ends at RIP; 0 where there is none."""
        code, at = self.code, self.before
        if at >= 1 and (self._fits(OUT_DX, code[at - 1]) or self._fits(OUTS, code[at - 1])):
            return 1
        if at >= 2 and self._fits(OUT_IMM, code[at - 2]) and code[at - 1] == self.target:
            return 2
        return 0

    def _fits(self, table: dict[int, int], opcode: int) -> bool:
        size = table.get(opcode)
        return size is not None and (self.size == 1) == (size == 1)

    # Stores: decoding backwards is ambiguous, so the operand must fit the address and the size

    def _store_length(self) -> int:
        """Length of the instruction before RIP that stored; 0 where the one at RIP did, or none fits."""
        try:
            from iced_x86 import Decoder
        except ImportError:
            return 0
        if self._repeats_at_rip(Decoder(self.bits, self.code[self.before :], ip=self.linear).decode()):
            return 0
        best, best_score = 0, -1
        for length in range(1, min(self.before, 15) + 1):
            window = self.code[self.before - length : self.before]
            instruction = Decoder(self.bits, window, ip=self.linear - length).decode()
            if instruction.is_invalid or instruction.len != length:
                continue
            score = self._score(instruction)
            if score >= 0 and score >= best_score:
                best, best_score = length, score
        return best

    def _repeats_at_rip(self, instruction: Any) -> bool:
        """A repeated STOS or MOVS at RIP wrote the element just behind its RDI, and is not finished."""
        from iced_x86 import MemorySizeExt

        if instruction.is_invalid or not instruction.is_string_instruction:
            return False
        if not (instruction.has_rep_prefix or instruction.has_repne_prefix):
            return False
        step = MemorySizeExt.size(instruction.memory_size)
        if self._register(RFLAGS) & _RFLAGS_DF:
            step = -step
        written = (0 if self.bits == 64 else self.bases[_ES]) + self._register(RDI) - step
        return step in (self.size, -self.size) and (written - self.target) & _PAGE_OFFSET == 0

    def _score(self, instruction: Any) -> int:
        """-1 for no store; 2 points where the address fits, 1 where the size does."""
        from iced_x86 import InstructionInfoFactory, MemorySizeExt, OpAccess

        writes = (OpAccess.WRITE, OpAccess.READ_WRITE, OpAccess.COND_WRITE, OpAccess.READ_COND_WRITE)
        best = -1
        for memory in InstructionInfoFactory().info(instruction).used_memory():
            if memory.access not in writes:
                continue
            # Of a repeated instruction the whole size is not known, that of an element is.
            size = MemorySizeExt.size(memory.memory_size) or MemorySizeExt.size(instruction.memory_size)
            # KVM hands on at most 8 bytes at a time, and cuts at page boundaries.
            fits_size = size == self.size or size > 8
            offset = self.target - self._effective_address(memory)
            if instruction.is_string_instruction:
                offset += -size if self._register(RFLAGS) & _RFLAGS_DF else size  # RDI has moved on
            fits_address = offset & _PAGE_OFFSET < max(size - self.size, 0) + 1
            best = max(best, 2 * fits_address + fits_size)
        return best

    def _effective_address(self, memory: Any) -> int:
        """Linear address of a memory operand, by the registers after the instruction."""
        from iced_x86 import Register, RegisterExt

        address: int = memory.displacement
        for register, scale in ((memory.base, 1), (memory.index, memory.scale)):
            if register != Register.NONE:
                number = RegisterExt.number(RegisterExt.full_register(register))
                address += scale * self._register(ENCODING_ORDER[number])
        segment = _DS if memory.segment == Register.NONE else memory.segment - Register.ES
        return address + (self.bases[segment] if self.bits != 64 or segment >= _FS else 0)
