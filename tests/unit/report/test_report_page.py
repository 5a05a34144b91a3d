"""The HTML pages: complete, self-contained, and deaf to whatever a guest printed."""

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_samples import HOSTILE, sample

from minihv.errors import UsageError
from minihv.report.html.charts import colours, timeline
from minihv.report.html.documents import document_page
from minihv.report.html.markup import Html, h, text
from minihv.report.html.numbers import count, duration, log_ticks, nice_ticks, short, time_axis
from minihv.report.html.page import POLICY
from minihv.report.html.run import run_page
from minihv.report.model import Exits, Timeline

VOID = frozenset(("meta", "rect", "line", "path", "circle", "br"))
HARMLESS = frozenset((
    "html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "h3", "p", "dl", "dt", "dd", "pre",
    "section", "ul", "li", "span", "figure", "div", "svg", "line", "rect", "path", "circle", "text", "table",
    "thead", "tbody", "tr", "th", "td", "code", "footer",
))  # fmt: skip


class Reader(HTMLParser):
    """Collects elements, attributes and text, and that every element is closed where it was opened."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.text: list[str] = []
        self.ids: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text.append(data)


COMPARE: dict[str, Any] = {
    "schema": "minihv.compare/1", "guest": "hello", "runs": 3, "equal": False,
    "engines": [
        {"engine": name, "host": {"kvm_words": "PVM, slow", "cpu": "EPYC"},
         "outcome": {"reason": "exit", "status": 0, "detail": ""},
         "console": {"bytes": 6, "text": "Hello\n", "dropped": 0},
         "wall_ns": {"median": wall, "min": wall // 2, "max": wall * 3}, "ratio": wall / 1e6,
         "instructions": None if name == "kvm" else 117, "exits": {"io": 23}, "total_exits": 23,
         "guest_ns": 500, "vmm_ns": 300, "counters": {"exits": 23}}
        for name, wall in (("kvm", 1_000_000), ("interpret", 70_000_000))
    ],
    "differences": [{"engine": "interpret", "run": 2, "what": "console", "expected": "'a'", "found": "'b'",
                     "line": 1, "column": 3}],
    "passed_over": ["translate: not here"], "sentences": ["One.", "Two."], "command": "minihv compare hello",
}  # fmt: skip
SPREAD = {"median": 305.5, "mad": 3.0, "min": 300.0, "max": 400.0}
CELL = {"why": "", "cycles": SPREAD, "ns": SPREAD, "count": 9, "rounds": [1.0], "exits": 1.0, "kernel": {}}
NOTHING = {**CELL, "why": "gives up", "cycles": None, "ns": None}
NANO: dict[str, Any] = {
    "schema": "minihv.nano/1", "command": "minihv nano", "host": {"kvm_words": "PVM, slow", "cpu": "EPYC"},
    "method": {"loop_ns": 10_000_000, "rounds": 7, "row_ns": 2_000_000_000}, "cycle_hz": 2.6e9,
    "subjects": ["native", "kvm"], "passed_over": {"translate": "not here"}, "notes": ["A note."],
    "rows": [
        {"name": "in", "ring": 0, "what": "in al, 0x80", "native": "",
         "published": {"native": "3209", "software": "~214", "hardware": "15826"}, "cells": {"kvm": CELL}},
        {"name": "cpuid", "ring": 0, "what": "cpuid leaf 0", "native": "the same", "published": None,
         "cells": {"native": {**CELL, "cycles": {**SPREAD, "median": -3.0, "min": -5.0}}, "kvm": NOTHING}},
    ],
}  # fmt: skip


def documents() -> list[tuple[str, str]]:
    return [
        ("run", json.dumps(sample().to_dict())),
        ("compare", json.dumps(COMPARE)),
        ("nano", json.dumps(NANO)),
    ]


@pytest.mark.parametrize(("kind", "document"), documents())
def test_a_page_is_self_contained_and_well_formed(kind: str, document: str) -> None:
    page = document_page(document, f"{kind}.json")
    read = Reader(page)
    assert read.tags <= HARMLESS
    assert ("content", POLICY) in read.attributes
    links = [(n, v) for n, v in read.attributes if n in ("src", "href", "style", "srcset", "action")]
    assert links == []
    assert not any(name.startswith("on") for name, _ in read.attributes)
    urls = set(re.findall(r"[a-z]+://[^\s\"'<]+", page)) | set(re.findall(r"url\([^)]*\)|@import", page))
    assert urls == {"http://www.w3.org/2000/svg"}, "the name of the SVG language, which nobody fetches"
    assert "prefers-color-scheme:dark" in page
    assert "@media print" in page
    assert "svg" in read.tags


def hostile(value: Any) -> Any:
    """The same document with every text replaced but what the form itself fixes."""
    if isinstance(value, dict):
        return {k: v if k == "schema" else hostile(v) for k, v in value.items()}
    if isinstance(value, list):
        return [hostile(v) for v in value]
    return value + HOSTILE if isinstance(value, str) else value


@pytest.mark.parametrize(("kind", "document"), documents())
def test_what_others_wrote_is_shown_and_not_obeyed(kind: str, document: str) -> None:
    data = json.loads(document)
    bent = hostile(data)
    if kind == "nano":  # cells go by their subjects' names
        for row in bent["rows"]:
            row["cells"] = {name + HOSTILE: cell for name, cell in row["cells"].items()}
    page = document_page(json.dumps(bent), "bent.json")
    read = Reader(page)
    assert read.tags <= HARMLESS, "nothing of it became an element"
    assert "<script>alert(1)</script>" in "".join(read.text), "it is shown as text"
    assert "\\x1b[31m" in page, "control characters are written out"
    for forbidden in ("\x1b", "\x07", "\u202e"):
        assert forbidden not in page
    assert not any(name.startswith("on") for name, _ in read.attributes)


@given(st.text())
def test_no_text_becomes_markup(value: str) -> None:
    assert not set(text(value)) & set("<>\"'")
    element = h("p", value, title=value)
    read = Reader(element)
    assert read.tags == {"p"}
    assert [name for name, _ in read.attributes] == ["title"]
    assert all(c.isprintable() for c in "".join(read.text))
    page = run_page(sample(value))
    page.encode()  # no lone surrogates
    assert Reader(page).tags <= HARMLESS


def test_everything_that_a_report_has_is_on_its_page() -> None:
    words = "".join(Reader(run_page(sample())).text)
    for told in (
        "hello on kvm", "status 3", "This KVM is PVM, slow.", "minihv run hello", "2 CPUs, 64 MiB",
        "Passed over", "exits per second", "vCPU 0: 20 exits", "vCPU 1: 7 exits", "io: 22 exits",
        "out 0x3f8 byte serial.THR",
        "putchello+0x7", "hello.c:7", "0x100012", "The kernel's own exits", "VMX CPUID", "9 lost", "io_exits",
        "Autopsy", "900",
    ):  # fmt: skip
        assert told in words, told
    assert "zero" not in words, "counters that stayed at 0 say nothing"


def test_a_report_of_almost_nothing_has_a_page_too() -> None:
    empty = sample(exits=Exits(), vcpus=(), kernel_counters={}, timeline=None, kernel_exits=None, autopsy="",
                   command="", guest={}, host={}, wall_ns=0)  # fmt: skip
    words = "".join(Reader(run_page(empty)).text)
    assert "The guest never came to minihv." in words
    assert "this report has no timeline" in words
    assert "Run it again" not in words


def test_a_notebook_gets_a_fragment() -> None:
    fragment = sample(HOSTILE)._repr_html_()
    read = Reader(fragment)
    assert read.tags <= HARMLESS | {"strong"}
    assert fragment.startswith("<div>")
    assert "<table>" in fragment
    assert "\x1b" not in fragment


def test_rare_kinds_share_a_colour_and_a_row() -> None:
    names = [f"kind{n}" for n in range(12)]
    line = Timeline(1000, dict.fromkeys(names, (1, 2)))
    report = sample(timeline=line, exits=Exits())
    colour = colours(report)
    assert sorted(colour.values()) == [0, 1, 2, 3, 4, 5, 6, 7, 7, 7, 7, 7]
    legend = "".join(Reader(timeline(line, colour)).text)
    assert "kind6" in legend
    assert "kind7" not in legend
    assert legend.count("other kinds") == 1


@pytest.mark.parametrize(
    ("change", "tells"),
    [
        ({"engines": []}, "at least one engine at engines"),
        ({"engines": [7]}, "engines[0], found 7"),
        ({"sentences": "no"}, "a list of texts at sentences"),
        ({"schema": "minihv.compare/2"}, "found version 2"),
    ],
)
def test_bent_comparisons_are_refused(change: dict[str, Any], tells: str) -> None:
    with pytest.raises(UsageError, match=r"^c\.json: expected") as caught:
        document_page(json.dumps({**COMPARE, **change}), "c.json")
    assert tells in str(caught.value)


def test_numbers_in_words() -> None:
    assert [duration(n) for n in (0, 7, 999, 1000, 12_345, 999_900, 2_500_000_000)] == [
        "0 ns", "7 ns", "999 ns", "1 µs", "12.3 µs", "1000 µs", "2.50 s",
    ]  # fmt: skip
    assert count(1234567) == "1,234,567"
    assert [short(n) for n in (0, 950, 1500, 2e7)] == ["0", "950", "1.50 k", "20 M"]
    assert Html("<b>") == text(Html("<b>"))


@given(st.floats(1e-3, 1e15), st.integers(1, 10))
def test_ticks_are_round_and_inside(top: float, wanted: int) -> None:
    ticks = nice_ticks(top, wanted)
    assert ticks[0] == 0
    assert 1 <= len(ticks) <= wanted + 1
    assert ticks[-1] <= top * (1 + 1e-6)
    ticks, label, unit = time_axis(top, wanted)
    assert unit in ("ns", "µs", "ms", "s")
    assert all(len(label(tick)) <= 8 for tick in ticks)


def test_powers_of_ten_on_a_logarithmic_axis() -> None:
    assert log_ticks(512, 1 << 20) == [1000, 10_000, 100_000, 1_000_000]
