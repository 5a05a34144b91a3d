"""Which family page executes which instruction."""

from collections.abc import Callable
from importlib import import_module

from minihv.engine.interpret.site import Op, Site

Builder = Callable[[Site], Op]
Table = dict[int, Builder]

PAGES = (
    "moves", "arithmetic", "muldiv", "shifts", "bits", "bcd", "strings", "control", "flagops", "segments",
    "far", "ports", "system", "msrops",
)  # fmt: skip
"""The family pages, modules of this package with a `TABLE`."""


def load_table() -> Table:
    """All pages' tables in one. Raises ValueError where two pages claim the same mnemonic."""
    table: Table = {}
    for page in PAGES:
        for mnemonic, builder in import_module(f"minihv.engine.interpret.{page}").TABLE.items():
            if mnemonic in table:
                raise ValueError(f"mnemonic {mnemonic} is claimed twice, the second time by page {page!r}")
            table[mnemonic] = builder
    return table
