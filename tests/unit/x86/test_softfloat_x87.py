"""x87 arithmetic against this host's processor: 80-bit results, status flags, C1, unmasked responses."""

from collections.abc import Callable
from random import Random

import pytest
from float_cases import operand, operand80, random_fcw
from native_fpu import NativeFpu, needs_x86_64

from minihv.x86 import softfloat_x87 as x87
from minihv.x86.softfloat import C1, F32, F64, Format, Value, unpack80

pytestmark = needs_x86_64
SIZES = [pytest.param(150, id="quick"), pytest.param(20_000, id="long", marks=pytest.mark.slow)]
FORMATS = [pytest.param(F32, id="f32"), pytest.param(F64, id="f64")]
Result = tuple[int | None, int]

BINARY: dict[str, tuple[bytes, Callable[[Value, Value, int], tuple[int, int]]]] = {
    "fadd": (b"\xd8\xc1", x87.add),
    "fsub": (b"\xd8\xe1", x87.sub),
    "fsubr": (b"\xd8\xe9", lambda x, y, cw: x87.sub(y, x, cw)),
    "fmul": (b"\xd8\xc9", x87.mul),
    "fdiv": (b"\xd8\xf1", x87.div),
    "fdivr": (b"\xd8\xf9", lambda x, y, cw: x87.div(y, x, cw)),
    "fscale": (b"\xd9\xfd", x87.scale),
    "fsqrt": (b"\xd9\xfa", lambda x, y, cw: x87.sqrt(x, cw)),
}


def at_scratch(opcode: int, digit: int) -> bytes:
    """`opcode /digit` on [r15 + SCRATCH]."""
    return bytes((0x41, opcode, 0x87 | digit << 3, 0, 4, 0, 0))


def load(native: NativeFpu, a: int, b: int, fcw: int) -> None:
    """ST(0) = a, ST(1) = b."""
    native.fcw, native.fsw, native.ftw = fcw, 0, 3
    native.set_st(0, a)
    native.set_st(1, b)


def settled(result: tuple[int, int], cw: int, fatal: int = 7) -> Result:
    """What can be compared: without result and C1 where a `fatal` flag is raised and unmasked."""
    bits, flags = result
    if flags & fatal & ~cw:
        return None, flags & 63
    return bits, flags & (63 | C1)


def hardware(native: NativeFpu, bits: int, fatal: int = 7) -> Result:
    return settled((bits, native.fsw), native.fcw, fatal)


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("name", BINARY)
def test_registers(name: str, count: int) -> None:
    native, rng = NativeFpu(), Random(name)
    code, function = BINARY[name]
    for _ in range(count):
        a, b, cw = operand80(rng), operand80(rng), random_fcw(rng)
        if rng.random() < 0.1:
            b = a ^ rng.getrandbits(1) << 79
        load(native, a, b, cw)
        native.run(code)
        ours = settled(function(unpack80(a), unpack80(b), cw), cw)
        assert ours == hardware(native, native.st(0)), f"{a:#x} {b:#x} fcw {cw:#x}"


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("fmt", FORMATS)
def test_memory_operands(fmt: Format, count: int) -> None:
    native, rng = NativeFpu(), Random(fmt.width)
    size = fmt.width // 8
    arithmetic, move = (0xD8, 0xD9) if fmt is F32 else (0xDC, 0xDD)
    for _ in range(count):
        a, m, cw = operand80(rng), operand(rng, fmt), random_fcw(rng)
        x, y = unpack80(a), x87.widen(fmt, m)
        where = f"{a:#x} {m:#x} fcw {cw:#x}"
        for digit, function in ((0, x87.add), (4, x87.sub), (1, x87.mul), (6, x87.div)):
            load(native, a, 0, cw)
            native.set_scratch(m.to_bytes(size, "little"))
            native.run(at_scratch(arithmetic, digit))
            assert settled(function(x, y, cw), cw) == hardware(native, native.st(0)), where
        load(native, a, 0, cw)
        native.run(at_scratch(move, 0))
        assert settled(x87.load(fmt, m, cw), cw) == hardware(native, native.st(0)), where
        load(native, a, 0, cw)
        native.run(at_scratch(move, 2))
        stored = int.from_bytes(native.scratch(size), "little")
        assert settled(x87.store(fmt, x, cw), cw, 31) == hardware(native, stored, 31), where


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize(
    ("opcode", "digit", "bits"),
    [(0xDF, 2, 16), (0xDB, 2, 32), (0xDF, 7, 64), (0xDF, 1, 16), (0xDB, 1, 32), (0xDD, 1, 64), (0xDF, 6, 80)],
)
def test_integer_stores(opcode: int, digit: int, bits: int, count: int) -> None:
    native, rng = NativeFpu(), Random(f"{opcode} {digit}")
    for _ in range(count):
        a, cw = operand80(rng), random_fcw(rng)
        load(native, a, 0, cw)
        native.run(at_scratch(opcode, digit))
        stored = int.from_bytes(native.scratch(bits // 8), "little")
        x = unpack80(a)
        ours = x87.store_bcd(x, cw) if bits == 80 else x87.store_int(x, cw, bits, digit == 1)
        assert settled(ours, cw, 31) == hardware(native, stored, 31), f"{a:#x} fcw {cw:#x}"


@pytest.mark.parametrize("count", SIZES)
def test_integer_and_bcd_loads(count: int) -> None:
    native, rng = NativeFpu(), Random(3)
    for _ in range(count):
        pattern = rng.getrandbits(rng.randrange(1, 65))
        load(native, 0, 0, 0x37F)
        native.set_scratch(pattern.to_bytes(8, "little"))
        native.run(at_scratch(0xDF, 5))
        assert x87.from_int(pattern - (pattern >> 63 << 64)) == native.st(0), hex(pattern)
        bcd = int(str(rng.randrange(10 ** rng.randrange(1, 19))), 16) | rng.getrandbits(1) << 79
        load(native, 0, 0, 0x37F)
        native.set_scratch(bcd.to_bytes(10, "little"))
        native.run(at_scratch(0xDF, 4))
        assert x87.load_bcd(bcd) == native.st(0), hex(bcd)


@pytest.mark.parametrize("count", SIZES)
def test_compare(count: int) -> None:
    native, rng = NativeFpu(), Random(4)
    codes = {None: 0x4500, -1: 0x100, 0: 0x4000, 1: 0}
    for _ in range(count):
        a, b, cw = operand80(rng), operand80(rng), random_fcw(rng)
        for code, quiet in ((b"\xd8\xd1", False), (b"\xdd\xe1", True)):
            load(native, a, b, cw)
            native.run(code)
            order, flags = x87.compare(unpack80(a), unpack80(b), quiet)
            assert flags == native.fsw & 63, f"{a:#x} {b:#x}"
            if not flags & ~cw:
                assert codes[order] == native.fsw & 0x4700, f"{a:#x} {b:#x}"


@pytest.mark.parametrize("count", SIZES)
def test_rounding_and_extraction(count: int) -> None:
    native, rng = NativeFpu(), Random(5)
    for _ in range(count):
        a, cw = operand80(rng), random_fcw(rng)
        x = unpack80(a)
        load(native, a, 0, cw)
        native.run(b"\xd9\xfc")
        assert settled(x87.round_to_integral(x, a, cw), cw) == hardware(native, native.st(0)), hex(a)
        load(native, a, 0, cw)
        native.ftw = 1
        native.run(b"\xd9\xf4")
        exponent, significand, flags = x87.extract(x, cw)
        assert settled((significand, flags), cw) == hardware(native, native.st(0)), f"{a:#x} {cw:#x}"
        assert settled((exponent, flags), cw) == hardware(native, native.st(1)), f"{a:#x} {cw:#x}"


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize(("code", "nearest"), [(b"\xd9\xf8", False), (b"\xd9\xf5", True)])
def test_remainder(code: bytes, nearest: bool, count: int) -> None:
    native, rng = NativeFpu(), Random(6)
    for _ in range(count):
        a, b, cw = operand80(rng), operand80(rng), random_fcw(rng)
        load(native, a, b, cw)
        native.run(code)
        result, flags = x87.remainder(unpack80(a), a, unpack80(b), cw, nearest)
        where = f"{a:#x} {b:#x} fcw {cw:#x}"
        assert settled((result, flags), cw) == hardware(native, native.st(0)), where
        if not flags & 7 & ~cw:
            assert flags & 0x4700 == native.fsw & 0x4700, where
