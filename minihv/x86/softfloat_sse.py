"""Scalar SSE floating point on bit patterns: what one element of an SSE instruction computes.

Every function takes `csr`, a MXCSR value, for rounding mode, DAZ, FTZ and the underflow mask, and
returns the result with the exception flags it raises (MXCSR bits 0-5). Results are the masked ones;
where `csr` unmasks a raised flag the caller throws the result away (SDM Vol. 1, 11.5.2). `fmt` is F32
or F64.
"""

from minihv.x86.softfloat import (
    DE,
    DENORMAL,
    F32,
    F64,
    IE,
    INF,
    NORMAL,
    OE,
    PE,
    QNAN,
    RNE,
    RZ,
    SNAN,
    UE,
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
    shift_round,
    to_integer,
    unpack,
)

DAZ, OM, UM, FTZ = 1 << 6, 1 << 10, 1 << 11, 1 << 15
"""MXCSR bits (SDM Vol. 1, 10.2.3); rounding control is bits 13-14."""


def _operand(fmt: Format, bits: int, csr: int) -> Value:
    x = unpack(fmt, bits)
    if x.kind == DENORMAL and csr & DAZ:
        return Value(ZERO, x.sign, 0, 0)
    return x


def pack(fmt: Format, value: Value, csr: int) -> tuple[int, int]:
    """Round a non-NaN value into `fmt`; the masked responses to overflow and underflow."""
    kind, sign, m, e = value
    top = sign << (fmt.width - 1)
    if kind == ZERO:
        return top, 0
    if kind == INF:
        return top | fmt.inf, 0
    rc = csr >> 13 & 3
    shift = m.bit_length() - fmt.precision
    exponent = e + shift + fmt.field
    if exponent >= fmt.emin:
        if shift <= 0:
            sig, flags = m << -shift, 0
        else:
            sig, flags = shift_round(m, shift, sign, rc)
            flags &= PE
            if sig >> fmt.precision:
                sig >>= 1
                exponent += 1
        if exponent > fmt.bias:
            if not csr & OM:
                return top | fmt.inf, OE | flags
            return top | (fmt.inf if rounds_to_infinity(sign, rc) else fmt.largest), OE | PE
        return top | (exponent + fmt.bias) << fmt.field | sig & fmt.fraction, flags
    sig, _, flags, tiny = round_value(fmt.precision, fmt.emin, sign, m, e, rc)
    flags &= PE
    if tiny:
        if not csr & UM:
            # The handler would get the result as if the exponent had no bottom: PE tells whether that is
            # exact (SDM Vol. 1, 4.9.1.5 and 4.9.1.6).
            flags = UE | PE if shift > 0 and m & (1 << shift) - 1 else UE
        elif csr & FTZ:
            return top, UE | PE
        elif flags:
            flags |= UE
    # A denormal that rounded up to the smallest normal number carries into the exponent by itself.
    return top | (sig if sig <= fmt.fraction else 1 << fmt.field | sig & fmt.fraction), flags


def _nan(fmt: Format, x: Value, a: int, b: int, y: Value) -> tuple[int, int]:
    """The first operand if it is a NaN, else the second, made quiet (SDM Vol. 1, table 4-7)."""
    return (a if x.kind >= QNAN else b) | fmt.quiet, IE if x.kind == SNAN or y.kind == SNAN else 0


def _finish(fmt: Format, exact: Value | None, denormal: bool, csr: int) -> tuple[int, int]:
    if exact is None:
        return fmt.default_nan, IE
    bits, flags = pack(fmt, exact, csr)
    return bits, flags | DE if denormal else flags


def add(fmt: Format, a: int, b: int, csr: int) -> tuple[int, int]:
    """a + b."""
    x, y = _operand(fmt, a, csr), _operand(fmt, b, csr)
    if x.kind >= QNAN or y.kind >= QNAN:
        return _nan(fmt, x, a, b, y)
    exact = exact_add(x, y, csr >> 13 & 3)
    return _finish(fmt, exact, x.kind == DENORMAL or y.kind == DENORMAL, csr)


def sub(fmt: Format, a: int, b: int, csr: int) -> tuple[int, int]:
    """a - b; a NaN keeps its sign."""
    x, y = _operand(fmt, a, csr), _operand(fmt, b, csr)
    if x.kind >= QNAN or y.kind >= QNAN:
        return _nan(fmt, x, a, b, y)
    exact = exact_add(x, Value(y.kind, y.sign ^ 1, y.m, y.e), csr >> 13 & 3)
    return _finish(fmt, exact, x.kind == DENORMAL or y.kind == DENORMAL, csr)


def mul(fmt: Format, a: int, b: int, csr: int) -> tuple[int, int]:
    """a * b."""
    x, y = _operand(fmt, a, csr), _operand(fmt, b, csr)
    if x.kind >= QNAN or y.kind >= QNAN:
        return _nan(fmt, x, a, b, y)
    return _finish(fmt, exact_mul(x, y), x.kind == DENORMAL or y.kind == DENORMAL, csr)


def div(fmt: Format, a: int, b: int, csr: int) -> tuple[int, int]:
    """a / b."""
    x, y = _operand(fmt, a, csr), _operand(fmt, b, csr)
    if x.kind >= QNAN or y.kind >= QNAN:
        return _nan(fmt, x, a, b, y)
    exact = exact_div(x, y)
    if exact is not None and y.kind == ZERO and x.kind != INF:
        # Division by zero goes before the denormal operand (SDM Vol. 1, 4.9.2).
        return pack(fmt, exact, csr)[0], ZE
    return _finish(fmt, exact, x.kind == DENORMAL or y.kind == DENORMAL, csr)


def sqrt(fmt: Format, a: int, csr: int) -> tuple[int, int]:
    """Square root of a."""
    x = _operand(fmt, a, csr)
    if x.kind >= QNAN:
        return a | fmt.quiet, IE if x.kind == SNAN else 0
    return _finish(fmt, exact_sqrt(x), x.kind == DENORMAL, csr)


def _extreme(fmt: Format, a: int, b: int, csr: int, order: int) -> tuple[int, int]:
    """MIN (order -1) and MAX (1): the second operand unless the first wins strictly, NaN or not."""
    x, y = _operand(fmt, a, csr), _operand(fmt, b, csr)
    if x.kind >= QNAN or y.kind >= QNAN:
        return b if y.kind != ZERO else y.sign << (fmt.width - 1), IE
    bits, value = (a, x) if exact_compare(x, y) == order else (b, y)
    if value.kind == ZERO:
        bits = value.sign << (fmt.width - 1)
    return bits, DE if x.kind == DENORMAL or y.kind == DENORMAL else 0


def minimum(fmt: Format, a: int, b: int, csr: int) -> tuple[int, int]:
    """MINSS and its kin (SDM Vol. 2B): not IEEE's minNum."""
    return _extreme(fmt, a, b, csr, -1)


def maximum(fmt: Format, a: int, b: int, csr: int) -> tuple[int, int]:
    """MAXSS and its kin."""
    return _extreme(fmt, a, b, csr, 1)


def compare(fmt: Format, a: int, b: int, csr: int, signaling: bool) -> tuple[int | None, int]:
    """-1, 0, 1, or None for unordered. `signaling`: a QNaN is invalid too (COMISS, CMPLTSS)."""
    x, y = _operand(fmt, a, csr), _operand(fmt, b, csr)
    if x.kind >= QNAN or y.kind >= QNAN:
        return None, IE if signaling or x.kind == SNAN or y.kind == SNAN else 0
    denormal = x.kind == DENORMAL or y.kind == DENORMAL
    return exact_compare(x, y), DE if denormal else 0


def predicate(fmt: Format, a: int, b: int, csr: int, which: int) -> tuple[bool, int]:
    """The eight SSE predicates of CMPPS and kin: EQ LT LE UNORD NEQ NLT NLE ORD."""
    order, flags = compare(fmt, a, b, csr, which & 3 in (1, 2))
    base = which & 3
    if base == 0:
        holds = order == 0
    elif base == 3:
        holds = order is None
    else:
        holds = order is not None and (order < 0 or (base == 2 and order == 0))
    return holds != bool(which & 4), flags


def round_to_integral(fmt: Format, a: int, csr: int, imm: int) -> tuple[int, int]:
    """ROUNDSS and kin: `imm` bits 0-1 mode, 2 use MXCSR's, 3 no PE (SDM Vol. 2B)."""
    x = _operand(fmt, a, csr)
    if x.kind >= QNAN:
        return a | fmt.quiet, IE if x.kind == SNAN else 0
    if x.kind == INF:
        return a, 0
    rc = csr >> 13 & 3 if imm & 4 else imm & 3
    value, flags = to_integer(x, rc)
    if not value:
        return x.sign << (fmt.width - 1), 0 if imm & 8 else flags & PE
    return pack(fmt, from_integer(value), 0)[0], 0 if imm & 8 else flags & PE


def to_int(fmt: Format, a: int, csr: int, bits: int, truncate: bool) -> tuple[int, int]:
    """CVT(T)SS2SI and kin to a `bits`-wide integer, as an unsigned pattern; out of range: indefinite, IE."""
    x = _operand(fmt, a, csr)
    if x.kind <= DENORMAL:
        value, flags = to_integer(x, RZ if truncate else csr >> 13 & 3)
        if -(1 << (bits - 1)) <= value < 1 << (bits - 1):
            return value & (1 << bits) - 1, flags & PE
    return 1 << (bits - 1), IE


def from_int(fmt: Format, value: int, csr: int) -> tuple[int, int]:
    """CVTSI2SS and kin; `value` is signed."""
    return pack(fmt, from_integer(value), csr)


def f32_to_f64(a: int, csr: int) -> tuple[int, int]:
    """CVTSS2SD: exact."""
    x = _operand(F32, a, csr)
    if x.kind >= QNAN:
        return x.sign << 63 | F64.inf | F64.quiet | x.m << 29, IE if x.kind == SNAN else 0
    return pack(F64, x, csr)[0], DE if x.kind == DENORMAL else 0


def f64_to_f32(a: int, csr: int) -> tuple[int, int]:
    """CVTSD2SS."""
    x = _operand(F64, a, csr)
    if x.kind >= QNAN:
        return x.sign << 31 | F32.inf | F32.quiet | x.m >> 29, IE if x.kind == SNAN else 0
    return _finish(F32, x, x.kind == DENORMAL, csr)


def _estimate(value: Value) -> int:
    """A binary32 with a 12-bit significand, nearest: the precision RCPSS and RSQRTSS promise."""
    sig, lsb, _, tiny = round_value(12, F32.emin, value.sign, value.m, value.e, RNE)
    if tiny:
        return value.sign << 31
    return pack(F32, Value(NORMAL, value.sign, sig, lsb), 0)[0]


def reciprocal(a: int) -> int:
    """RCPSS: |relative error| <= 1.5 * 2**-12, no exceptions; denormals are zeros in and out."""
    x = _operand(F32, a, DAZ)
    if x.kind >= QNAN:
        return a | F32.quiet
    exact = exact_div(Value(NORMAL, 0, 1, 0), x)
    assert exact is not None
    return _estimate(exact) if exact.kind == NORMAL else pack(F32, exact, 0)[0]


def reciprocal_sqrt(a: int) -> int:
    """RSQRTSS: |relative error| <= 1.5 * 2**-12, no exceptions; denormals are zeros."""
    x = _operand(F32, a, DAZ)
    if x.kind >= QNAN:
        return a | F32.quiet
    if x.kind == ZERO:
        return x.sign << 31 | F32.inf
    root = exact_sqrt(x)
    if root is None:
        return F32.default_nan
    exact = exact_div(Value(NORMAL, 0, 1, 0), root)
    assert exact is not None
    return _estimate(exact) if exact.kind == NORMAL else pack(F32, exact, 0)[0]
