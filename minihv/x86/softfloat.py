"""IEEE 754 values as Python integers: formats, unpacking, exact kernels and the one rounding step.

Everything that computes with floating point in an engine of ours goes through here, because a host's
own FPU can neither give x86 exception flags per operation nor 80-bit results from Python. A finite
value is (-1)**sign * m * 2**e with integers m and e, so sums, products, quotients and roots are exact
(or carry a sticky bit) until they are rounded once.

SSE rules are in `softfloat_sse`, x87 rules in `softfloat_x87`, the transcendental functions in
`softfloat_math`. Sources: SDM Vol. 1, chapters 4.8, 4.9, 8.4, 8.5 and 11.5; IEEE 754.
"""

from dataclasses import dataclass
from math import isqrt
from typing import NamedTuple

IE, DE, ZE, OE, UE, PE = 1, 2, 4, 8, 16, 32
"""Exception flags where MXCSR and the x87 status word both have them (SDM Vol. 1, 8.1.3.3, 10.2.3)."""

C1 = 0x200
"""Reported next to the flags when rounding went away from zero: the x87 status word's C1."""

RNE, RD, RU, RZ = 0, 1, 2, 3
"""Rounding modes as RC encodes them (SDM Vol. 1, table 4-8)."""

ZERO, NORMAL, DENORMAL, INF, QNAN, SNAN, UNSUPPORTED = range(7)
"""Kinds of operand. UNSUPPORTED exists in the 80-bit format only (SDM Vol. 1, 8.2.2)."""


@dataclass(frozen=True, slots=True)
class Format:
    """A binary interchange format, or the x87 register format (`explicit` integer bit)."""

    width: int
    precision: int
    bias: int
    explicit: bool
    emin: int
    """Exponent of the smallest normal number."""
    fraction: int
    """Mask of the stored significand field."""
    field: int
    """Width of that field in bits."""
    emask: int
    """All ones of the exponent field, not shifted."""
    quiet: int
    """The bit that makes a NaN quiet."""
    inf: int
    largest: int
    default_nan: int
    """The QNaN floating-point indefinite (SDM Vol. 1, table 4-3)."""


def _format(width: int, precision: int, bias: int, explicit: bool) -> Format:
    field = precision if explicit else precision - 1
    emask = 2 * bias + 1
    quiet = 1 << (precision - 2)
    inf = emask << field | (1 << 63 if explicit else 0)
    return Format(
        width, precision, bias, explicit, 1 - bias, (1 << field) - 1, field, emask, quiet, inf,
        (emask - 1) << field | (1 << field) - 1, 1 << (width - 1) | inf | quiet,
    )  # fmt: skip


F32 = _format(32, 24, 127, False)
F64 = _format(64, 53, 1023, False)
F80 = _format(80, 64, 16383, True)


class Value(NamedTuple):
    """An unpacked operand; `m` and `e` mean something for NORMAL and DENORMAL only."""

    kind: int
    sign: int
    m: int
    e: int


def unpack(fmt: Format, bits: int) -> Value:
    """Take apart a bit pattern of binary32 or binary64."""
    sign = bits >> (fmt.width - 1)
    exponent = bits >> fmt.field & fmt.emask
    m = bits & fmt.fraction
    if exponent == fmt.emask:
        return Value(INF if not m else QNAN if m & fmt.quiet else SNAN, sign, m, 0)
    if exponent:
        return Value(NORMAL, sign, m | fmt.fraction + 1, exponent - fmt.bias - fmt.field)
    return Value(DENORMAL if m else ZERO, sign, m, fmt.emin - fmt.field)


def unpack80(bits: int) -> Value:
    """Take apart an 80-bit register pattern; pseudo-denormals count as denormals (SDM Vol. 1, 8.2.2)."""
    sign = bits >> 79
    exponent = bits >> 64 & 0x7FFF
    m = bits & 0xFFFFFFFFFFFFFFFF
    if not exponent:
        return Value(DENORMAL if m else ZERO, sign, m, -16382 - 63)
    if not m >> 63:
        return Value(UNSUPPORTED, sign, m, 0)
    if exponent == 0x7FFF:
        if m == 1 << 63:
            return Value(INF, sign, m, 0)
        return Value(QNAN if m & F80.quiet else SNAN, sign, m, 0)
    return Value(NORMAL, sign, m, exponent - 16383 - 63)


def shift_round(m: int, shift: int, sign: int, rc: int) -> tuple[int, int]:
    """`m` without its low `shift` (> 0) bits, rounded by `rc`; second: 0 exact, PE, or PE|C1 (went up)."""
    kept = m >> shift
    rest = m - (kept << shift)
    if not rest:
        return kept, 0
    if rc == RNE:
        half = 1 << (shift - 1)
        up = rest > half or (rest == half and kept & 1)
    else:
        up = rc == (RD if sign else RU)
    return (kept + 1, PE | C1) if up else (kept, PE)


class Rounded(NamedTuple):
    """A finite, rounded significand: value = sig * 2**lsb. `tiny`: below emin after rounding."""

    sig: int
    lsb: int
    flags: int
    tiny: bool


def round_value(precision: int, emin: int, sign: int, m: int, e: int, rc: int) -> Rounded:
    """Round m * 2**e (m > 0) to `precision` bits, denormalising below `emin`; the top is unbounded.

    Tininess is judged after rounding as if the exponent had no bottom (SDM Vol. 1, 4.9.1.5).
    """
    top = e + m.bit_length() - 1
    lsb = top - precision + 1
    tiny = top < emin
    if tiny:
        if top == emin - 1 and lsb > e:
            tiny = not shift_round(m, lsb - e, sign, rc)[0] >> precision
        lsb = emin - precision + 1
    shift = lsb - e
    if shift <= 0:
        return Rounded(m << -shift, lsb, 0, tiny)
    sig, flags = shift_round(m, shift, sign, rc)
    if sig >> precision:
        return Rounded(sig >> 1, lsb + 1, flags, tiny)
    return Rounded(sig, lsb, flags, tiny)


def rounds_to_infinity(sign: int, rc: int) -> bool:
    """Whether a masked overflow gives infinity, not the largest number (SDM Vol. 1, table 4-10)."""
    return rc == RNE or rc == (RD if sign else RU)


_FAR = 140
"""Bits to keep below an operand when the other one is too small to matter except as a sticky bit."""


def exact_add(x: Value, y: Value, rc: int) -> Value | None:
    """x + y of two non-NaN operands, exact or with a sticky lowest bit; None: invalid (inf - inf)."""
    if x.kind == INF or y.kind == INF:
        if x.kind == y.kind and x.sign != y.sign:
            return None
        return x if x.kind == INF else y
    mx, my = x.m, y.m
    if not mx or not my:
        if mx:
            return x
        if my:
            return y
        return x if x.sign == y.sign else Value(ZERO, int(rc == RD), 0, 0)
    distance = x.e - y.e
    e = y.e
    if distance > 0:
        if distance > 2 * _FAR:
            mx, e, my = mx << _FAR, x.e - _FAR, 1
        else:
            mx <<= distance
    elif distance < 0:
        e = x.e
        if distance < -2 * _FAR:
            my, e, mx = my << _FAR, y.e - _FAR, 1
        else:
            my <<= -distance
    total = (-mx if x.sign else mx) + (-my if y.sign else my)
    if not total:
        return Value(ZERO, int(rc == RD), 0, 0)
    return Value(NORMAL, int(total < 0), abs(total), e)


def exact_mul(x: Value, y: Value) -> Value | None:
    """x * y of two non-NaN operands; None: invalid (0 * inf)."""
    sign = x.sign ^ y.sign
    if x.kind == INF or y.kind == INF:
        if x.kind == ZERO or y.kind == ZERO:
            return None
        return Value(INF, sign, 0, 0)
    if x.kind == ZERO or y.kind == ZERO:
        return Value(ZERO, sign, 0, 0)
    return Value(NORMAL, sign, x.m * y.m, x.e + y.e)


def exact_div(x: Value, y: Value) -> Value | None:
    """x / y of two non-NaN operands; None: invalid (0/0, inf/inf). Finite x over 0: INF (caller: ZE)."""
    sign = x.sign ^ y.sign
    if x.kind == INF:
        return None if y.kind == INF else Value(INF, sign, 0, 0)
    if y.kind == INF:
        return Value(ZERO, sign, 0, 0)
    if y.kind == ZERO:
        return None if x.kind == ZERO else Value(INF, sign, 0, 0)
    if x.kind == ZERO:
        return Value(ZERO, sign, 0, 0)
    shift = max(0, 68 + y.m.bit_length() - x.m.bit_length())
    quotient, rest = divmod(x.m << shift, y.m)
    return Value(NORMAL, sign, quotient << 1 | (rest != 0), x.e - y.e - shift - 1)


def exact_sqrt(x: Value) -> Value | None:
    """Square root of a non-NaN operand, with a sticky lowest bit; None: invalid (below zero)."""
    if x.kind == ZERO:
        return x
    if x.sign:
        return None
    if x.kind == INF:
        return x
    shift = max(0, 136 - x.m.bit_length())
    shift += (x.e - shift) & 1
    m = x.m << shift
    root = isqrt(m)
    return Value(NORMAL, 0, root << 1 | (root * root != m), (x.e - shift) // 2 - 1)


def exact_compare(x: Value, y: Value) -> int:
    """-1, 0 or 1 for two non-NaN operands; zeros are equal whatever their signs."""
    if x.kind == INF or y.kind == INF:
        ranks = [(-1 if v.sign else 1) if v.kind == INF else 0 for v in (x, y)]
        return (ranks[0] > ranks[1]) - (ranks[0] < ranks[1])
    total = exact_add(x, Value(y.kind, y.sign ^ 1, y.m, y.e), RNE)
    assert total is not None
    if total.kind == ZERO:
        return 0
    return -1 if total.sign else 1


def to_integer(x: Value, rc: int) -> tuple[int, int]:
    """A finite operand rounded to an integer of any size; flags: 0, PE, or PE|C1."""
    if x.kind == ZERO:
        return 0, 0
    if x.e >= 0:
        m, flags = x.m << x.e, 0
    else:
        m, flags = shift_round(x.m, -x.e, x.sign, rc)
    return -m if x.sign else m, flags


def from_integer(value: int) -> Value:
    """A signed Python integer as an operand."""
    if not value:
        return Value(ZERO, 0, 0, 0)
    return Value(NORMAL, int(value < 0), abs(value), 0)
