"""Packed integer arithmetic on unsigned 64- or 128-bit integers: what MMX and SSE do to their lanes.

Pure functions without registers or memory. Lane 0 is the lowest. A `Lanes` entry holds one function for
MMX (key 8, bytes) and one for XMM (key 16). Semantics: SDM Vol. 2, the page of the instruction named.
"""

from collections.abc import Callable, Sequence
from struct import Struct

Unary = Callable[[int], int]
Binary = Callable[[int, int], int]
Lanes = dict[int, Binary]
AllLanes = Callable[[Sequence[int], Sequence[int]], Sequence[int]]

M64 = (1 << 64) - 1
M128 = (1 << 128) - 1
_from_bytes = int.from_bytes


def lanes(code: str, width: int) -> Struct:
    """The struct that cuts `width` bytes into lanes of type `code` (struct module letters)."""
    return Struct(f"<{width // Struct('<' + code).size}{code}")


def repeat(value: int, bits: int, width: int) -> int:
    """`value` in every lane of `bits` bits."""
    return sum(value << shift for shift in range(0, 8 * width, bits))


def lanewise(code: str, function: Callable[[int, int], int], out: str = "") -> Lanes:
    """One result lane (type `out` or `code`) from each pair of lanes."""

    def make(width: int) -> Binary:
        unpack, pack = lanes(code, width).unpack, lanes(out or code, width).pack

        def apply(a: int, b: int) -> int:
            first, second = unpack(a.to_bytes(width, "little")), unpack(b.to_bytes(width, "little"))
            return _from_bytes(pack(*map(function, first, second)), "little")

        return apply

    return {8: make(8), 16: make(16)}


def unary(code: str, function: Callable[[int], int], out: str = "") -> Lanes:
    """One result lane from each lane of the second operand (the source)."""
    return lanewise(code, lambda a, b: function(b), out)


def across(
    code: str, function: Callable[[Sequence[int], Sequence[int]], Sequence[int]], out: str = ""
) -> Lanes:
    """All result lanes (type `out` or `code`) from all lanes of both operands."""

    def make(width: int) -> Binary:
        unpack, pack = lanes(code, width).unpack, lanes(out or code, width).pack

        def apply(a: int, b: int) -> int:
            first, second = unpack(a.to_bytes(width, "little")), unpack(b.to_bytes(width, "little"))
            return _from_bytes(pack(*function(first, second)), "little")

        return apply

    return {8: make(8), 16: make(16)}


def clamp(low: int, high: int) -> Callable[[int], int]:
    """Saturation to low..high."""
    return lambda value: low if value < low else high if value > high else value


def wrap(bits: int) -> Callable[[int], int]:
    """A signed number cut to `bits` bits, signed again."""
    half, mask = 1 << (bits - 1), (1 << bits) - 1
    return lambda value: ((value + half) & mask) - half


s8, s16, u8, u16 = clamp(-128, 127), clamp(-32768, 32767), clamp(0, 255), clamp(0, 65535)
w16, w32 = wrap(16), wrap(32)


# Addition and subtraction without carries between lanes: the top bit of each lane is handled apart.


def adder(bits: int) -> Lanes:
    """PADDB/W/D/Q."""

    def make(width: int) -> Binary:
        top = repeat(1 << (bits - 1), bits, width)
        low = (1 << 8 * width) - 1 ^ top
        return lambda a, b: (a & low) + (b & low) ^ (a ^ b) & top

    return {8: make(8), 16: make(16)}


def subtractor(bits: int) -> Lanes:
    """PSUBB/W/D/Q."""

    def make(width: int) -> Binary:
        top = repeat(1 << (bits - 1), bits, width)
        low = (1 << 8 * width) - 1 ^ top
        return lambda a, b: (a | top) - (b & low) ^ (a ^ b ^ top) & top

    return {8: make(8), 16: make(16)}


# Multiplication ------------------------------------------------------------------------------------


def _pmaddwd(a: Sequence[int], b: Sequence[int]) -> list[int]:
    return [w32(a[i] * b[i] + a[i + 1] * b[i + 1]) & 0xFFFFFFFF for i in range(0, len(a), 2)]


def _pairs_to_dwords(function: AllLanes) -> Lanes:
    def make(width: int) -> Binary:
        unpack, pack = lanes("h", width).unpack, lanes("I", width).pack

        def apply(a: int, b: int) -> int:
            first, second = unpack(a.to_bytes(width, "little")), unpack(b.to_bytes(width, "little"))
            return _from_bytes(pack(*function(first, second)), "little")

        return apply

    return {8: make(8), 16: make(16)}


PMADDWD = _pairs_to_dwords(_pmaddwd)


def _maddubs(width: int) -> Binary:
    unsigned, signed, pack = lanes("B", width).unpack, lanes("b", width).unpack, lanes("h", width).pack

    def apply(a: int, b: int) -> int:
        x, y = unsigned(a.to_bytes(width, "little")), signed(b.to_bytes(width, "little"))
        sums = [s16(x[i] * y[i] + x[i + 1] * y[i + 1]) for i in range(0, width, 2)]
        return _from_bytes(pack(*sums), "little")

    return apply


PMADDUBSW: Lanes = {8: _maddubs(8), 16: _maddubs(16)}
"""The first operand's bytes are unsigned, the second's signed."""


def pmuludq(a: int, b: int) -> int:
    """Low dword of each qword."""
    return (a & 0xFFFFFFFF) * (b & 0xFFFFFFFF) | (a >> 64 & 0xFFFFFFFF) * (b >> 64 & 0xFFFFFFFF) << 64


def _signed_dword(value: int) -> int:
    return ((value + 0x80000000) & 0xFFFFFFFF) - 0x80000000


def pmuldq(a: int, b: int) -> int:
    """Low dword of each qword, signed."""
    low = _signed_dword(a) * _signed_dword(b)
    high = _signed_dword(a >> 64) * _signed_dword(b >> 64)
    return low & M64 | (high & M64) << 64


# Sums and differences across lanes -----------------------------------------------------------------


def _horizontal(
    function: Callable[[int, int], int],
) -> Callable[[Sequence[int], Sequence[int]], Sequence[int]]:
    def apply(a: Sequence[int], b: Sequence[int]) -> Sequence[int]:
        both = (*a, *b)
        return [function(both[i], both[i + 1]) for i in range(0, len(both), 2)]

    return apply


PHADDW = across("h", _horizontal(lambda x, y: w16(x + y)))
PHADDD = across("i", _horizontal(lambda x, y: w32(x + y)))
PHADDSW = across("h", _horizontal(lambda x, y: s16(x + y)))
PHSUBW = across("h", _horizontal(lambda x, y: w16(x - y)))
PHSUBD = across("i", _horizontal(lambda x, y: w32(x - y)))
PHSUBSW = across("h", _horizontal(lambda x, y: s16(x - y)))


def _sad(width: int) -> Binary:
    def apply(a: int, b: int) -> int:
        x, y = a.to_bytes(width, "little"), b.to_bytes(width, "little")
        result = 0
        for start in range(0, width, 8):
            total = sum(abs(x[i] - y[i]) for i in range(start, start + 8))
            result |= total << 8 * start
        return result

    return apply


PSADBW: Lanes = {8: _sad(8), 16: _sad(16)}


def phminposuw(a: int) -> int:
    """Smallest unsigned word and, above it, its index."""
    words = lanes("H", 16).unpack(a.to_bytes(16, "little"))
    smallest = min(words)
    return int(smallest | words.index(smallest) << 16)


def mpsadbw(a: int, b: int, imm: int) -> int:
    """Eight sums of absolute differences of four bytes each."""
    x = a.to_bytes(16, "little")[(imm >> 2 & 1) * 4 :]
    y = b.to_bytes(16, "little")[(imm & 3) * 4 :][:4]
    return sum(sum(abs(x[i + j] - y[j]) for j in range(4)) << 16 * i for i in range(8))


# Shifts --------------------------------------------------------------------------------------------


def shift_left(bits: int) -> Lanes:
    """PSLLW/D/Q; the second operand is the count, all 64 bits of it."""

    def make(width: int) -> Binary:
        masks = [repeat((1 << bits) - 1 >> n << n, bits, width) for n in range(bits)]
        full = (1 << 8 * width) - 1
        # A count that keeps no bit in any lane also keeps none that crossed from the lane below.
        keep = [mask & full for mask in masks]

        def apply(a: int, count: int) -> int:
            return (a << count) & keep[count] if count < bits else 0

        return apply

    return {8: make(8), 16: make(16)}


def shift_right(bits: int) -> Lanes:
    """PSRLW/D/Q."""

    def make(width: int) -> Binary:
        masks = [repeat((1 << bits) - 1 >> n, bits, width) for n in range(bits)]

        def apply(a: int, count: int) -> int:
            return a >> count & masks[count] if count < bits else 0

        return apply

    return {8: make(8), 16: make(16)}


def shift_right_arithmetic(bits: int) -> Lanes:
    """PSRAW/D; counts beyond the lane fill it with the sign."""
    code = {16: "h", 32: "i"}[bits]

    def make(width: int) -> Binary:
        unpack, pack = lanes(code, width).unpack, lanes(code, width).pack

        def apply(a: int, count: int) -> int:
            count = min(count, bits - 1)
            return _from_bytes(
                pack(*[lane >> count for lane in unpack(a.to_bytes(width, "little"))]), "little"
            )

        return apply

    return {8: make(8), 16: make(16)}


# Packing and interleaving ---------------------------------------------------------------------------


def packer(code: str, out: str, saturate: Callable[[int], int]) -> Lanes:
    """PACKSSWB and kin: both operands' lanes, halved in width, the first operand's below."""

    def make(width: int) -> Binary:
        unpack, pack = lanes(code, width).unpack, lanes(out, width).pack

        def apply(a: int, b: int) -> int:
            first, second = unpack(a.to_bytes(width, "little")), unpack(b.to_bytes(width, "little"))
            return _from_bytes(pack(*map(saturate, (*first, *second))), "little")

        return apply

    return {8: make(8), 16: make(16)}


def interleaver(size: int, high: bool) -> Lanes:
    """PUNPCKL/H: lanes of `size` bytes from the low or high halves, the first operand's first."""

    def make(width: int) -> Binary:
        start = width // 2 if high else 0
        order: list[int] = []
        for lane in range(start, start + width // 2, size):
            order += range(lane, lane + size)
            order += range(width + lane, width + lane + size)

        def apply(a: int, b: int) -> int:
            both = a.to_bytes(width, "little") + b.to_bytes(width, "little")
            return _from_bytes(bytes([both[i] for i in order]), "little")

        return apply

    return {8: make(8), 16: make(16)}


# Shuffles ------------------------------------------------------------------------------------------


def _shuffle(width: int) -> Binary:
    def apply(a: int, b: int) -> int:
        x = a.to_bytes(width, "little")
        return _from_bytes(
            bytes([0 if i & 0x80 else x[i & (width - 1)] for i in b.to_bytes(width, "little")]), "little"
        )

    return apply


PSHUFB: Lanes = {8: _shuffle(8), 16: _shuffle(16)}


def shuffle_dwords(a: int, imm: int) -> int:
    """PSHUFD."""
    result = 0
    for lane in range(4):
        result |= (a >> 32 * (imm >> 2 * lane & 3) & 0xFFFFFFFF) << 32 * lane
    return result


def shuffle_words(a: int, imm: int) -> int:
    """PSHUFW, on 64 bits."""
    result = 0
    for lane in range(4):
        result |= (a >> 16 * (imm >> 2 * lane & 3) & 0xFFFF) << 16 * lane
    return result


def shufps(a: int, b: int, imm: int) -> int:
    """Two dwords of each operand."""
    return shuffle_dwords(a, imm) & M64 | shuffle_dwords(b, imm >> 4) << 64 & M128


def shufpd(a: int, b: int, imm: int) -> int:
    """A qword of each operand."""
    return (a >> 64 if imm & 1 else a & M64) | (b >> 64 if imm & 2 else b & M64) << 64


def align_right(a: int, b: int, count: int, width: int) -> int:
    """PALIGNR: a above b, shifted right by `count` bytes."""
    return (a << 8 * width | b) >> 8 * count & (1 << 8 * width) - 1


def blend(a: int, b: int, mask: int) -> int:
    """Bits of `b` where `mask` has ones."""
    return a & ~mask | b & mask


def lane_mask(imm: int, bits: int) -> int:
    """Bit n of `imm` -> a lane of ones."""
    ones = (1 << bits) - 1
    return sum(ones << bits * n for n in range(128 // bits) if imm >> n & 1)


def sign_mask(value: int, bits: int) -> int:
    """A lane of ones where the lane's sign bit is set."""
    ones = (1 << bits) - 1
    return sum(ones << shift for shift in range(0, 128, bits) if value >> (shift + bits - 1) & 1)


def sign_bits(value: int, bits: int, width: int) -> int:
    """The lanes' sign bits gathered: PMOVMSKB, MOVMSKPS, MOVMSKPD."""
    return sum((value >> (bits * n + bits - 1) & 1) << n for n in range(8 * width // bits))


def extender(source: str, target: str) -> Unary:
    """PMOVSX/PMOVZX: the low lanes of type `source`, widened to `target`."""
    pack = lanes(target, 16).pack
    count = 16 // Struct("<" + target).size
    unpacker = Struct(f"<{count}{source}")
    size, mask = unpacker.size, (1 << 8 * unpacker.size) - 1

    def apply(a: int) -> int:
        return _from_bytes(pack(*unpacker.unpack((a & mask).to_bytes(size, "little"))), "little")

    return apply
