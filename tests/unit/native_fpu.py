"""Run one instruction on this host's own processor, with the FPU, SSE and integer state a test chooses.

Real hardware is the judge of floating-point semantics. A stub loads a FXSAVE image and registers,
executes the instruction, and stores everything back; the instruction must not fault in user mode (x87
exceptions may be unmasked: they would only be delivered by a later waiting instruction, and FXSAVE does
not wait).
"""

import mmap
import platform
import struct
from typing import Any, cast

import cffi
import pytest

IS_X86_64 = platform.machine() in ("x86_64", "AMD64")
needs_x86_64 = pytest.mark.skipif(
    not IS_X86_64, reason=f"compares with an x86-64 processor; this host is {platform.machine()}"
)

_FXSAVE, _GPR, _FLAGS, SCRATCH = 0, 512, 576, 1024
"""Offsets in the context page; instructions reach the scratch area at [r15 + SCRATCH]."""
_SIZE = 4096

# push rbx, rbp, r12-r15; sub rsp, 0x208 (16-byte aligned again); fxsave64 [rsp]; mov r15, rdi
_ENTER = bytes.fromhex("53 55 4154 4155 4156 4157 4881ec08020000 480fae0424 4989ff")
# fxrstor64 [r15]; push [r15+_FLAGS]; popfq; mov rax/rcx/rdx/rbx/rsi/rdi <- [r15+512+8*i]
_LOAD = bytes.fromhex(
    "490fae0f 41ffb740020000 9d"
    "498b8700020000 498b8f08020000 498b9710020000 498b9f18020000 498bb730020000 498bbf38020000"
)
# pushfq; pop [r15+_FLAGS]; mov [r15+512+8*i] <- registers; fxsave64 [r15]
_STORE = bytes.fromhex(
    "49898700020000 49898f08020000 49899710020000 49899f18020000 4989b730020000 4989bf38020000"
    "9c 418f8740020000 490fae07"
)
# fxrstor64 [rsp]; cld; add rsp, 0x208; pop r15-r12, rbp, rbx; ret
_LEAVE = bytes.fromhex("480fae0c24 fc 4881c408020000 415f 415e 415d 415c 5d 5b c3")


class NativeFpu:
    """A context page and the stubs made so far, one per instruction encoding."""

    def __init__(self) -> None:
        self._ffi = cast(Any, cffi.FFI())
        self._code = mmap.mmap(-1, 1 << 20, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self.context = mmap.mmap(-1, _SIZE)
        self._code_address = int(self._ffi.cast("uintptr_t", self._ffi.from_buffer(self._code)))
        self.context_address = int(self._ffi.cast("uintptr_t", self._ffi.from_buffer(self.context)))
        self._context_pointer = self._ffi.cast("void *", self._ffi.from_buffer(self.context))
        self._used = 0
        self._stubs: dict[bytes, Any] = {}
        self.reset()

    def reset(self) -> None:
        """FNINIT state, MXCSR 0x1f80, all registers zero, RFLAGS 0x202."""
        self.context[:] = bytes(_SIZE)
        self.fcw, self.fsw, self.ftw, self.mxcsr, self.rflags = 0x37F, 0, 0, 0x1F80, 0x202

    def _field(self, code: str, offset: int) -> int:
        return int(struct.unpack_from("<" + code, self.context, offset)[0])

    @property
    def fcw(self) -> int:
        return self._field("H", 0)

    @fcw.setter
    def fcw(self, value: int) -> None:
        struct.pack_into("<H", self.context, 0, value)

    @property
    def fsw(self) -> int:
        return self._field("H", 2)

    @fsw.setter
    def fsw(self, value: int) -> None:
        struct.pack_into("<H", self.context, 2, value)

    @property
    def ftw(self) -> int:
        """Abridged tag word: a bit per physical register, 1 = not empty."""
        return self._field("B", 4)

    @ftw.setter
    def ftw(self, value: int) -> None:
        struct.pack_into("<B", self.context, 4, value)

    @property
    def mxcsr(self) -> int:
        return self._field("I", 24)

    @mxcsr.setter
    def mxcsr(self, value: int) -> None:
        struct.pack_into("<I", self.context, 24, value)

    @property
    def rflags(self) -> int:
        return self._field("Q", _FLAGS)

    @rflags.setter
    def rflags(self, value: int) -> None:
        struct.pack_into("<Q", self.context, _FLAGS, value)

    def st(self, index: int) -> int:
        """ST(index) as 80 bits."""
        return int.from_bytes(self.context[32 + 16 * index : 42 + 16 * index], "little")

    def set_st(self, index: int, value: int) -> None:
        self.context[32 + 16 * index : 48 + 16 * index] = value.to_bytes(16, "little")

    def xmm(self, index: int) -> int:
        return int.from_bytes(self.context[160 + 16 * index : 176 + 16 * index], "little")

    def set_xmm(self, index: int, value: int) -> None:
        self.context[160 + 16 * index : 176 + 16 * index] = value.to_bytes(16, "little")

    def gpr(self, index: int) -> int:
        """Register 0-7 by number; RSP and RBP are not carried."""
        return self._field("Q", _GPR + 8 * index)

    def set_gpr(self, index: int, value: int) -> None:
        struct.pack_into("<Q", self.context, _GPR + 8 * index, value)

    def scratch(self, size: int, offset: int = 0) -> bytes:
        return self.context[SCRATCH + offset : SCRATCH + offset + size]

    def set_scratch(self, data: bytes, offset: int = 0) -> None:
        self.context[SCRATCH + offset : SCRATCH + offset + len(data)] = data

    def run(self, instruction: bytes) -> None:
        """Execute `instruction` on the context."""
        stub = self._stubs.get(instruction)
        if stub is None:
            body = _ENTER + _LOAD + instruction + _STORE + _LEAVE
            start = self._used
            assert start + len(body) <= len(self._code), "code page full"
            self._code[start : start + len(body)] = body
            self._used += len(body)
            stub = self._ffi.cast("void (*)(void *)", self._code_address + start)
            self._stubs[instruction] = stub
        stub(self._context_pointer)
