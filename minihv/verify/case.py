"""One case of the random-instruction tester: an instruction, the state before it, what became of it."""

import struct
import zlib
from typing import NamedTuple

from minihv.errors import UsageError
from minihv.verify import layout as at
from minihv.x86 import registers as x

FXSAVE_USED = 416
"""Bytes of an FXSAVE image that mean something (SDM Vol. 1, 10.5.1)."""
_MXCSR_MASK = 28
_PAD, _INT3 = b"\x90" * 16, b"\xcc" * 16


class Case(NamedTuple):
    """An instruction in ring 3 and everything it can see.

    `code` lies at linear `rip`; `bits` is 64 or 32. `fx` is an FXSAVE64 image, `windows` the contents of
    both windows of `layout`.
    """

    code: bytes
    bits: int
    rip: int
    gpr: tuple[int, ...]
    rflags: int
    fx: bytes
    fs_base: int
    gs_base: int
    windows: bytes

    def record(self, step: bool = True) -> bytes:
        """As the harness guest reads it. `step`: stop by the trap flag; else by an INT3 behind the code."""
        end = at.CODE + 0x2000 - self.rip
        code = (self.code + (_PAD if step else _INT3))[: min(at.CODE_ROOM, end)]
        cs = at.USER_CODE64 if self.bits == 64 else at.USER_CODE32
        return struct.pack(
            "<512s16Q5Q2Q2Q4H32s16x1024s256x",
            self.fx, *self.gpr, self.rip, cs, self.rflags | x.RFLAGS_TF * step, self.gpr[4], at.USER_DATA,
            self.rip, len(code), self.fs_base, self.gs_base, *([at.USER_DATA] * 2), 0, 0, code, self.windows,
        )  # fmt: skip

    def to_hex(self) -> str:
        """One line that `from_hex` reads: compressed, because most of a state is zeros."""
        head = struct.pack("<BB32sQ16QQ512sQQ", len(self.code), self.bits, self.code, self.rip, *self.gpr,
                           self.rflags, self.fx, self.fs_base, self.gs_base)  # fmt: skip
        return zlib.compress(head + self.windows, 9).hex()

    @classmethod
    def from_hex(cls, line: str) -> "Case":
        """Raises UsageError for anything that `to_hex` did not write."""
        try:
            raw = zlib.decompressobj().decompress(bytes.fromhex(line), 4096)
            size, bits, code, rip, *rest = _HEAD.unpack(raw[: _HEAD.size])
            gpr, (rflags, fx, fs_base, gs_base) = rest[:16], rest[16:]
            case = cls(code[:size], bits, rip, tuple(gpr), rflags, fx, fs_base, gs_base, raw[_HEAD.size :])
            case.check()
        except (ValueError, struct.error, zlib.error) as error:
            raise UsageError(
                f"expected a case as scripts/random-test prints it, found something else: {error}"
            ) from error
        return case

    def check(self) -> None:
        """Raises ValueError for what the harness cannot load."""
        if self.bits not in (32, 64) or not 1 <= len(self.code) <= 16:
            raise ValueError("a case has 1 to 16 bytes of 32- or 64-bit code")
        if not at.CODE <= self.rip < at.CODE + 0x2000:
            raise ValueError("code lies in the code pages")
        if len(self.windows) != at.WINDOW0_SIZE + at.WINDOW1_SIZE or len(self.fx) != 512:
            raise ValueError("the memory windows or the FXSAVE image have the wrong size")


_HEAD = struct.Struct("<BB32sQ16QQ512sQQ")

_RESULT = struct.Struct("<512s16Q8Q2Q4H40x1024s")


class Result(NamedTuple):
    """What a case left behind. `vector` 1 means: nothing went wrong."""

    fx: bytes
    gpr: tuple[int, ...]
    vector: int
    error: int
    rip: int
    cs: int
    rflags: int
    rsp: int
    ss: int
    cr2: int
    fs_base: int
    gs_base: int
    selectors: tuple[int, ...]
    windows: bytes

    @classmethod
    def unpack(cls, record: bytes) -> "Result":
        """From what the harness guest wrote."""
        fx, *rest = _RESULT.unpack_from(record)
        windows = rest.pop()
        gpr, selectors = rest[:16], tuple(rest[26:30])
        vector, error, rip, cs, rflags, rsp, ss, cr2, fs_base, gs_base = rest[16:26]
        gpr[4] = rsp
        if vector != x.VECTOR_PF:
            cr2 = 0  # left over from an earlier page fault
        # MXCSR_MASK is a constant of the processor.
        fx = fx[:_MXCSR_MASK] + bytes(4) + fx[_MXCSR_MASK + 4 : FXSAVE_USED]
        return cls(
            fx, tuple(gpr), vector, error, rip, cs, rflags, rsp, ss, cr2, fs_base, gs_base, selectors, windows
        )

    def as_stepped(self) -> "Result":
        """A result that ended by INT3, or a fault, as the trap flag would have made it."""
        found = self._replace(rflags=self.rflags | x.RFLAGS_TF)
        return found._replace(vector=x.VECTOR_DB, rip=self.rip - 1) if self.vector == x.VECTOR_BP else found
