"""Scalar SSE arithmetic against this host's processor: results and MXCSR flags."""

import struct
from collections.abc import Callable
from random import Random

import pytest
from float_cases import operand, random_mxcsr
from native_fpu import NativeFpu, needs_x86_64

from minihv.x86 import softfloat_fast as fast
from minihv.x86 import softfloat_sse as sse
from minihv.x86.softfloat import F32, F64, Format

pytestmark = needs_x86_64
QUICK, LONG = 150, 20_000
SIZES = [pytest.param(QUICK, id="quick"), pytest.param(LONG, id="long", marks=pytest.mark.slow)]
FORMATS = [pytest.param(F32, id="f32"), pytest.param(F64, id="f64")]
BINARY: dict[str, tuple[int, Callable[[Format, int, int, int], tuple[int, int]]]] = {
    "add": (0x58, sse.add),
    "sub": (0x5C, sse.sub),
    "mul": (0x59, sse.mul),
    "div": (0x5E, sse.div),
    "min": (0x5D, sse.minimum),
    "max": (0x5F, sse.maximum),
}


def scalar(fmt: Format, *opcode: int) -> bytes:
    """`opcode` (after 0F) with the scalar prefix of `fmt`."""
    return bytes((0xF3 if fmt is F32 else 0xF2, 0x0F, *opcode))


def execute(native: NativeFpu, code: bytes, a: int, b: int, csr: int) -> tuple[int, int]:
    """xmm0 = a, xmm1 = b; the new xmm0 and the flags raised."""
    native.set_xmm(0, a)
    native.set_xmm(1, b)
    native.mxcsr = csr
    native.run(code)
    return native.xmm(0), native.mxcsr & 63


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("name", BINARY)
def test_binary(name: str, fmt: Format, count: int) -> None:
    native, rng = NativeFpu(), Random(f"{name}{fmt.width}")
    opcode, function = BINARY[name]
    for _ in range(count):
        a, b, csr = operand(rng, fmt), operand(rng, fmt), random_mxcsr(rng)
        expected = execute(native, scalar(fmt, opcode, 0xC1), a, b, csr)
        assert function(fmt, a, b, csr) == expected, f"{a:#x} {b:#x} mxcsr {csr:#x}"


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("fmt", FORMATS)
def test_one_operand(fmt: Format, count: int) -> None:
    native, rng = NativeFpu(), Random(fmt.width)
    convert = sse.f32_to_f64 if fmt is F32 else sse.f64_to_f32
    for _ in range(count):
        a, csr, imm = operand(rng, fmt), random_mxcsr(rng), rng.randrange(16)
        where = f"{a:#x} mxcsr {csr:#x} imm {imm}"
        assert sse.sqrt(fmt, a, csr) == execute(native, scalar(fmt, 0x51, 0xC1), 0, a, csr), where
        assert convert(a, csr) == execute(native, scalar(fmt, 0x5A, 0xC1), 0, a, csr), where
        code = bytes((0x66, 0x0F, 0x3A, 0x0A if fmt is F32 else 0x0B, 0xC1, imm))
        assert sse.round_to_integral(fmt, a, csr, imm) == execute(native, code, 0, a, csr), where


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("fmt", FORMATS)
def test_compare(fmt: Format, count: int) -> None:
    native, rng = NativeFpu(), Random(fmt.width + 1)
    flags_of = {None: 0x45, 0: 0x40, -1: 1, 1: 0}
    for _ in range(count):
        a, csr = operand(rng, fmt), random_mxcsr(rng)
        b = a if rng.random() < 0.1 else operand(rng, fmt)
        where = f"{a:#x} {b:#x} mxcsr {csr:#x}"
        for which in range(8):
            result, raised = execute(native, scalar(fmt, 0xC2, 0xC1, which), a, b, csr)
            assert sse.predicate(fmt, a, b, csr, which) == (bool(result & 1), raised), where
        for opcode, signaling in ((0x2E, False), (0x2F, True)):
            code = bytes((0x0F, opcode, 0xC1))
            _, raised = execute(native, code if fmt is F32 else b"\x66" + code, a, b, csr)
            order, flags = sse.compare(fmt, a, b, csr, signaling)
            assert (flags_of[order], flags) == (native.rflags & 0x45, raised), where


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("fmt", FORMATS)
def test_integers(fmt: Format, bits: int, count: int) -> None:
    native, rng = NativeFpu(), Random(fmt.width + bits)
    wide = b"\x48" if bits == 64 else b""
    for _ in range(count):
        a, csr = operand(rng, fmt), random_mxcsr(rng)
        for opcode, truncate in ((0x2C, True), (0x2D, False)):
            _, flags = execute(native, scalar(fmt)[:1] + wide + bytes((0x0F, opcode, 0xC1)), 0, a, csr)
            assert sse.to_int(fmt, a, csr, bits, truncate) == (native.gpr(0), flags), f"{a:#x} {csr:#x}"
        pattern = rng.getrandbits(rng.randrange(1, bits + 1))
        native.set_gpr(0, pattern)
        expected = execute(native, scalar(fmt)[:1] + wide + bytes((0x0F, 0x2A, 0xC0)), 0, 0, csr)
        value = pattern - (pattern >> (bits - 1) << bits)
        assert sse.from_int(fmt, value, csr) == expected, f"{value} {csr:#x}"


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("name", ["ADD", "SUB", "MUL", "DIV"])
def test_shortcuts_agree_with_the_exact_way(name: str, bits: int, count: int) -> None:
    """With PE set and masked: same result, and no flag more than the exact way and PE."""
    rng, fmt = Random(f"{name}{bits}"), F32 if bits == 32 else F64
    shortcut, exact = getattr(fast, name)[bits], BINARY[name.lower()][1]
    for _ in range(count):
        a, b = operand(rng, fmt), operand(rng, fmt)
        result, flags = shortcut(a, b, 0x1FA0)
        expected, raised = exact(fmt, a, b, 0x1FA0)
        assert (result, flags | 32) == (expected, raised | 32), f"{a:#x} {b:#x}"
        root, flags = fast.SQRT[bits](0, a, 0x1FA0)
        expected, raised = sse.sqrt(fmt, a, 0x1FA0)
        assert (root, flags | 32) == (expected, raised | 32), f"{a:#x}"


def test_estimates_keep_their_promise() -> None:
    """Processors differ in the low bits of RCPSS; special values must be the same everywhere."""
    native, rng = NativeFpu(), Random(7)
    for _ in range(QUICK * 4):
        a = operand(rng, F32)
        for opcode, function in ((0x53, sse.reciprocal), (0x52, sse.reciprocal_sqrt)):
            hardware = execute(native, scalar(F32, opcode, 0xC1), 0, a, 0x1F80)[0]
            ours = function(a)
            h, o = struct.unpack("<2f", struct.pack("<2I", hardware, ours))
            close = abs(h) not in (0.0, float("inf")) and abs(h - o) <= abs(h) * 3 * 2**-12
            assert hardware == ours or close, f"{a:#x}: {hardware:#x} {ours:#x}"


def test_underflow_when_unmasked_is_raised_for_exact_results_too() -> None:
    """SDM Vol. 1, 4.9.1.5; unmasked SSE exceptions would be delivered, so not asked of the host."""
    smallest = 0x00800000
    half = 0x3F000000
    assert sse.mul(F32, smallest, half, 0x1F80) == (0x00400000, 0)
    assert sse.mul(F32, smallest, half, 0x1F80 & ~sse.UM)[1] == 16
