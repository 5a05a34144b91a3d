"""x87 floating point: 80-bit results, precision control, x87 NaN rules, biased unmasked results.

Operands are `Value`s (`unpack80` of a register, `widen` of a memory operand, `from_integer`), so that a
memory operand keeps what it was: a denormal binary32 is a normal number in 80 bits but must still
raise DE. `cw` is a FCW value: exception masks in bits 0-5, PC in 8-9, RC in 10-11 (SDM Vol. 1, 8.1.5).

Functions return the result with the flags raised (status-word bits 0-5, C1 in bit 9 when rounded away from
zero). Where IE, DE or ZE is raised and unmasked in `cw` the operation did not happen: the result is
meaningless and no later flag is reported (SDM Vol. 1, 8.5). Unmasked OE and UE give the result with its
exponent moved by 24576 (SDM Vol. 1, 8.5.4, 8.5.5). Unmasked PE changes nothing.
"""

from minihv.x86.softfloat import (
    C1,
    DE,
    DENORMAL,
    F80,
    IE,
    INF,
    NORMAL,
    OE,
    PE,
    QNAN,
    RZ,
    SNAN,
    UE,
    UNSUPPORTED,
    ZE,
    ZERO,
    Format,
    Value,
    exact_add,
    exact_compare,
    exact_div,
    exact_mul,
    exact_sqrt,
    from_integer,
    round_value,
    rounds_to_infinity,
    to_integer,
    unpack,
)

INDEFINITE = F80.default_nan
SIGN = 1 << 79
_INF = F80.inf
_BIAS_ADJUST = 24576
_PRECISION = (24, 64, 53, 64)
"""By PC; 01 is reserved, and processors compute in full precision then."""


def widen(fmt: Format, bits: int) -> Value:
    """A binary32 or binary64 memory operand; a NaN keeps its kind, its significand moves to 64 bits."""
    x = unpack(fmt, bits)
    if x.kind >= QNAN:
        return Value(x.kind, x.sign, 1 << 63 | x.m << (63 - fmt.field), 0)
    return x


def rounding(cw: int) -> int:
    """RC of a control word."""
    return cw >> 10 & 3


def pack80(value: Value, cw: int, precision: int = 64) -> tuple[int, int]:
    """Round a non-NaN value into a register, with masked or unmasked overflow and underflow."""
    kind, sign, m, e = value
    top = sign << 79
    if kind == ZERO:
        return top, 0
    if kind == INF:
        return top | _INF, 0
    rc = cw >> 10 & 3
    sig, lsb, flags, tiny = round_value(precision, F80.emin, sign, m, e, rc)
    if tiny:
        if not cw & UE:
            return _biased(sign, m, e, precision, rc, _BIAS_ADJUST)
        if flags:
            flags |= UE
        # Unless it rounded up to the smallest normal number, the exponent field is zero.
        sig <<= lsb + 16382 + 63
        return top | (1 << 64 | sig if sig >> 63 else sig), flags
    sig <<= 64 - precision
    exponent = lsb + precision - 1
    if exponent > F80.bias:
        if not cw & OE:
            return _biased(sign, m, e, precision, rc, -_BIAS_ADJUST)
        if rounds_to_infinity(sign, rc):
            return top | _INF, OE | PE | C1
        largest = 0x7FFE << 64 | (1 << 64) - (1 << (64 - precision))
        return top | largest, OE | PE
    return top | (exponent + F80.bias) << 64 | sig, flags


def _biased(sign: int, m: int, e: int, precision: int, rc: int, adjust: int) -> tuple[int, int]:
    """The response to an unmasked overflow or underflow with a register destination."""
    sig, lsb, flags, _ = round_value(precision, -1 << 20, sign, m, e, rc)
    flags |= UE if adjust > 0 else OE
    exponent = lsb + precision - 1 + adjust
    # Only FSCALE gets still further out: infinity or zero then, whatever RC (SDM Vol. 1, 8.5.4, 8.5.5).
    if exponent > F80.bias:
        return sign << 79 | _INF, flags | PE | C1
    if exponent < F80.emin:
        return sign << 79, (flags | PE) & ~C1
    return sign << 79 | (exponent + F80.bias) << 64 | sig << (64 - precision), flags


def nan_result(x: Value, y: Value) -> tuple[int, int]:
    """What an operation gives when an operand is a NaN or unsupported (SDM Vol. 1, table 4-7, x87 column)."""
    if x.kind == UNSUPPORTED or y.kind == UNSUPPORTED:
        return INDEFINITE, IE
    flags = IE if x.kind == SNAN or y.kind == SNAN else 0
    if x.kind < QNAN:
        chosen = y
    elif y.kind < QNAN:
        chosen = x
    elif x.kind != y.kind:
        chosen = x if x.kind == QNAN else y
    elif x.m != y.m:
        chosen = x if x.m > y.m else y
    else:
        chosen = x if x.sign <= y.sign else y
    return quiet(chosen), flags


def quiet(x: Value) -> int:
    """The pattern of a NaN made quiet."""
    return x.sign << 79 | 0x7FFF << 64 | x.m | F80.quiet


def _finish(exact: Value | None, denormal: bool, cw: int, precision: int) -> tuple[int, int]:
    if exact is None:
        return INDEFINITE, IE
    if denormal:
        if not cw & DE:
            return 0, DE
        bits, flags = pack80(exact, cw, precision)
        return bits, flags | DE
    return pack80(exact, cw, precision)


def add(x: Value, y: Value, cw: int) -> tuple[int, int]:
    """x + y."""
    if x.kind >= QNAN or y.kind >= QNAN:
        return nan_result(x, y)
    denormal = x.kind == DENORMAL or y.kind == DENORMAL
    return _finish(exact_add(x, y, cw >> 10 & 3), denormal, cw, _PRECISION[cw >> 8 & 3])


def sub(x: Value, y: Value, cw: int) -> tuple[int, int]:
    """x - y; a NaN keeps its sign."""
    if x.kind >= QNAN or y.kind >= QNAN:
        return nan_result(x, y)
    return add(x, Value(y.kind, y.sign ^ 1, y.m, y.e), cw)


def mul(x: Value, y: Value, cw: int) -> tuple[int, int]:
    """x * y."""
    if x.kind >= QNAN or y.kind >= QNAN:
        return nan_result(x, y)
    denormal = x.kind == DENORMAL or y.kind == DENORMAL
    return _finish(exact_mul(x, y), denormal, cw, _PRECISION[cw >> 8 & 3])


def div(x: Value, y: Value, cw: int) -> tuple[int, int]:
    """x / y."""
    if x.kind >= QNAN or y.kind >= QNAN:
        return nan_result(x, y)
    exact = exact_div(x, y)
    if exact is not None and y.kind == ZERO and x.kind != INF:
        return pack80(exact, cw)[0], ZE
    denormal = x.kind == DENORMAL or y.kind == DENORMAL
    return _finish(exact, denormal, cw, _PRECISION[cw >> 8 & 3])


def sqrt(x: Value, cw: int) -> tuple[int, int]:
    """Square root."""
    if x.kind >= QNAN:
        return nan_result(x, x)
    return _finish(exact_sqrt(x), x.kind == DENORMAL, cw, _PRECISION[cw >> 8 & 3])


def compare(x: Value, y: Value, quiet_nans: bool) -> tuple[int | None, int]:
    """-1, 0, 1 or None for unordered. `quiet_nans`: FUCOM, where a QNaN raises nothing."""
    if x.kind >= QNAN or y.kind >= QNAN:
        invalid = not quiet_nans or x.kind > QNAN or y.kind > QNAN
        return None, IE if invalid else 0
    return exact_compare(x, y), DE if x.kind == DENORMAL or y.kind == DENORMAL else 0


def load(fmt: Format, bits: int, cw: int) -> tuple[int, int]:
    """FLD m32/m64: exact, but a SNaN or a denormal is noticed."""
    x = widen(fmt, bits)
    if x.kind >= QNAN:
        return quiet(x), IE if x.kind == SNAN else 0
    return pack80(x, cw)[0], DE if x.kind == DENORMAL else 0


def from_int(value: int) -> int:
    """FILD of a signed integer of up to 64 bits: exact."""
    return pack80(from_integer(value), 0)[0]


def store(fmt: Format, x: Value, cw: int) -> tuple[int, int]:
    """FST m32/m64. OE or UE raised and unmasked: nothing is stored, no PE (SDM Vol. 1, 8.5.4, 8.5.5)."""
    if x.kind == UNSUPPORTED:
        return fmt.default_nan, IE
    top = x.sign << (fmt.width - 1)
    if x.kind >= QNAN:
        payload = x.m >> (63 - fmt.field) & fmt.fraction
        return top | fmt.inf | fmt.quiet | payload, IE if x.kind == SNAN else 0
    if x.kind == ZERO:
        return top, 0
    if x.kind == INF:
        return top | fmt.inf, 0
    rc = cw >> 10 & 3
    sig, lsb, flags, tiny = round_value(fmt.precision, fmt.emin, x.sign, x.m, x.e, rc)
    if tiny:
        if not cw & UE:
            return 0, UE
        if flags:
            flags |= UE
        sig <<= lsb - (fmt.emin - fmt.field)
        return top | sig, flags
    exponent = lsb + fmt.field
    if exponent > fmt.bias:
        if not cw & OE:
            return 0, OE
        if rounds_to_infinity(x.sign, rc):
            return top | fmt.inf, OE | PE | C1
        return top | fmt.largest, OE | PE
    return top | (exponent + fmt.bias) << fmt.field | sig & fmt.fraction, flags


def store_int(x: Value, cw: int, bits: int, truncate: bool = False) -> tuple[int, int]:
    """FIST(P)/FISTTP as an unsigned pattern of `bits`; out of range: integer indefinite and IE."""
    if x.kind <= DENORMAL:
        value, flags = to_integer(x, RZ if truncate else cw >> 10 & 3)
        if -(1 << (bits - 1)) <= value < 1 << (bits - 1):
            return value & (1 << bits) - 1, flags
    return 1 << (bits - 1), IE


BCD_INDEFINITE = 0xFFFFC000000000000000


def store_bcd(x: Value, cw: int) -> tuple[int, int]:
    """FBSTP: 18 decimal digits in 80 bits; out of range: packed BCD indefinite and IE."""
    if x.kind <= DENORMAL:
        value, flags = to_integer(x, cw >> 10 & 3)
        if abs(value) < 10**18:
            return int(str(abs(value)), 16) | x.sign << 79, flags
    return BCD_INDEFINITE, IE


def load_bcd(bits: int) -> int:
    """FBLD. Nibbles above 9 give no exception but some result (SDM Vol. 2A): they count as they are."""
    value = 0
    for shift in range(68, -4, -4):
        value = value * 10 + (bits >> shift & 15)
    return pack80(from_integer(value), 0)[0] | (bits >> 79) << 79


def round_to_integral(x: Value, bits: int, cw: int) -> tuple[int, int]:
    """FRNDINT of the register pattern `bits`, which is `x`."""
    if x.kind >= QNAN:
        return nan_result(x, x)
    if x.kind in (ZERO, INF) or (x.kind == NORMAL and x.e >= 0):
        return bits, 0
    denormal = DE if x.kind == DENORMAL else 0
    if denormal and not cw & DE:
        return 0, DE
    value, flags = to_integer(x, cw >> 10 & 3)
    return pack80(from_integer(abs(value)), 0)[0] | x.sign << 79, flags | denormal


def scale(x: Value, y: Value, cw: int) -> tuple[int, int]:
    """FSCALE: x * 2**trunc(y) (SDM Vol. 2A, table 3-25)."""
    if x.kind >= QNAN or y.kind >= QNAN:
        return nan_result(x, y)
    denormal = x.kind == DENORMAL or y.kind == DENORMAL
    if y.kind == INF:
        if x.kind == (INF if y.sign else ZERO):
            return INDEFINITE, IE
        exact = Value(ZERO if y.sign else INF, x.sign, 0, 0)
    elif x.kind in (ZERO, INF):
        exact = x
    else:
        power = 0x10000 if y.kind == NORMAL and y.e > -47 else to_integer(Value(y.kind, 0, y.m, y.e), RZ)[0]
        power = min(power, 0x10000)
        exact = Value(NORMAL, x.sign, x.m, x.e + (-power if y.sign else power))
    return _finish(exact, denormal, cw, 64)


def extract(x: Value, cw: int) -> tuple[int, int, int]:
    """FXTRACT: exponent, significand, flags."""
    if x.kind >= QNAN:
        bits, flags = nan_result(x, x)
        return bits, bits, flags
    if x.kind == ZERO:
        return SIGN | _INF, x.sign << 79, ZE
    if x.kind == INF:
        return _INF, x.sign << 79 | _INF, 0
    exponent = x.e + x.m.bit_length() - 1
    significand = pack80(Value(NORMAL, x.sign, x.m, 1 - x.m.bit_length()), 0)[0]
    return from_int(exponent), significand, DE if x.kind == DENORMAL else 0


C0, C2, C3 = 0x100, 0x400, 0x4000
"""Condition codes at their status-word places, with `softfloat.C1`."""


def remainder(x: Value, bits: int, y: Value, cw: int, nearest: bool) -> tuple[int, int]:
    """FPREM, or FPREM1 (`nearest`). Flags carry C2 (incomplete) and the quotient in C0, C3, C1.

    An incomplete step reduces the exponent difference D by N = 32 + D mod 32, as the
    processors do (SDM Vol. 2A leaves N to the implementation, 32 to 63).
    """
    if x.kind >= QNAN or y.kind >= QNAN:
        return nan_result(x, y)
    if x.kind == INF or y.kind == ZERO:
        return INDEFINITE, IE
    denormal = DE if x.kind == DENORMAL or y.kind == DENORMAL else 0
    if denormal and not cw & DE:
        return 0, DE
    if x.kind == ZERO:
        return bits, denormal
    if y.kind == INF:
        result, flags = pack80(x, cw)
        return result, flags | denormal
    distance = (x.e + x.m.bit_length()) - (y.e + y.m.bit_length())
    if distance < -1:
        result, flags = pack80(x, cw)
        return result, flags | denormal
    e = min(x.e, y.e)
    mx, my = x.m << (x.e - e), y.m << (y.e - e)
    if distance >= 64:
        my <<= distance - (32 + distance % 32)
        rest, codes, negate = mx % my, C2, 0
    else:
        quotient, rest = divmod(mx, my)
        negate = int(nearest and (2 * rest > my or (2 * rest == my and quotient & 1)))
        if negate:
            quotient, rest = quotient + 1, my - rest
        codes = (C0 if quotient & 4 else 0) | (C3 if quotient & 2 else 0) | (C1 if quotient & 1 else 0)
    exact = Value(NORMAL if rest else ZERO, x.sign ^ negate if rest else x.sign, rest, e)
    result, flags = pack80(exact, cw)
    return result, flags | denormal | codes
