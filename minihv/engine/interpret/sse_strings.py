"""SSE4.2: string comparison (PCMPESTRI and kin) and CRC32.

Names follow SDM Vol. 1, 12.7 and Vol. 2B, 4.1 ("Imm8 control byte operation").
"""

from collections.abc import Sequence
from struct import Struct

from minihv.engine.interpret.decode import Mnemonic as Mn
from minihv.engine.interpret.flags import explicit
from minihv.engine.interpret.site import Op, Read, Site
from minihv.engine.interpret.sse_operands import M32, guard_table
from minihv.engine.interpret.table import Table

_LANES = (Struct("<16B"), Struct("<8H"), Struct("<16b"), Struct("<8h"))
"""By imm8[1:0]."""


def _aggregate(how: int, first: Sequence[int], second: Sequence[int], n1: int, n2: int) -> int:
    """IntRes1: `first` has `n1` valid elements, `second` `n2`."""
    count = len(first)
    result = 0
    if how == 0:  # equal any
        wanted = set(first[:n1])
        for j in range(n2):
            result |= (second[j] in wanted) << j
    elif how == 1:  # ranges
        for j in range(n2):
            result |= any(first[i] <= second[j] <= first[i + 1] for i in range(0, n1 - 1, 2)) << j
    elif how == 2:  # equal each
        for j in range(count):
            inside = (j < n1) + (j < n2)
            result |= (inside == 0 or (inside == 2 and first[j] == second[j])) << j
    else:  # equal ordered
        for j in range(count):
            matched = min(n1, count - j)
            result |= all(j + i < n2 and first[i] == second[j + i] for i in range(matched)) << j
    return result


def compare_strings(a: int, b: int, n1: int, n2: int, imm: int) -> int:
    """IntRes2 for registers `a` and `b` with `n1` and `n2` valid elements."""
    lanes = _LANES[imm & 3]
    first, second = lanes.unpack(a.to_bytes(16, "little")), lanes.unpack(b.to_bytes(16, "little"))
    result = _aggregate(imm >> 2 & 3, first, second, n1, n2)
    polarity = imm >> 4 & 3
    if polarity & 1:
        result ^= (1 << (n2 if polarity == 3 else len(first))) - 1
    return result


def _implicit_length(value: int, imm: int) -> int:
    """Elements before the first zero."""
    elements = _LANES[imm & 3].unpack(value.to_bytes(16, "little"))
    return elements.index(0) if 0 in elements else len(elements)


def _explicit_length(value: int, bits: int, imm: int) -> int:
    """|value| as a signed number, at most all elements."""
    value &= (1 << bits) - 1
    return min(abs(value - (value >> (bits - 1) << bits)), 8 if imm & 1 else 16)


def index_of(result: int, imm: int) -> int:
    """What goes to ECX."""
    if not result:
        return 8 if imm & 1 else 16
    return result.bit_length() - 1 if imm & 0x40 else (result & -result).bit_length() - 1


def mask_of(result: int, imm: int) -> int:
    """What goes to XMM0."""
    if not imm & 0x40:
        return result
    bits = 16 if imm & 1 else 8
    ones = (1 << bits) - 1
    return sum(ones << n * bits for n in range(128 // bits) if result >> n & 1)


def _string(s: Site, lengths_in: int, to_index: bool) -> Op:
    """All four instructions; `lengths_in`: bits of EAX/EDX that count, 0 for implicit lengths."""
    cpu, imm, d = s.cpu, s.imm(2, 1), s.xmm(0)
    xmm, r = cpu.xmm, cpu.r
    count = 8 if imm & 1 else 16
    read: Read
    if s.is_mem(1):
        read = s.load_operand(16)  # these do not ask for alignment (SDM Vol. 2B, 4.1)
    else:
        e = s.xmm(1)
        read = lambda: xmm[e]  # noqa: E731

    def op() -> None:
        a, b = xmm[d], read()
        if lengths_in:
            n1, n2 = _explicit_length(r[0], lengths_in, imm), _explicit_length(r[2], lengths_in, imm)
        else:
            n1, n2 = _implicit_length(a, imm), _implicit_length(b, imm)
        result = compare_strings(a, b, n1, n2, imm)
        if to_index:
            r[1] = index_of(result, imm)
        else:
            xmm[0] = mask_of(result, imm)
        cpu.fl = explicit(bool(result), 0, 0, n2 < count, n1 < count, result & 1)

    return op


# CRC32 ---------------------------------------------------------------------------------------------


def _crc_table() -> tuple[int, ...]:
    """CRC-32C, polynomial 0x11EDC6F41, bit-reflected."""
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


_CRC = _crc_table()


def crc32(s: Site) -> Op:
    """CRC32 of 1 to 8 bytes more; a general-register instruction, whatever CR0 and CR4 say."""
    r, d, size = s.cpu.r, s.gpr(0), s.size(1)
    read = s.reader(1)

    def op() -> None:
        data = read().to_bytes(size, "little")
        crc = r[d] & M32
        for byte in data:
            crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
        r[d] = crc

    return op


TABLE: Table = guard_table(
    {
        Mn.PCMPESTRI: lambda s: _string(s, 32, True),
        Mn.PCMPESTRI64: lambda s: _string(s, 64, True),
        Mn.PCMPESTRM: lambda s: _string(s, 32, False),
        Mn.PCMPESTRM64: lambda s: _string(s, 64, False),
        Mn.PCMPISTRI: lambda s: _string(s, 0, True),
        Mn.PCMPISTRM: lambda s: _string(s, 0, False),
    }
) | {Mn.CRC32: crc32}
