"""Shortcuts through the host's own binary64 arithmetic, where the answer is provably the same.

Python's floats are IEEE binary64 rounded to nearest. They give no flags, so the shortcut is taken only
when no new flag can matter: PE is already set and masked in `csr`, operands are normal, and the result
is normal and not next to underflow. A binary32 operation done in binary64 and rounded again is right
because 53 >= 2 * 24 + 2 (Figueroa, "When is double rounding innocuous?", 1995). Everything else goes
the exact way of `softfloat_sse`.
"""

import operator
from collections.abc import Callable
from math import sqrt
from struct import Struct

from minihv.x86 import softfloat_sse as exact
from minihv.x86.softfloat import F32, F64, PE

Operation = Callable[[int, int, int], tuple[int, int]]
"""(a, b, csr) -> (result, flags)"""

_TWO_F64, _TWO_U64 = Struct("<2d"), Struct("<2Q")
_F64, _U64 = Struct("<d"), Struct("<Q")
_TWO_F32, _TWO_U32 = Struct("<2f"), Struct("<2I")
_F32, _U32 = Struct("<f"), Struct("<I")

_RELEVANT = 0xF060
"""MXCSR bits that decide: FTZ, RC, PM, DAZ, PE."""
_EASY = 0x1020
"""Nearest, PE masked and already set, no DAZ or FTZ."""
_E64 = 0x7FF << 52
_E32 = 0xFF << 23


def _fast64(operation: Callable[[float, float], float], slow: Callable[..., tuple[int, int]]) -> Operation:
    def apply(a: int, b: int, csr: int) -> tuple[int, int]:
        if csr & _RELEVANT == _EASY and a & _E64 and b & _E64:
            x, y = _TWO_F64.unpack(_TWO_U64.pack(a, b))
            result: int = _U64.unpack(_F64.pack(operation(x, y)))[0]
            if 1 << 52 < result & _E64 < _E64:
                return result, PE
        return slow(F64, a, b, csr)

    return apply


def _fast32(operation: Callable[[float, float], float], slow: Callable[..., tuple[int, int]]) -> Operation:
    def apply(a: int, b: int, csr: int) -> tuple[int, int]:
        if csr & _RELEVANT == _EASY and a & _E32 and b & _E32:
            x, y = _TWO_F32.unpack(_TWO_U32.pack(a, b))
            try:
                result: int = _U32.unpack(_F32.pack(operation(x, y)))[0]
            except OverflowError:
                return slow(F32, a, b, csr)
            if 1 << 23 < result & _E32 < _E32:
                return result, PE
        return slow(F32, a, b, csr)

    return apply


def _sqrt64(a: int, b: int, csr: int) -> tuple[int, int]:
    if csr & _RELEVANT == _EASY and 0 < b & _E64 < _E64 and not b >> 63:
        return _U64.unpack(_F64.pack(sqrt(_F64.unpack(_U64.pack(b))[0])))[0], PE
    return exact.sqrt(F64, b, csr)


def _sqrt32(a: int, b: int, csr: int) -> tuple[int, int]:
    if csr & _RELEVANT == _EASY and 0 < b & _E32 < _E32 and not b >> 31:
        return _U32.unpack(_F32.pack(sqrt(_F32.unpack(_U32.pack(b))[0])))[0], PE
    return exact.sqrt(F32, b, csr)


ADD = {32: _fast32(operator.add, exact.add), 64: _fast64(operator.add, exact.add)}
SUB = {32: _fast32(operator.sub, exact.sub), 64: _fast64(operator.sub, exact.sub)}
MUL = {32: _fast32(operator.mul, exact.mul), 64: _fast64(operator.mul, exact.mul)}
DIV = {32: _fast32(operator.truediv, exact.div), 64: _fast64(operator.truediv, exact.div)}
SQRT: dict[int, Operation] = {32: _sqrt32, 64: _sqrt64}
"""Square root of the second operand."""
