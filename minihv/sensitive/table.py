"""The table of `minihv sensitive` as text."""

import textwrap
from collections.abc import Iterator

from minihv.sensitive.conclusions import conclusions
from minihv.sensitive.instructions import CITATION, INSTRUCTIONS
from minihv.sensitive.model import NATIVE, SensitiveReport
from minihv.sensitive.words import seen_words

GAP = "  "
WIDTH = 110
NOTHING = "-"


def sensitive_table(report: SensitiveReport) -> str:
    """The whole text, ending in a newline."""
    lines = [*_header(report), "", *_rows(report), "", *_whys(), "", *_foot(report)]
    return "\n".join(lines) + "\n"


def _header(report: SensitiveReport) -> Iterator[str]:
    yield "Sensitive but not privileged: what each instruction saw, and whether it trapped."
    yield from textwrap.wrap(f"The list: {CITATION}.", WIDTH)
    if words := report.host.get("kvm_words"):
        yield from textwrap.wrap(f"This KVM is {words}.", WIDTH)


def _rows(report: SensitiveReport) -> Iterator[str]:
    head = ["instruction", *(subject.name for subject in report.subjects)]
    body = []
    for i in INSTRUCTIONS:
        line = [i.shown]
        for subject in report.subjects:
            seen = subject.seen.get(i.name)
            line.append(NOTHING if seen is None else seen_words(i.kind, seen, subject.where == NATIVE))
        body.append(line)
    widths = [max(len(line[column]) for line in (head, *body)) for column in range(len(head))]
    for line in (head, ["-" * width for width in widths], *body):
        yield GAP.join(value.ljust(width) for value, width in zip(line, widths, strict=True)).rstrip()


def _whys() -> Iterator[str]:
    yield "Why trap-and-emulate fails: run a guest's kernel outside ring 0, and"
    width = max(len(i.name) for i in INSTRUCTIONS)
    for i in INSTRUCTIONS:
        note = "" if i.original else " (not on the list of 2000)"
        yield from textwrap.wrap(
            f"{i.why}{note}",
            WIDTH,
            initial_indent=f"  {i.name:{width}}  ",
            subsequent_indent=" " * (width + 4),
        )


def _foot(report: SensitiveReport) -> Iterator[str]:
    for sentence in conclusions(report):
        yield from textwrap.wrap(sentence, WIDTH, initial_indent="* ", subsequent_indent="  ")
