"""Random and special floating-point operands for tests, from a seeded generator."""

from random import Random

from minihv.x86.softfloat import Format

J = 1 << 63


def specials(fmt: Format) -> list[int]:
    """Magnitudes of binary32 or binary64 at which something changes."""
    one = fmt.bias << fmt.field
    return [
        0, 1, 2, fmt.fraction, fmt.fraction - 1, fmt.fraction + 1, fmt.fraction + 2, fmt.inf, fmt.inf | 1,
        fmt.inf | fmt.quiet, fmt.inf | fmt.quiet | 5, fmt.largest, fmt.largest - 1, fmt.quiet, one, one + 1,
        one - 1, (fmt.bias + fmt.precision) << fmt.field,
    ]  # fmt: skip


def operand(rng: Random, fmt: Format) -> int:
    """A binary32 or binary64 pattern: special, denormal, near one, near the ends, or anything."""
    sign = rng.getrandbits(1) << (fmt.width - 1)
    choice = rng.random()
    if choice < 0.35:
        return sign | rng.choice(specials(fmt))
    if choice < 0.5:
        return rng.getrandbits(fmt.width)
    if choice < 0.6:
        return sign | rng.getrandbits(rng.randrange(1, fmt.field + 1))
    if choice < 0.8:
        short = rng.getrandbits(fmt.field) & -(1 << rng.randrange(fmt.field)) & fmt.fraction
        return sign | (fmt.bias + rng.randrange(-70, 70)) << fmt.field | short
    exponent = rng.choice(
        [
            fmt.bias + rng.randrange(-fmt.precision - 3, 3),
            1 + rng.randrange(60),
            fmt.emask - 1 - rng.randrange(30),
            (fmt.bias + 1) // 2 + rng.randrange(-30, 30),
            fmt.bias + fmt.bias // 2 + rng.randrange(-3, 3),
        ]
    )
    return sign | exponent << fmt.field | rng.getrandbits(fmt.field)


_SPECIALS80 = [
    0, 1, 2, J, J - 1, J | 1, 1 << 64 | J, 1 << 64 | J | 1, 1 << 64 | (2 * J - 1), 0x7FFE << 64 | (2 * J - 1),
    0x7FFE << 64 | J, 0x7FFF << 64 | J, 0x7FFF << 64 | J | 1, 0x7FFF << 64 | J | J >> 1,
    0x7FFF << 64 | J | J >> 1 | 7, 0x7FFF << 64 | 5, 0x7FFF << 64, 0x3FFF << 64, 0x3FFF << 64 | J,
    0x3FFF << 64 | J | 1, 0x3FFE << 64 | (2 * J - 1), 0x4001 << 64 | J, 0x403E << 64 | J,
    0x403D << 64 | (2 * J - 1),
]  # fmt: skip


def operand80(rng: Random) -> int:
    """An 80-bit pattern, unsupported ones among them."""
    sign = rng.getrandbits(1) << 79
    choice = rng.random()
    if choice < 0.35:
        return sign | rng.choice(_SPECIALS80)
    if choice < 0.45:
        return rng.getrandbits(80)
    if choice < 0.55:
        return sign | rng.getrandbits(rng.randrange(1, 65))
    significand = J | rng.getrandbits(63) & -(1 << rng.randrange(63)) & J - 1
    if choice < 0.8:
        return sign | (0x3FFF + rng.randrange(-75, 75)) << 64 | significand
    low, high = rng.choice(
        [
            (-16382, -16250), (16300, 16384), (-150, -100), (120, 135),
            (-1090, -1000), (1020, 1030), (-8200, -8100), (8100, 8300),
        ]
    )  # fmt: skip
    return sign | (0x3FFF + rng.randrange(low, high)) << 64 | significand


def near80(rng: Random, low: int, high: int) -> int:
    """A normal 80-bit pattern with 2**low <= |x| < 2**high."""
    return rng.getrandbits(1) << 79 | (0x3FFF + rng.randrange(low, high)) << 64 | J | rng.getrandbits(63)


def random_mxcsr(rng: Random) -> int:
    """All exceptions masked; any rounding, DAZ and FTZ now and then."""
    rounding = rng.choice((0, 0, 1, 2, 3)) << 13
    return 0x1F80 | rounding | rng.choice((0, 0, 0x40)) | rng.choice((0, 0, 0x8000))


def random_fcw(rng: Random) -> int:
    """Any precision and rounding, sometimes with unmasked exceptions."""
    fcw = 0x7F | rng.randrange(4) << 8 | rng.randrange(4) << 10
    if rng.random() < 0.3:
        fcw &= ~rng.choice((1, 2, 4, 8, 16, 32, 63, 0x18))
    return fcw
