"""Which family page executes which instruction."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from minihv.engine.interpret.decode import Mnemonic
from minihv.engine.interpret.site import Op, Site

Builder = Callable[[Site], Op]
Table = dict[int, Builder]
Also = dict[int, dict[int, Builder]]
"""Mnemonic -> iced-x86 code -> builder."""

PAGES = (
    "moves", "stack", "arithmetic", "muldiv", "shifts", "bits", "bcd", "strings", "control", "flagops",
    "segments", "far", "fastcalls", "ports", "system", "msrops",
)  # fmt: skip
"""The family pages that every guest needs, modules of this package with a `TABLE`."""

VECTOR_PAGES = (
    "sse_moves", "sse_integer", "sse_shuffle", "sse_float", "sse_convert", "sse_strings", "sse_control",
    "x87_moves", "x87_arithmetic", "x87_math", "x87_control", "xsave",
)  # fmt: skip
"""The pages of x87, MMX and SSE: imported (some 40 ms) when a guest has the first such instruction.

A page may have an `ALSO` too: encodings that share their mnemonic with an instruction of another page.
"""


class PageTable(dict[int, Builder]):
    """Mnemonic -> builder. Asked for a mnemonic that none of `PAGES` has, it takes in `VECTOR_PAGES`."""

    def __init__(self) -> None:
        super().__init__()
        self._complete = False
        self._take(PAGES)
        for mnemonic in SHARED:
            self[mnemonic] = self._string_or_vector(self[mnemonic])

    def get(self, mnemonic: int, default: Any = None) -> Any:
        """The builder, or `default` for an instruction that does not exist here."""
        found = super().get(mnemonic)
        if found is None and not self._complete:
            self.complete()
            found = super().get(mnemonic)
        return default if found is None else found

    def complete(self) -> None:
        """Take in all pages."""
        if not self._complete:
            self._complete = True
            self._take(VECTOR_PAGES)

    def _take(self, names: tuple[str, ...]) -> None:
        """Raises ValueError where two pages claim the same mnemonic."""
        for name in names:
            page = import_module(f"minihv.engine.interpret.{name}")
            for mnemonic, builder in page.TABLE.items():
                if mnemonic in self:
                    raise ValueError(f"mnemonic {mnemonic} is claimed twice, the second time by {name!r}")
                self[mnemonic] = builder
            for mnemonic, by_code in getattr(page, "ALSO", {}).items():
                self[mnemonic] = _by_code(by_code, self[mnemonic])

    def _string_or_vector(self, string: Builder) -> Builder:
        def build(s: Site) -> Op:
            if s.insn.is_string_instruction:
                return string(s)
            self.complete()
            return self[s.insn.mnemonic](s)

        return build


SHARED = (Mnemonic.MOVSD, Mnemonic.CMPSD)
"""String instructions whose mnemonics SSE2 has used again."""


def load_table() -> Table:
    """All pages' tables in one."""
    return PageTable()


def _by_code(by_code: dict[int, Builder], other: Builder) -> Builder:
    """Some encodings of a mnemonic belong to another page."""

    def build(s: Site) -> Op:
        return by_code.get(s.insn.code, other)(s)

    return build
