"""FXSAVE, XSAVE and their counterparts, XGETBV and XSETBV.

Layouts: SDM Vol. 1, 10.5.1 (FXSAVE) and 13.4 (XSAVE); rules: 13.7 to 13.9. The processor we claim has
x87, SSE and PKRU state in the standard format only.
"""

from minihv.engine.interpret.cpu import RAX, RCX, RDX, Cpu
from minihv.engine.interpret.cpuid import XCR0_BITS, pkru_offset
from minihv.engine.interpret.decode import Mnemonic as Mn
from minihv.engine.interpret.faults import GuestFault, protection, stack_fault, undefined
from minihv.engine.interpret.site import Op, Read, Site
from minihv.engine.interpret.sse_control import MXCSR_MASK
from minihv.engine.interpret.table import Table
from minihv.engine.interpret.x87_operands import summarise
from minihv.x86.registers import (
    CR0_EM,
    CR0_TS,
    CR4_OSFXSR,
    CR4_OSXSAVE,
    VECTOR_NM,
    XCR0_PKRU,
    XCR0_SSE,
    XCR0_X87,
)

M32 = 0xFFFFFFFF
_HEADER = 512
_HEADER_END = 576
_MXCSR_INITIAL = 0x1F80


def _aligned(s: Site, size: int, write: bool, alignment: int) -> Read:
    """The address of an area: #SS(0) for a bad stack address, then #GP(0) where it is misaligned."""
    address = s.address(size, write)
    stack = s.mode.bits == 64 and s.stack_operand()

    def checked() -> int:
        lin = address()
        if stack and (lin >> 47) + 1 & 0x1FFFE:
            raise stack_fault()
        if lin & (alignment - 1):
            raise protection()
        return lin

    return checked


def _registers(s: Site) -> int:
    """XMM registers that exist in this mode."""
    return 16 if s.mode.bits == 64 else 8


# The legacy region ---------------------------------------------------------------------------------


def _x87_image(cpu: Cpu, wide: bool) -> bytes:
    """Bytes 0-23 (pointers in the 64-bit form if `wide`) and 32-159 of the image, MXCSR left zero between.

    AMD's processors store the pointers as zeros unless an exception is pending (APM Vol. 2, 11.4.4).
    """
    fpu = cpu.fpu
    image = fpu.legacy_image([], 0, 0)[:160]
    if cpu.amd and not fpu.fsw & 0x80:
        image[6:24] = bytes(18)
    elif not wide:
        image[8:16] = (fpu.ip & M32 | fpu.cs << 32).to_bytes(8, "little")
        image[16:24] = (fpu.dp & M32 | fpu.ds << 32).to_bytes(8, "little")
    return bytes(image)


def _load_x87(cpu: Cpu, image: bytes, wide: bool) -> None:
    fpu = cpu.fpu
    fpu.load_x87(image)
    fpu.fcw = fpu.fcw & 0x1F7F | 0x40
    if not wide:
        fpu.cs, fpu.ip = fpu.ip >> 32 & 0xFFFF, fpu.ip & M32
        fpu.ds, fpu.dp = fpu.dp >> 32 & 0xFFFF, fpu.dp & M32
    summarise(fpu)


def _xmm_image(cpu: Cpu, count: int) -> bytes:
    return b"".join(value.to_bytes(16, "little") for value in cpu.xmm[:count])


def _load_xmm(cpu: Cpu, image: bytes, count: int) -> None:
    for n in range(count):
        cpu.xmm[n] = int.from_bytes(image[16 * n : 16 * n + 16], "little")


def _check_mxcsr(value: int) -> int:
    if value & ~MXCSR_MASK:
        raise protection()
    return value


def _mxcsr_image(cpu: Cpu) -> bytes:
    return (cpu.mxcsr | MXCSR_MASK << 32).to_bytes(8, "little")


# FXSAVE, FXRSTOR -----------------------------------------------------------------------------------


def _check_fxsave(cpu: Cpu) -> None:
    """#UD for CR0.EM, then #NM for CR0.TS (SDM Vol. 2A, FXSAVE)."""
    if cpu.cr0 & CR0_EM:
        raise undefined()
    if cpu.cr0 & CR0_TS:
        raise GuestFault(VECTOR_NM)


def _fxsave(s: Site, wide: bool) -> Op:
    """Without CR4.OSFXSR the XMM registers are left out (SDM Vol. 3A, 2.5)."""
    cpu, count = s.cpu, _registers(s)
    address, write, probe = _aligned(s, 512, True, 16), s.write_bytes(), s.probe_write()

    def op() -> None:
        _check_fxsave(cpu)
        lin = address()
        probe(lin, 512)
        x87 = _x87_image(cpu, wide)
        image = x87[:24] + _mxcsr_image(cpu) + x87[32:]
        if cpu.cr4 & CR4_OSFXSR:
            image += _xmm_image(cpu, count)
        write(lin, image)

    return op


def _fxrstor(s: Site, wide: bool) -> Op:
    cpu, count = s.cpu, _registers(s)
    address, read = _aligned(s, 512, False, 16), s.read_bytes()

    def op() -> None:
        _check_fxsave(cpu)
        image = read(address(), 512)
        mxcsr = _check_mxcsr(int.from_bytes(image[24:28], "little"))
        _load_x87(cpu, image, wide)
        cpu.mxcsr = mxcsr
        if cpu.cr4 & CR4_OSFXSR:
            _load_xmm(cpu, image[160:], count)

    return op


# XSAVE, XRSTOR -------------------------------------------------------------------------------------


def _check_xsave(cpu: Cpu) -> None:
    """#UD without CR4.OSXSAVE, then #NM for CR0.TS (SDM Vol. 2D, XSAVE)."""
    if not cpu.cr4 & CR4_OSXSAVE:
        raise undefined()
    if cpu.cr0 & CR0_TS:
        raise GuestFault(VECTOR_NM)


def _requested(cpu: Cpu) -> int:
    """RFBM: the components that EDX:EAX and XCR0 select."""
    return (cpu.r[RAX] & M32 | (cpu.r[RDX] & M32) << 32) & cpu.xcr0


def in_use(cpu: Cpu) -> int:
    """XINUSE: the components that are not in their initial configuration (SDM Vol. 1, 13.6)."""
    fpu = cpu.fpu
    initial = (
        fpu.fcw == 0x37F and not fpu.fsw and fpu.empty == 0xFF and not any(fpu.regs)
        and not (fpu.ip or fpu.dp or fpu.cs or fpu.ds or fpu.fop)
    )  # fmt: skip
    mask = 0 if initial else XCR0_X87
    if any(cpu.xmm):
        mask |= XCR0_SSE
    if cpu.pkru:
        mask |= XCR0_PKRU
    return mask


def _area_end(cpu: Cpu, mask: int) -> int:
    """Bytes of a standard area that has the components of `mask`."""
    return pkru_offset(cpu.amd) + 8 if mask & XCR0_PKRU else _HEADER_END


def _xsave(s: Site, wide: bool, optimised: bool = False) -> Op:
    """XSAVE; XSAVEOPT (`optimised`) leaves out what is in its initial configuration."""
    cpu, count = s.cpu, _registers(s)
    address = _aligned(s, _HEADER_END, True, 64)
    read, write, probe = s.read_bytes(), s.write_bytes(), s.probe_write()

    def op() -> None:
        _check_xsave(cpu)
        lin, mask = address(), _requested(cpu)
        probe(lin, _area_end(cpu, mask))
        used = in_use(cpu)
        written = mask & used if optimised else mask
        old = int.from_bytes(read(lin + _HEADER, 8), "little")
        if written & XCR0_X87:
            x87 = _x87_image(cpu, wide)
            write(lin, x87[:24])
            write(lin + 32, x87[32:])
        if mask & XCR0_SSE:
            write(lin + 24, _mxcsr_image(cpu))
        if written & XCR0_SSE:
            write(lin + 160, _xmm_image(cpu, count))
        if written & XCR0_PKRU:
            write(lin + pkru_offset(cpu.amd), cpu.pkru.to_bytes(8, "little"))
        write(lin + _HEADER, (old & ~mask | used & mask).to_bytes(8, "little"))

    return op


def _xrstor(s: Site, wide: bool) -> Op:
    """Standard format only: a header that asks for another is #GP(0) (SDM Vol. 1, 13.8)."""
    cpu, count = s.cpu, _registers(s)
    address, read = _aligned(s, _HEADER_END, False, 64), s.read_bytes()

    def op() -> None:
        _check_xsave(cpu)
        lin, mask = address(), _requested(cpu)
        header = read(lin + _HEADER, 24)
        present = int.from_bytes(header[:8], "little")
        if present & ~cpu.xcr0 or any(header[8:24]):
            raise protection()
        image = read(lin, _HEADER)
        pkru = cpu.pkru
        if mask & XCR0_PKRU:
            raw = read(lin + pkru_offset(cpu.amd), 4) if present & XCR0_PKRU else b""
            pkru = int.from_bytes(raw, "little")
        if mask & XCR0_SSE:
            # MXCSR comes from memory whether or not XSTATE_BV has SSE (SDM Vol. 1, 13.8.1).
            cpu.mxcsr = _check_mxcsr(int.from_bytes(image[24:28], "little"))
            _load_xmm(cpu, image[160:] if present & XCR0_SSE else bytes(256), count)
        if mask & XCR0_X87:
            if present & XCR0_X87:
                _load_x87(cpu, image, wide)
            else:
                cpu.fpu.init()
                cpu.fpu.regs[:] = [0] * 8
        if pkru != cpu.pkru:
            cpu.pkru = pkru
            cpu.mmu.flush_data()

    return op


# XCR0 ----------------------------------------------------------------------------------------------


def xgetbv(s: Site) -> Op:
    """XCR0 for ECX = 0; XCR0 & XINUSE for ECX = 1."""
    cpu = s.cpu
    r = cpu.r

    def op() -> None:
        if not cpu.cr4 & CR4_OSXSAVE:
            raise undefined()
        index = r[RCX] & M32
        if index > 1:
            raise protection()
        r[RAX], r[RDX] = cpu.xcr0 & in_use(cpu) if index else cpu.xcr0, 0

    return op


def xsetbv(s: Site) -> Op:
    """Ring 0 only; x87 cannot be switched off (SDM Vol. 1, 13.3)."""
    cpu = s.cpu
    r = cpu.r

    def op() -> None:
        if not cpu.cr4 & CR4_OSXSAVE:
            raise undefined()
        value = r[RAX] & M32 | (r[RDX] & M32) << 32
        if cpu.cpl or r[RCX] & M32 or not value & XCR0_X87 or value & ~XCR0_BITS:
            raise protection()
        cpu.xcr0 = value

    return op


TABLE: Table = {
    Mn.FXSAVE: lambda s: _fxsave(s, False),
    Mn.FXSAVE64: lambda s: _fxsave(s, True),
    Mn.FXRSTOR: lambda s: _fxrstor(s, False),
    Mn.FXRSTOR64: lambda s: _fxrstor(s, True),
    Mn.XSAVE: lambda s: _xsave(s, False),
    Mn.XSAVE64: lambda s: _xsave(s, True),
    Mn.XSAVEOPT: lambda s: _xsave(s, False, optimised=True),
    Mn.XSAVEOPT64: lambda s: _xsave(s, True, optimised=True),
    Mn.XRSTOR: lambda s: _xrstor(s, False),
    Mn.XRSTOR64: lambda s: _xrstor(s, True),
    Mn.XGETBV: xgetbv,
    Mn.XSETBV: xsetbv,
}
