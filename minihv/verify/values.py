"""Random contents for registers and memory, rich in what arithmetic finds difficult."""

import struct
from collections.abc import Callable
from random import Random

from iced_x86 import MemorySize

from minihv.verify import layout as at

_POOL = 1024


class Values:
    """Draws from pools that are filled once, because cases are made by the million."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self._vectors = [self._vector() for _ in range(_POOL)]
        self._extended = [extended(rng).to_bytes(10, "little") + bytes(6) for _ in range(_POOL)]

    def contents(self, size: int) -> bytes:
        """`size` bytes, a multiple of 16."""
        return b"".join(self.rng.choices(self._vectors, k=size // 16))

    def _vector(self) -> bytes:
        rng = self.rng
        choice = rng.random()
        if choice < 0.25:
            return struct.pack("<4I", *(single(rng) for _ in range(4)))
        if choice < 0.5:
            return struct.pack("<2Q", *(double(rng) for _ in range(2)))
        if choice < 0.6:
            return bytes(rng.choice((0, 1, 2, 0x7F, 0x80, 0xFF)) for _ in range(16))
        if choice < 0.7:
            return bytes(rng.choice(b"abcd\0") for _ in range(16))
        if choice < 0.8:
            return struct.pack("<2Q", rng.randrange(80), rng.getrandbits(64))
        if choice < 0.88:
            return struct.pack("<4i", *(rng.randrange(-40, 40) for _ in range(4)))
        return rng.randbytes(16)

    def place(self, windows: bytearray, linear: int, memory_size: int) -> None:
        """If an operand of this iced-x86 `MemorySize` lies in a window, give it a value of its type."""
        make = _BY_TYPE.get(memory_size)
        if make is None:
            return
        data = make(self.rng)
        for start, offset, size in (
            (at.WINDOW0, 0, at.WINDOW0_SIZE),
            (at.WINDOW1, at.WINDOW0_SIZE, at.WINDOW1_SIZE),
        ):
            if start <= linear and linear + len(data) <= start + size:
                place = offset + linear - start
                windows[place : place + len(data)] = data

    def fx(self) -> bytes:
        """An FXSAVE64 image (SDM Vol. 1, 10.5.1): x87 and SSE state that FXRSTOR takes."""
        rng = self.rng
        fcw = 0x37F if rng.random() < 0.6 else 0x40 | rng.getrandbits(4) << 8 | (
            0x3F if rng.random() < 0.7 else rng.getrandbits(6)
        )  # fmt: skip
        top = rng.randrange(8) if rng.random() < 0.7 else 0
        fsw = top << 11 | (rng.getrandbits(16) & 0x4700 if rng.random() < 0.5 else 0)
        if rng.random() < 0.1:
            fsw |= rng.getrandbits(7)
        if fsw & ~fcw & 0x3F:
            fsw |= 0x8080  # ES and B follow from the unmasked flags
        full = rng.choice((0, 0xFF, 0xFF, 0xFF, rng.getrandbits(8)))
        mxcsr = 0x1F80 if rng.random() < 0.55 else (
            rng.getrandbits(2) << 13 | (0x1F80 if rng.random() < 0.7 else rng.getrandbits(6) << 7)
            | rng.choice((0, 0x8000, 0x40, 0x8040)) | rng.getrandbits(6)
        )  # fmt: skip
        head = struct.pack("<HHBxHQQII", fcw, fsw, full, 0, 0, 0, mxcsr, 0xFFFF)
        st = b"".join(rng.choices(self._extended, k=8))
        return head + st + self.contents(256) + bytes(96)


def _float(rng: Random, exponent_bits: int, fraction_bits: int) -> int:
    """A binary float as an integer: zeros, denormals, normals around 1, huge ones, infinities, NaNs."""
    sign = rng.getrandbits(1) << exponent_bits + fraction_bits
    bias, top = (1 << exponent_bits - 1) - 1, (1 << exponent_bits) - 1
    fraction = rng.choice((
        0, 1, (1 << fraction_bits) - 1, 1 << fraction_bits - 1, rng.getrandbits(fraction_bits),
        rng.getrandbits(fraction_bits), rng.getrandbits(8) << fraction_bits - 8,
    ))  # fmt: skip
    exponent = rng.choice((
        0, 0, top, 1, top - 1, bias, bias + rng.randrange(-3, 4), bias + rng.randrange(-3, 4),
        bias + rng.randrange(-fraction_bits, fraction_bits), bias + rng.randrange(60),
        rng.randrange(top + 1),
    ))  # fmt: skip
    return sign | min(max(exponent, 0), top) << fraction_bits | fraction


def single(rng: Random) -> int:
    """binary32"""
    return _float(rng, 8, 23)


def double(rng: Random) -> int:
    """binary64"""
    return _float(rng, 11, 52)


def extended(rng: Random) -> int:
    """80-bit: with the integer bit explicit, and wrong now and then (unnormals, pseudo-denormals)."""
    value = _float(rng, 15, 63)
    fraction, head = value & (1 << 63) - 1, value >> 63
    integer = bool(head & 0x7FFF)
    if rng.random() < 0.06:
        integer = not integer
    return head << 64 | integer << 63 | fraction


def _bcd(rng: Random) -> bytes:
    """Packed decimal of FBLD, seldom with digits that are none."""
    if rng.random() < 0.1:
        return rng.randbytes(10)
    digits = [rng.randrange(10) for _ in range(18)]
    return bytes(digits[2 * n] | digits[2 * n + 1] << 4 for n in range(9)) + rng.choice((b"\0", b"\x80"))


_BY_TYPE: dict[int, Callable[[Random], bytes]] = {
    MemorySize.FLOAT32: lambda rng: single(rng).to_bytes(4, "little"),
    MemorySize.FLOAT64: lambda rng: double(rng).to_bytes(8, "little"),
    MemorySize.FLOAT80: lambda rng: extended(rng).to_bytes(10, "little"),
    MemorySize.BCD: _bcd,
    MemorySize.PACKED128_FLOAT32: lambda rng: struct.pack("<4I", *(single(rng) for _ in range(4))),
    MemorySize.PACKED128_FLOAT64: lambda rng: struct.pack("<2Q", *(double(rng) for _ in range(2))),
}
