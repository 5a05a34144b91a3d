"""Lazy arithmetic flags (SDM Vol. 1, 3.4.3.1).

An op stores what the flags follow from, `(rule, a, b, result)`, and nobody computes a flag before it is
read. `result` is always cut to the operand's size and is 0 exactly if ZF is set, whatever the rule, so
`not cpu.fl[3]` *is* ZF.

    ADD, ADC, SUB, SBB   a, b operands (b without the carry)
    LOGIC                AND, OR, XOR, TEST: CF = OF = AF = 0
    INC, DEC             a = the CF from before
    CARRY, CARRY_AF      a = CF, b = OF, the others from the result; AF = 0 or 1
    EXPLICIT             a = the word of all six flags
"""

from collections.abc import Callable

from minihv.x86.registers import (
    RFLAGS_AF,
    RFLAGS_ARITHMETIC,
    RFLAGS_CF,
    RFLAGS_OF,
    RFLAGS_PF,
    RFLAGS_SF,
    RFLAGS_ZF,
)

MASKS = {1: 0xFF, 2: 0xFFFF, 4: 0xFFFFFFFF, 8: (1 << 64) - 1}
"""Operand size in bytes -> all ones."""
SIGNS = {1: 0x80, 2: 0x8000, 4: 1 << 31, 8: 1 << 63}
"""Operand size in bytes -> its sign bit."""
PARITY = bytes(0 if n.bit_count() & 1 else 1 for n in range(256))
"""Low byte of a result -> PF."""


class Rule:
    """What the flags are, given (a, b, result). Flags come as 0 or 1."""

    __slots__ = ("mask", "sign", "top")

    def __init__(self, size: int) -> None:
        self.sign = SIGNS[size]
        self.mask = MASKS[size]
        self.top = 8 * size - 1

    def cf(self, fl: "Lazy") -> int:
        return 0

    def of(self, fl: "Lazy") -> int:
        return 0

    def af(self, fl: "Lazy") -> int:
        return 0

    def sf(self, fl: "Lazy") -> int:
        return 1 if fl[3] & self.sign else 0

    def pf(self, fl: "Lazy") -> int:
        return PARITY[fl[3] & 0xFF]

    def below_equal(self, fl: "Lazy") -> bool:
        return not fl[3] or bool(self.cf(fl))

    def less(self, fl: "Lazy") -> bool:
        return self.sf(fl) != self.of(fl)

    def less_equal(self, fl: "Lazy") -> bool:
        return not fl[3] or self.sf(fl) != self.of(fl)

    def word(self, fl: "Lazy") -> int:
        """The six flags at their places in RFLAGS."""
        return (
            self.cf(fl) * RFLAGS_CF
            | self.pf(fl) * RFLAGS_PF
            | self.af(fl) * RFLAGS_AF
            | (0 if fl[3] else RFLAGS_ZF)
            | self.sf(fl) * RFLAGS_SF
            | self.of(fl) * RFLAGS_OF
        )


Lazy = tuple[Rule, int, int, int]
"""(rule, a, b, result)"""


class _Add(Rule):
    __slots__ = ()

    def cf(self, fl: Lazy) -> int:
        return 1 if fl[3] < fl[1] else 0

    def of(self, fl: Lazy) -> int:
        return 1 if ~(fl[1] ^ fl[2]) & (fl[1] ^ fl[3]) & self.sign else 0

    def af(self, fl: Lazy) -> int:
        return (fl[1] ^ fl[2] ^ fl[3]) >> 4 & 1


class _Adc(_Add):
    __slots__ = ()

    def cf(self, fl: Lazy) -> int:
        _, a, b, result = fl
        return (a & b | (a | b) & ~result) >> self.top & 1


class _Sub(Rule):
    __slots__ = ()

    def cf(self, fl: Lazy) -> int:
        return 1 if fl[1] < fl[2] else 0

    def of(self, fl: Lazy) -> int:
        return 1 if (fl[1] ^ fl[2]) & (fl[1] ^ fl[3]) & self.sign else 0

    def af(self, fl: Lazy) -> int:
        return (fl[1] ^ fl[2] ^ fl[3]) >> 4 & 1

    def below_equal(self, fl: Lazy) -> bool:
        return fl[1] <= fl[2]

    def less(self, fl: Lazy) -> bool:
        return (fl[1] ^ self.sign) < (fl[2] ^ self.sign)

    def less_equal(self, fl: Lazy) -> bool:
        return (fl[1] ^ self.sign) <= (fl[2] ^ self.sign)


class _Sbb(Rule):
    __slots__ = ()

    def cf(self, fl: Lazy) -> int:
        _, a, b, result = fl
        return (~a & b | ~(a ^ b) & result) >> self.top & 1

    def of(self, fl: Lazy) -> int:
        return 1 if (fl[1] ^ fl[2]) & (fl[1] ^ fl[3]) & self.sign else 0

    def af(self, fl: Lazy) -> int:
        return (fl[1] ^ fl[2] ^ fl[3]) >> 4 & 1


class _Inc(Rule):
    __slots__ = ()

    def cf(self, fl: Lazy) -> int:
        return fl[1]

    def of(self, fl: Lazy) -> int:
        return 1 if fl[3] == self.sign else 0

    def af(self, fl: Lazy) -> int:
        return 0 if fl[3] & 0xF else 1


class _Dec(_Inc):
    __slots__ = ()

    def of(self, fl: Lazy) -> int:
        return 1 if fl[3] == self.sign - 1 else 0

    def af(self, fl: Lazy) -> int:
        return 1 if fl[3] & 0xF == 0xF else 0


class _Carry(Rule):
    __slots__ = ()

    def cf(self, fl: Lazy) -> int:
        return fl[1]

    def of(self, fl: Lazy) -> int:
        return fl[2]


class _CarryAf(_Carry):
    __slots__ = ()

    def af(self, fl: Lazy) -> int:
        return 1


class _Explicit(Rule):
    __slots__ = ()

    def cf(self, fl: Lazy) -> int:
        return fl[1] & 1

    def of(self, fl: Lazy) -> int:
        return fl[1] >> 11 & 1

    def af(self, fl: Lazy) -> int:
        return fl[1] >> 4 & 1

    def sf(self, fl: Lazy) -> int:
        return fl[1] >> 7 & 1

    def pf(self, fl: Lazy) -> int:
        return fl[1] >> 2 & 1

    def word(self, fl: Lazy) -> int:
        return fl[1]


def _by_size(kind: type[Rule]) -> dict[int, Rule]:
    return {size: kind(size) for size in MASKS}


ADD = _by_size(_Add)
ADC = _by_size(_Adc)
SUB = _by_size(_Sub)
SBB = _by_size(_Sbb)
LOGIC = _by_size(Rule)
INC = _by_size(_Inc)
DEC = _by_size(_Dec)
CARRY = _by_size(_Carry)
CARRY_AF = _by_size(_CarryAf)
EXPLICIT = _Explicit(8)


def from_word(word: int) -> Lazy:
    """The lazy form of the six flags in `word` (bits as in RFLAGS; others are ignored)."""
    return EXPLICIT, word & RFLAGS_ARITHMETIC, 0, 0 if word & RFLAGS_ZF else 1


def explicit(cf: int, pf: int, af: int, zf: int, sf: int, of: int) -> Lazy:
    """The lazy form of six flags, each 0 or 1 (or a bool)."""
    word = cf | pf << 2 | af << 4 | zf << 6 | sf << 7 | of << 11
    return EXPLICIT, word, 0, 0 if zf else 1


Test = Callable[[Lazy], bool]

CONDITIONS: tuple[Test, ...] = (
    lambda fl: bool(fl[0].of(fl)),
    lambda fl: not fl[0].of(fl),
    lambda fl: bool(fl[0].cf(fl)),
    lambda fl: not fl[0].cf(fl),
    lambda fl: not fl[3],
    lambda fl: bool(fl[3]),
    lambda fl: fl[0].below_equal(fl),
    lambda fl: not fl[0].below_equal(fl),
    lambda fl: bool(fl[0].sf(fl)),
    lambda fl: not fl[0].sf(fl),
    lambda fl: bool(fl[0].pf(fl)),
    lambda fl: not fl[0].pf(fl),
    lambda fl: fl[0].less(fl),
    lambda fl: not fl[0].less(fl),
    lambda fl: fl[0].less_equal(fl),
    lambda fl: not fl[0].less_equal(fl),
)
"""Condition number (low 4 bits of the opcode of Jcc, SDM Vol. 2D, B.1.4.7) -> test."""
