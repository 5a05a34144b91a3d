"""Reports read back: everything survives, and whatever is no report is refused in one sentence."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from report_samples import HOSTILE, REPORTS, sample

from minihv.errors import EXIT_USAGE, UsageError
from minihv.report.model import Exits, Report
from minihv.report.read import read_report


@settings(max_examples=60)
@given(REPORTS)
def test_a_report_survives_its_json(report: Report) -> None:
    again = read_report(json.dumps(report.to_dict()), "a.json")
    assert again == report
    assert isinstance(again, Report)
    assert isinstance(again.exits, Exits)
    assert again.to_dict() == report.to_dict()


def test_a_hostile_guests_report_survives_too() -> None:
    assert read_report(json.dumps(sample(HOSTILE).to_dict()), "a.json") == sample(HOSTILE)


def test_from_dict_is_the_same_without_a_file() -> None:
    assert Report.from_dict(sample().to_dict()) == sample()


def test_what_was_added_to_version_1_later_may_be_missing_and_unknown_keys_are_ignored() -> None:
    old = sample().to_dict()
    for key in ("command", "timeline", "kernel_exits", "passed_over", "autopsy"):
        del old[key]
    for row in old["exits"]:
        for site in row["sites"]:
            del site["source"]
    old["invented_by_a_later_version"] = {"deep": [1, 2]}
    report = Report.from_dict(old)
    assert (report.command, report.timeline, report.kernel_exits, report.passed_over) == ("", None, None, ())
    assert report.total_exits == sample().total_exits
    assert report.exits[0].sites[0].source == ""


def refused(text: str) -> str:
    with pytest.raises(UsageError) as caught:
        read_report(text, "run.json")
    assert caught.value.exit_status == EXIT_USAGE
    message = str(caught.value)
    assert message.startswith("run.json: expected ")
    assert "found" in message
    assert ";" in message, "what to do is missing"
    assert message.isprintable(), "what a foreign file holds must not reach the terminal"
    return message


GOOD = json.dumps(sample().to_dict(), indent=1)


@pytest.mark.parametrize("cut", [1, 40, 400, len(GOOD) // 2, len(GOOD) - 1])
def test_a_truncated_report_is_refused(cut: int) -> None:
    assert "breaks off in line" in refused(GOOD[:cut])


@pytest.mark.parametrize(
    ("text", "tells"),
    [
        ("", "an empty file"),
        ("  \n", "an empty file"),
        ("not json", "something else in line 1, column 1"),
        ("[1, 2]", "a list of 2"),
        ("null", "null"),
        ('"minihv.report/1"', "'minihv.report/1'"),
        ("{}", "one without a schema"),
        ('{"schema": 7}', "one without a schema"),
        ('{"schema": "perf.data/3"}', "'perf.data/3'"),
        ('{"schema": "minihv.compare/1"}', "'minihv.compare/1'"),
        ('{"schema": "minihv.report/0"}', "'minihv.report/0'"),
        ('{"schema": "minihv.report/one"}', "'minihv.report/one'"),
        ('{"schema": "\\u001b[31m/1"}', "x1b[31m/1"),
        ('{"schema": "minihv.report/2"}', "found version 2; read it with a newer minihv"),
        ('{"schema": "minihv.report/1"}', "outcome, found nothing there"),
        ("[" * 100_000, "nobody wrote by hand"),
        ('{"schema": ' + "9" * 5000 + "}", "nobody wrote by hand"),
    ],
)
def test_foreign_and_newer_documents_are_refused(text: str, tells: str) -> None:
    assert tells in refused(text)


def spoil(change: Callable[[Any], None]) -> str:
    data = sample().to_dict()
    change(data)
    return refused(json.dumps(data))


@pytest.mark.parametrize(
    ("change", "tells"),
    [
        (lambda d: d.update(wall_ns="soon"), "a whole number of at most 64 bits at wall_ns, found 'soon'"),
        (lambda d: d.update(wall_ns=-1), "at wall_ns, found -1"),
        (lambda d: d.update(wall_ns=1 << 64), "at wall_ns, found 18446744073709551616"),
        (lambda d: d.update(wall_ns=True), "at wall_ns, found True"),
        (lambda d: d.update(wall_ns=1.5), "at wall_ns, found 1.5"),
        (lambda d: d.update(engine=None), "a text at engine, found null"),
        (lambda d: d.update(exits={}), "a list at exits, found a JSON object"),
        (lambda d: d.update(vcpus=[3]), "a JSON object at vcpus[0], found 3"),
        (lambda d: d["vcpus"][1].pop("kicks"), "at vcpus[1].kicks, found nothing"),
        (lambda d: d["exits"][0].update(count=3), "the histogram's sum, at least 1 (22) at exits[0].count"),
        (lambda d: d["exits"][2]["time_ns"].update(histogram=[0] * 65), "at most 64 whole numbers"),
        (
            lambda d: d["exits"][0]["sites"][0].update(symbol=["x"]),
            "at exits[0].sites[0].symbol, found a list",
        ),
        (lambda d: d.update(kernel_counters={"exits": "many"}), "at kernel_counters.exits, found 'many'"),
        (lambda d: d["guest"].update(cpus=[]), "at guest.cpus, found a list of 0"),
        (lambda d: d["host"].update(cpu=7), "at host.cpu, found 7"),
        (lambda d: d.update(passed_over="none"), "a list of texts at passed_over"),
        (lambda d: d["timeline"].update(bucket_ns=0), "1 or more at timeline.bucket_ns"),
        (lambda d: d["timeline"]["exits"].update(io=[1]), "equally long lists at timeline.exits"),
        (lambda d: d["timeline"]["exits"].update(io=[0] * 5000), "at most 4096 whole numbers"),
        (lambda d: d["kernel_exits"]["reasons"][0].update(to_user=-3), "reasons[0].to_user, found -3"),
    ],
)
def test_a_bent_value_is_named_with_its_place(change: Callable[[Any], None], tells: str) -> None:
    assert tells in spoil(change)


FREE = ("host", "guest", "kernel_counters", "exits")
"""Objects (the timeline's exits among them) whose keys are the writer's own."""
OPTIONAL = {"command", "timeline", "kernel_exits", "passed_over", "autopsy", "source"}


def keys(node: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of every key that must be there; of a list, of its first element's."""
    if isinstance(node, list):
        if node:
            yield from keys(node[0], (*path, 0))
        return
    for key, value in node.items() if isinstance(node, dict) else ():
        if key not in OPTIONAL and (not path or path[-1] not in FREE):
            yield (*path, key)
        yield from keys(value, (*path, key))


def told_but_not_read(path: tuple[str | int, ...]) -> bool:
    """What follows from other keys."""
    return path[-1] in ("p50", "p99", "schema") or path[:1] + path[2:] == ("exits", "detail")


@pytest.mark.parametrize("path", [p for p in keys(sample().to_dict()) if not told_but_not_read(p)])
def test_a_missing_key_is_named(path: tuple[str | int, ...]) -> None:
    data: Any = sample().to_dict()
    inner = data
    for step in path[:-1]:
        inner = inner[step]
    del inner[path[-1]]
    assert f"{path[-1]}, found nothing there" in refused(json.dumps(data))
