"""Any document that minihv writes, as a page: the schema says which."""

from collections.abc import Callable
from typing import Any

from minihv.report.check import parse, schema_of
from minihv.report.html import compare, nano
from minihv.report.html.run import run_page
from minihv.report.read import NAME, VERSION, report_from_dict

PAGES: dict[str, tuple[int, Callable[[Any, str], str]]] = {
    NAME: (VERSION, lambda data, where: run_page(report_from_dict(data, where))),
    compare.SCHEMA: (compare.VERSION, compare.compare_page),
    nano.SCHEMA: (nano.VERSION, nano.nano_page),
}
"""Schema name -> newest version that has a page, and what makes it."""


def document_page(text: str, where: str) -> str:
    """The page of a JSON document. Raises UsageError that begins with `where`."""
    data = parse(text, where)
    name = schema_of(data, where, {name: version for name, (version, _) in PAGES.items()})
    return PAGES[name][1](data, where)
