"""Transcendental x87 functions against this host's processor: within one unit in the last place."""

from collections.abc import Callable
from random import Random

import pytest
from float_cases import J, near80, operand80
from native_fpu import NativeFpu, needs_x86_64

from minihv.x86 import softfloat_math as functions
from minihv.x86.softfloat import INF, Value, unpack80

SIZES = [pytest.param(150, id="quick"), pytest.param(20_000, id="long", marks=pytest.mark.slow)]
Function = Callable[[Value, Value, int, int], tuple[int, int]]

CASES: dict[str, tuple[bytes, Function]] = {
    "fsin": (b"\xd9\xfe", lambda x, y, a, cw: functions.sin(x, cw)),
    "fcos": (b"\xd9\xff", lambda x, y, a, cw: functions.cos(x, cw)),
    "fptan": (b"\xd9\xf2", lambda x, y, a, cw: functions.tan(x, cw)),
    "f2xm1": (b"\xd9\xf0", lambda x, y, a, cw: functions.exp2m1(x, a, cw)),
    "fpatan": (b"\xd9\xf3", lambda x, y, a, cw: functions.atan2(y, x, cw)),
    "fyl2x": (b"\xd9\xf1", lambda x, y, a, cw: functions.ylog2x(y, x, cw)),
    "fyl2xp1": (b"\xd9\xf9", lambda x, y, a, cw: functions.ylog2xp1(y, x, cw)),
}
LIMIT = {"f2xm1": 0, "fyl2xp1": -2}
"""Operands of 2**LIMIT and above are undefined by the manual."""


def ordered(bits: int) -> int:
    """Neighbouring values have neighbouring numbers, through zero (normals, infinity and NaN included).

    The integer bit is left out: it follows from the exponent.
    """
    magnitude = (bits >> 64 & 0x7FFF) << 63 | bits & J - 1
    return -magnitude if bits >> 79 else magnitude


def first_operand(rng: Random, name: str) -> int:
    limit = LIMIT.get(name)
    choice = rng.random()
    if choice < 0.4:
        a = operand80(rng)
    elif choice < 0.5:
        a = 0x3FFF << 64 | J | rng.getrandbits(rng.randrange(1, 64))
    elif choice < 0.6:
        a = 0x3FFE << 64 | ((1 << 64) - rng.getrandbits(rng.randrange(1, 63)) - 1)
    else:
        a = near80(rng, -80, 60)
    x = unpack80(a)
    if limit is not None and x.kind < INF and (a >> 64 & 0x7FFF) >= 0x3FFF + limit:
        return near80(rng, -80, limit)
    return a


@needs_x86_64
@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("name", CASES)
def test_within_one_ulp(name: str, count: int) -> None:
    native, rng = NativeFpu(), Random(name)
    code, function = CASES[name]
    one_operand = name not in ("fpatan", "fyl2x", "fyl2xp1")
    for _ in range(count):
        a, cw = first_operand(rng, name), 0x37F | rng.choice((0, 0, 0, 1, 2, 3)) << 10
        b = operand80(rng) if rng.random() < 0.4 else near80(rng, -20, 20)
        x = unpack80(a)
        if one_operand and name != "f2xm1" and functions.out_of_range(x):
            continue
        native.fcw, native.fsw, native.ftw = cw, 0, 1 if one_operand else 3
        native.set_st(0, a)
        native.set_st(1, b)
        native.run(code)
        hardware = native.st(1 if name == "fptan" and x.kind < INF else 0)
        ours, flags = function(x, unpack80(b), a, cw)
        where = f"{a:#x} {b:#x} fcw {cw:#x}: processor {hardware:#x}, here {ours:#x}"
        assert abs(ordered(hardware) - ordered(ours)) <= 1, where
        assert flags & 7 == native.fsw & 7, where


@pytest.mark.parametrize(
    ("function", "bits", "expected"),
    [
        # pi as a register holds it: the sine shows that the reduction used 66 bits of pi.
        (functions.sin, 0x4000C90FDAA22168C235, 0xBFBF8000000000000000),
        (functions.cos, 0x4000C90FDAA22168C235, 0xBFFF8000000000000000),
        (functions.sin, 0, 0),
        (functions.cos, 0, 0x3FFF8000000000000000),
    ],
)
def test_known_values(function: Callable[[Value, int], tuple[int, int]], bits: int, expected: int) -> None:
    assert function(unpack80(bits), 0x37F)[0] == expected


def test_operands_too_large_for_reduction_are_told_apart() -> None:
    assert functions.out_of_range(unpack80(0x403E << 64 | J))
    assert not functions.out_of_range(unpack80(0x403D << 64 | J))
    assert not functions.out_of_range(unpack80(0x7FFF << 64 | J))
