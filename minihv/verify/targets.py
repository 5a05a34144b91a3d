"""Where random memory operands point, and integers that are worth trying."""

from random import Random

from minihv.verify import layout as at

SPECIAL = (
    0, 1, 2, 3, 7, 8, 15, 16, 31, 32, 33, 63, 64, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF,
    0x80000000, 0xFFFFFFFF, 0x100000000, (1 << 63) - 1, 1 << 63, (1 << 64) - 1,
)  # fmt: skip
"""Integers at which instructions change their minds."""

SELECTORS = (0, 1, 3, 0x10, 0x18, 0x23, 0x2B, 0x33, 0x22, 0x2A)
"""Of the descriptor table that the harness and Linux have in common."""


def special_int(rng: Random, bits: int) -> int:
    """A boundary value, one next to it, or any."""
    if rng.random() < 0.6:
        return rng.choice(SPECIAL) + rng.choice((0, 0, 0, -1, 1)) & (1 << bits) - 1
    return rng.getrandbits(rng.choice((bits, bits, 8, 16)) if bits > 16 else bits)


def target(rng: Random, size: int) -> int:
    """A linear address for an operand of `size` bytes: mostly inside a window, some at its edges, some bad.

    Addresses of the upper half are left out where they are canonical: hosts tell user programs different
    things about pages that are the kernel's.
    """
    choice = rng.random()
    if choice < 0.62:
        start, room = (at.WINDOW0, at.WINDOW0_SIZE) if rng.random() < 0.4 else (at.WINDOW1, at.WINDOW1_SIZE)
        address = start + rng.randrange(max(room - size, 1))
        return address & -min(size & -size or 1, 64) if rng.random() < 0.6 else address
    if choice < 0.74:
        return at.ARENA + 0x1000 - rng.randrange(size + 1)
    if choice < 0.86:
        return at.ARENA_END - rng.randrange(size + 1)
    if choice < 0.90:
        return at.READ_ONLY + rng.randrange(0x1000 - size + 1)
    if choice < 0.92:
        return at.SUPERVISOR + rng.randrange(0x1000 - size + 1)
    if choice < 0.94:
        return at.ARENA - rng.randrange(size + 1)
    if choice < 0.97:
        return 1 << 47 | rng.getrandbits(46)
    return rng.getrandbits(32)


def inside(rng: Random, size: int) -> int:
    """As `target`, but always inside a window and aligned to `size`, a power of two."""
    return at.WINDOW1 + rng.randrange(0, at.WINDOW1_SIZE - size + 1, size)
