"""Which family page executes which instruction."""

from collections.abc import Callable
from importlib import import_module

from minihv.engine.interpret.site import Op, Site

Builder = Callable[[Site], Op]
Table = dict[int, Builder]
Also = dict[int, dict[int, Builder]]
"""Mnemonic -> iced-x86 code -> builder."""

PAGES = (
    "moves", "arithmetic", "muldiv", "shifts", "bits", "bcd", "strings", "control", "flagops", "segments",
    "far", "ports", "system", "msrops", "sse_moves", "sse_integer", "sse_shuffle", "sse_float", "sse_convert",
    "sse_strings", "sse_control", "x87_moves", "x87_arithmetic", "x87_math", "x87_control", "xsave",
)  # fmt: skip
"""The family pages, modules of this package with a `TABLE`.

A page may have an `ALSO` too: encodings that share their mnemonic with an instruction of another page.
"""


def load_table() -> Table:
    """All pages' tables in one. Raises ValueError where two pages claim the same mnemonic."""
    pages = [import_module(f"minihv.engine.interpret.{page}") for page in PAGES]
    table: Table = {}
    for page in pages:
        for mnemonic, builder in page.TABLE.items():
            if mnemonic in table:
                raise ValueError(f"mnemonic {mnemonic} is claimed twice, the second time by {page.__name__}")
            table[mnemonic] = builder
    for page in pages:
        for mnemonic, by_code in getattr(page, "ALSO", {}).items():
            table[mnemonic] = _by_code(by_code, table[mnemonic])
    return table


def _by_code(by_code: dict[int, Builder], other: Builder) -> Builder:
    """Some encodings of a mnemonic belong to another page."""

    def build(s: Site) -> Op:
        return by_code.get(s.insn.code, other)(s)

    return build
