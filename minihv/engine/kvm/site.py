"""Which instruction caused an exit.

KVM leaves RIP at the instruction for reads (they finish at the next entry) and, on VT-x and AMD-V, for a
plain OUT (its fast path, `kvm_fast_pio_out`); but behind the instruction for writes that went through
KVM's emulator: MMIO writes anywhere, string output, and everything of ring 0 under PVM. So for a write the
bytes on both sides of RIP are kept, and looked at when a report asks.
"""

from dataclasses import dataclass

OUT_IMM = (0xE6, 0xE7)
OUT_DX = (0xEE, 0xEF)
OUTS = (0x6E, 0x6F)
PREFIXES = frozenset((0x66, 0x67, 0xF2, 0xF3, 0x2E, 0x36, 0x3E, 0x26, 0x64, 0x65))
BEFORE = 16
"""Bytes kept before RIP: an instruction has at most 15 (SDM Vol. 2A, 2.3.11)."""


@dataclass(frozen=True, slots=True)
class CodeSite:
    """The bytes around RIP at an exit. `code` starts at `linear` - `before`."""

    linear: int
    code: bytes
    before: int
    bits: int
    write: str
    """"port", "mmio", or "" where RIP is known to be at the instruction."""
    size: int
    gpa: int
    prefer_after: bool
    """The engine knows that its plain OUT leaves RIP behind the instruction."""

    def address(self) -> int:
        """Linear address of the instruction that caused the exit."""
        if self.write == "port":
            return self.linear - self._out_length()
        if self.write == "mmio":
            return self.linear - self._store_length()
        return self.linear

    def _out_length(self) -> int:
        """0 where the instruction at RIP did it, else the length of the OUT before RIP."""
        code, at = self.code, self.before
        here = at
        while here < len(code) and code[here] in PREFIXES:
            here += 1
        at_rip = here < len(code) and code[here] in (*OUT_IMM, *OUT_DX, *OUTS)
        length = 0
        if at >= 1 and code[at - 1] in (*OUT_DX, *OUTS):
            length = 1
        elif at >= 2 and code[at - 2] in OUT_IMM and code[at - 1] == self.gpa & 0xFF:
            length = 2
        if not length or (at_rip and not self.prefer_after):
            return 0
        while length < at and code[at - length - 1] in PREFIXES:
            length += 1
        return length

    def _store_length(self) -> int:
        """Length of the instruction before RIP that stores `size` bytes; 0 where none decodes so."""
        try:
            from iced_x86 import Decoder, InstructionInfoFactory, OpAccess
        except ImportError:
            return 0
        writes = (OpAccess.WRITE, OpAccess.READ_WRITE, OpAccess.COND_WRITE, OpAccess.READ_COND_WRITE)
        info = InstructionInfoFactory()
        best = 0
        for length in range(1, min(self.before, 15) + 1):
            window = self.code[self.before - length : self.before]
            instruction = Decoder(self.bits, window, ip=self.linear - length).decode()
            if instruction.is_invalid or instruction.len != length:
                continue
            used = info.info(instruction).used_memory()
            if any(m.access in writes for m in used):
                best = length
        return best
