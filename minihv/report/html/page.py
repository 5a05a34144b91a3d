"""The page around a report: head, style, tables of facts and numbers."""

from collections.abc import Iterable, Sequence

from minihv.report.html.markup import Child, Html, h, join, lines, text
from minihv.report.html.style import style

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""Even if something slipped through: no script runs and nothing is fetched (Content Security Policy)."""


def page(title: str, children: Sequence[Child]) -> str:
    """The whole document."""
    head = join([
        h("meta", charset="utf-8"),
        h("meta", http_equiv="Content-Security-Policy", content=POLICY),
        h("meta", name="viewport", content="width=device-width, initial-scale=1"),
        h("title", title),
        Html(f"<style>{style()}</style>"),
    ])  # fmt: skip
    body = h("body", h("main", join(list(children))))
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n{body}</html>\n'


def section(title: str, *children: Child) -> Html:
    """A part of the page, with its heading."""
    return h("section", h("h2", title), *children)


def facts(rows: Iterable[tuple[str, Child]]) -> Html:
    """Names and values; those without a value are left out."""
    return h("dl", join([join([h("dt", name), h("dd", value)]) for name, value in rows if value]))


def table(columns: Sequence[str], rows: Iterable[Sequence[Child]]) -> Html:
    """A table; a column whose title begins with # holds numbers. On a phone each row is a small list."""
    plain = [column.removeprefix("#") for column in columns]
    kinds = ["n" if column.startswith("#") else "wide" for column in columns]
    head = h("tr", *(h("th", name, cls=kind if kind == "n" else None)
                     for name, kind in zip(plain, kinds, strict=True)))  # fmt: skip
    body = [
        h("tr", *(h("td", h("span", value), cls=kind, data_label=name)
                  for value, kind, name in zip(row, kinds, plain, strict=True)))
        for row in rows
    ]  # fmt: skip
    return h("table", h("thead", head), h("tbody", *body))


def preformatted(value: str) -> Html:
    """Text whose lines are kept."""
    return h("pre", lines(value))


def code(value: str) -> Html:
    """A name from a program."""
    return h("code", value)


def reproduce(command: str) -> Html | None:
    """The command that gives these numbers again."""
    if not command:
        return None
    return section("Run it again", preformatted(command))


def footer(words: str) -> Html:
    """The last line."""
    return h("footer", text(words))
