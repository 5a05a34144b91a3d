"""Any document that minihv writes, as a page: the schema says which."""

from minihv.report.check import parse, schema_of
from minihv.report.html.run import run_page
from minihv.report.read import NAME, VERSION, report_from_dict

SCHEMAS = {NAME: VERSION}
"""Schema name -> newest version that has a page."""


def document_page(text: str, where: str) -> str:
    """The page of a JSON document. Raises UsageError that begins with `where`."""
    data = parse(text, where)
    schema_of(data, where, SCHEMAS)
    return run_page(report_from_dict(data, where))
