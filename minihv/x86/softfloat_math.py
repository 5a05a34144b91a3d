"""The x87's transcendental functions in integer arithmetic, correctly rounded for nearly every operand.

Each one is computed with at least 60 bits to spare and rounded once, so it is within one unit in the
last place of any processor that keeps Intel's promise (SDM Vol. 1, 8.3.10). Angles are reduced with the
66-bit value of pi that the manual gives (SDM Vol. 1, 8.3.8), as processors do: near multiples
of pi this differs from mathematics, on purpose.

Same conventions as `softfloat_x87`: `Value` operands, control word `cw`, (bits, flags) results. Cost is
bounded: no operand makes a number longer than a few hundred bits, or a loop longer than some 60 turns.
"""

from math import isqrt

from minihv.x86.softfloat import (
    DE,
    DENORMAL,
    F80,
    IE,
    INF,
    NORMAL,
    QNAN,
    RNE,
    ZE,
    ZERO,
    Value,
    exact_add,
    exact_div,
)
from minihv.x86.softfloat_x87 import INDEFINITE, SIGN, nan_result, pack80

_PI66 = 0xC90FDAA22168C234C
"""pi * 2**66, truncated: 4 * 0.f of SDM Vol. 1, 8.3.8."""
_W = 192
"""Fraction bits of the fixed-point numbers below."""
_ONE = 1 << _W
_TINY = 70
"""Operands below 2**-_TINY differ from their limit by less than a register's last bit."""


def _atanh_series(z: int, w: int) -> int:
    """atanh(z / 2**w) * 2**w for |z| < 0.2 * 2**w."""
    square = z * z >> w
    total, term, n = z, z, 1
    while term not in (0, -1):
        term = term * square >> w
        n += 2
        total += term // n
    return total


def _ln2(w: int) -> int:
    """ln 2 * 2**w = 2 atanh(1/3) * 2**w, computed with guard bits."""
    total, power, n = 0, (1 << (w + 16)) // 3, 1
    while power:
        total += power // n
        power //= 9
        n += 2
    return total >> 15


def _arctan_inverse(n: int, w: int) -> int:
    """atan(1/n) * 2**w."""
    total, power, k = 0, (1 << w) // n, 1
    while power:
        total += power // k if k & 2 == 0 else -(power // k)
        power //= n * n
        k += 2
    return total


_LN2 = _ln2(_W)
_PI = 4 * (4 * _arctan_inverse(5, _W + 16) - _arctan_inverse(239, _W + 16)) >> 16
"""Machin's formula; for FPATAN, which needs the true pi."""


def _exponent(x: Value) -> int:
    return x.e + x.m.bit_length() - 1


def _fixed(x: Value, w: int) -> int:
    """|x| * 2**w, truncated."""
    shift = x.e + w
    return x.m << shift if shift >= 0 else x.m >> -shift


def _nudged(sign: int, m: int, e: int, up: bool) -> Value:
    """m * 2**e moved away from exactness by less than any rounding can see, up or down in magnitude."""
    return Value(NORMAL, sign, (m << 150) + (1 if up else -1), e - 150)


def _finish(value: Value, x: Value, y: Value, cw: int) -> tuple[int, int]:
    if x.kind == DENORMAL or y.kind == DENORMAL:
        if not cw & DE:
            return 0, DE
        bits, flags = pack80(value, cw)
        return bits, flags | DE
    return pack80(value, cw)


# Sine, cosine, tangent ------------------------------------------------------------------------------


def out_of_range(x: Value) -> bool:
    """|x| >= 2**63: FSIN and its kin leave the operand and set C2."""
    return x.kind <= DENORMAL and x.kind != ZERO and _exponent(x) >= 63


def _reduce(x: Value) -> tuple[int, int]:
    """|x| as quadrant (0-3) and rest in [-pi/4, pi/4], scaled by 2**_W; needs 2**-_TINY <= |x| < 2**63."""
    half_pi = _PI66 << (_W - 67)
    quadrant, rest = divmod(_fixed(x, _W), half_pi)
    if 2 * rest > half_pi:
        quadrant, rest = quadrant + 1, rest - half_pi
    return quadrant & 3, rest


def _sin_series(r: int) -> int:
    square = r * r >> _W
    total, term, n = r, r, 1
    while term not in (0, -1):
        term = -(term * square >> _W) // ((n + 1) * (n + 2))
        n += 2
        total += term
    return total


def _cos_series(r: int) -> int:
    square = r * r >> _W
    total, term, n = _ONE, _ONE, 0
    while term not in (0, -1):
        term = -(term * square >> _W) // ((n + 1) * (n + 2))
        n += 2
        total += term
    return total


def _sin_cos(x: Value) -> tuple[Value, Value]:
    """Exact enough sine and cosine of a finite non-zero operand in range."""
    if _exponent(x) < -_TINY:
        return _nudged(x.sign, x.m, x.e, False), _nudged(0, 1, 0, False)
    quadrant, rest = _reduce(x)
    # A rest of zero cannot happen: no 64-bit significand is a multiple of the odd part of pi/2 below 2**63.
    sine, cosine = _sin_series(rest), _cos_series(rest)
    if quadrant & 1:
        sine, cosine = cosine, -sine
    if quadrant & 2:
        sine, cosine = -sine, -cosine
    if x.sign:
        sine = -sine
    return _from_fixed(sine), _from_fixed(cosine)


def _from_fixed(value: int, w: int = _W) -> Value:
    """A fixed-point approximation as an inexact value."""
    return Value(NORMAL, int(value < 0), abs(value) << 1 | 1, -w - 1)


_ZERO_VALUE = Value(ZERO, 0, 0, 0)


def sin(x: Value, cw: int) -> tuple[int, int]:
    """FSIN; the caller has asked `out_of_range` before."""
    if x.kind >= QNAN:
        return nan_result(x, x)
    if x.kind == INF:
        return INDEFINITE, IE
    if x.kind == ZERO:
        return x.sign << 79, 0
    return _finish(_sin_cos(x)[0], x, x, cw)


def cos(x: Value, cw: int) -> tuple[int, int]:
    """FCOS."""
    if x.kind >= QNAN:
        return nan_result(x, x)
    if x.kind == INF:
        return INDEFINITE, IE
    if x.kind == ZERO:
        return 0x3FFF << 64 | 1 << 63, 0
    return _finish(_sin_cos(x)[1], x, x, cw)


def tan(x: Value, cw: int) -> tuple[int, int]:
    """The tangent that FPTAN leaves below its 1.0."""
    if x.kind >= QNAN:
        return nan_result(x, x)
    if x.kind == INF:
        return INDEFINITE, IE
    if x.kind == ZERO:
        return x.sign << 79, 0
    if _exponent(x) < -_TINY:
        return _finish(_nudged(x.sign, x.m, x.e, True), x, x, cw)
    sine, cosine = _sin_cos(x)
    quotient = exact_div(sine, cosine)
    assert quotient is not None
    return _finish(Value(NORMAL, quotient.sign, quotient.m | 1, quotient.e), x, x, cw)


# Arctangent ----------------------------------------------------------------------------------------


def _arctan(t: int) -> int:
    """atan(t / 2**_W) * 2**_W for 0 <= t <= 1: two halvings, then Taylor."""
    for _ in range(2):
        root = isqrt((_ONE << _W) + t * t)
        t = (t << _W) // (_ONE + root)
    square = t * t >> _W
    total, power, n = t, t, 1
    while power:
        power = power * square >> _W
        n += 2
        total += power // n if n & 2 == 0 else -(power // n)
    return total << 2


def atan2(y: Value, x: Value, cw: int) -> tuple[int, int]:
    """FPATAN: the angle of the point (x, y), y from ST(1) and x from ST(0) (SDM Vol. 2A, table 3-30)."""
    if x.kind >= QNAN or y.kind >= QNAN:
        return nan_result(x, y)
    if y.kind == ZERO:
        angle = _from_fixed(_PI) if x.sign else _ZERO_VALUE
    elif x.kind == INF:
        if y.kind == INF:
            angle = _from_fixed(3 * _PI >> 2 if x.sign else _PI >> 2)
        else:
            angle = _from_fixed(_PI) if x.sign else _ZERO_VALUE
    elif y.kind == INF or x.kind == ZERO:
        angle = _from_fixed(_PI >> 1)
    else:
        angle = _angle(y, x)
    return _finish(Value(angle.kind, y.sign, angle.m, angle.e), x, y, cw)


def _angle(y: Value, x: Value) -> Value:
    """The angle of a finite point off both axes, as if y were positive."""
    steep = _exponent(y) - _exponent(x)
    if steep > _TINY:
        # Just below pi/2, or just above it left of the axis: pi/2 is irrational anyhow.
        return _from_fixed(_PI >> 1)
    if steep < -_TINY:
        if x.sign:
            return _from_fixed(_PI)
        quotient = exact_div(Value(NORMAL, 0, y.m << 160, y.e - 160), Value(NORMAL, 0, x.m, x.e))
        assert quotient is not None
        return _nudged(0, quotient.m, quotient.e, False)
    my, mx = y.m << max(0, y.e - x.e), x.m << max(0, x.e - y.e)
    angle = _arctan((my << _W) // mx) if my <= mx else (_PI >> 1) - _arctan((mx << _W) // my)
    return _from_fixed(_PI - angle if x.sign else angle)


# Powers and logarithms of two ----------------------------------------------------------------------


def exp2m1(x: Value, bits: int, cw: int) -> tuple[int, int]:
    """F2XM1: 2**x - 1 for |x| <= 1; beyond that (undefined by the manual) the operand comes back."""
    if x.kind >= QNAN:
        return nan_result(x, x)
    if x.kind == ZERO:
        return bits, 0
    if x.kind == INF:
        return (SIGN | 0x3FFF << 64 | 1 << 63 if x.sign else F80.inf), 0
    exponent = _exponent(x)
    if exponent >= 0:
        if x.m == 1 << (x.m.bit_length() - 1) and exponent == 0:
            return (SIGN | 0x3FFE << 64 | 1 << 63 if x.sign else bits), 0
        return bits, 0
    if exponent < -_TINY:
        # 2**x - 1 = x ln 2 (1 + x ln 2 / 2 + ...): the correction is out of sight.
        return _finish(Value(NORMAL, x.sign, x.m * _LN2 << 1 | 1, x.e - _W - 1), x, x, cw)
    t = _fixed(Value(NORMAL, 0, x.m * _LN2, x.e - _W), _W)
    t = -t if x.sign else t
    total, term, n = t, t, 1
    while term not in (0, -1):
        n += 1
        term = (term * t >> _W) // n
        total += term
    return _finish(_from_fixed(total), x, x, cw)


_LOG_W = 320
"""More bits for logarithms: next to 1 they are as small as the operand's distance from 1."""
_LOG_LN2 = _ln2(_LOG_W)


def _log2(x: Value) -> Value:
    """log2 of a finite positive operand, exact for powers of two."""
    exponent = _exponent(x)
    width = x.m.bit_length() - 1
    if x.m == 1 << width:
        return Value(NORMAL if exponent else ZERO, int(exponent < 0), abs(exponent), 0)
    f = x.m << (_LOG_W - width) if width <= _LOG_W else x.m >> (width - _LOG_W)  # [1, 2)
    if x.m * x.m > 1 << (2 * width + 1):
        f >>= 1
        exponent += 1
    one = 1 << _LOG_W
    log = 2 * _atanh_series(((f - one) << _LOG_W) // (f + one), _LOG_W)
    return _from_fixed((exponent << _LOG_W) + (log << _LOG_W) // _LOG_LN2, _LOG_W)


def ylog2x(y: Value, x: Value, cw: int) -> tuple[int, int]:
    """FYL2X: y * log2(x), y from ST(1) and x from ST(0) (SDM Vol. 2A, table 3-47)."""
    if x.kind >= QNAN or y.kind >= QNAN:
        return nan_result(x, y)
    if x.kind == ZERO:
        if y.kind == ZERO:
            return INDEFINITE, IE
        if y.kind == INF:
            return (y.sign ^ 1) << 79 | F80.inf, 0
        return (y.sign ^ 1) << 79 | F80.inf, ZE
    if x.sign:
        return INDEFINITE, IE
    return _times(y, x if x.kind == INF else _log2(x), x, cw)


def _times(y: Value, log: Value, x: Value, cw: int) -> tuple[int, int]:
    """y * log with the specials of both."""
    sign = y.sign ^ log.sign
    if y.kind == INF or log.kind == INF:
        if y.kind == ZERO or log.kind == ZERO:
            return INDEFINITE, IE
        return _finish(Value(INF, sign, 0, 0), x, y, cw)
    if y.kind == ZERO or log.kind == ZERO:
        return _finish(Value(ZERO, sign, 0, 0), x, y, cw)
    return _finish(Value(NORMAL, sign, y.m * log.m, y.e + log.e), x, y, cw)


def ylog2xp1(y: Value, x: Value, cw: int) -> tuple[int, int]:
    """FYL2XP1: y * log2(x + 1), exact even for tiny x; meant for |x| <= 1 - sqrt(1/2)."""
    if x.kind >= QNAN or y.kind >= QNAN:
        return nan_result(x, y)
    if x.kind == INF:
        return (INDEFINITE, IE) if x.sign else _times(y, x, x, cw)
    if x.kind == ZERO:
        return _times(y, x, x, cw)
    exponent = _exponent(x)
    if x.sign and exponent >= 0:
        return INDEFINITE, IE
    if exponent < -_TINY:
        # log2(1 + x) = x / ln 2 (1 - x/2 + ...): the correction is out of sight.
        ln2 = Value(NORMAL, 0, _LOG_LN2, 160 - _LOG_W)
        quotient = exact_div(Value(NORMAL, x.sign, x.m << 160, x.e), ln2)
        assert quotient is not None
        return _times(y, quotient, x, cw)
    sum_ = exact_add(Value(NORMAL, 0, 1, 0), x, RNE)
    assert sum_ is not None
    if exponent >= -2:
        return _times(y, _log2(sum_), x, cw)
    one = 1 << _LOG_W
    plus_one = _fixed(sum_, _LOG_W)
    log = 2 * _atanh_series(((plus_one - one) << _LOG_W) // (plus_one + one), _LOG_W)
    return _times(y, _from_fixed((log << _LOG_W) // _LOG_LN2, _LOG_W), x, cw)
