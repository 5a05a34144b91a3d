"""`minihv nano`: tiny goals, no judgement about time."""

import json
from pathlib import Path

import pytest
from cli_support import USAGE, Typed, assert_one_sentence, works

QUICK = ("--rounds", "1", "--goal-ms", "0.01")


def test_one_row_on_every_engine(typed: Typed, tmp_path: Path) -> None:
    file, page = tmp_path / "nano.json", tmp_path / "nano.html"
    done = typed("nano", *QUICK, "--only", "cpuid", "--only", "in", "--json", file, "--html", page)
    assert (done.status, done.err) == (0, "")
    data = json.loads(file.read_text())
    assert [row["name"] for row in data["rows"]] == ["cpuid", "in"]
    assert data["command"] in done.out
    for engine in ("kvm", "interpret"):
        if works(engine):
            port = data["rows"][1]["cells"][engine]
            assert port["why"] == ""
            assert port["exits"] == pytest.approx(1.0)
            assert port["ns"]["median"] is not None
        else:
            assert engine in data["passed_over"]
    assert "3209" in done.out
    html = page.read_text()
    assert html.startswith("<!DOCTYPE html>")
    assert "<svg" in html


@pytest.mark.skipif(not works("interpret"), reason="the interpreter does not work here")
def test_every_row_runs_on_the_interpreter(typed: Typed) -> None:
    done = typed("nano", *QUICK, "--engines", "interpret", "--no-native", "--json", "-")
    data = json.loads(done.out)
    assert data["subjects"] == ["interpret"]
    assert {row["name"]: row["cells"]["interpret"]["why"] for row in data["rows"]} == {
        row["name"]: "" for row in data["rows"]
    }


@pytest.mark.slow
@pytest.mark.skipif(not works("kvm"), reason="kvm does not work here")
def test_every_row_on_kvm_has_a_number_or_a_reason(typed: Typed) -> None:
    done = typed("nano", *QUICK, "--engines", "kvm", "--no-native", "--json", "-")
    data = json.loads(done.out)
    for row in data["rows"]:
        cell = row["cells"]["kvm"]
        assert cell["why"] or cell["cycles"] is not None, row["name"]
        assert not cell["why"].startswith("did not finish"), cell["why"]


def test_which_kvm_stands_on_top(typed: Typed) -> None:
    if not works("kvm"):
        pytest.skip("kvm does not work here")
    done = typed("nano", *QUICK, "--only", "in", "--engines", "kvm", "--no-native", "--json", "-")
    host = json.loads(done.out)["host"]
    table = typed("nano", *QUICK, "--only", "in", "--engines", "kvm", "--no-native").out
    assert table.startswith("!! THIS KVM IS NOT BARE") == (host["kvm"] not in ("vt-x", "amd-v"))


@pytest.mark.parametrize(
    ("arguments", "tells"),
    [
        (("--only", "jump"), ("expected a row of syscall, in,", "'jump'")),
        (("--engines", "bochs"), ("expected engines of kvm", "'bochs'")),
        (("--engines", ","), ("expected engines of kvm", "none")),
        (("--rounds", "0"), ("--rounds",)),
        (("--goal-ms", "0"), ("--goal-ms",)),
    ],
)
def test_what_cannot_be_meant(typed: Typed, arguments: tuple[str, ...], tells: tuple[str, ...]) -> None:
    assert_one_sentence(typed("nano", *arguments), USAGE, tells)


def test_a_file_that_cannot_be_written_costs_no_run(typed: Typed, tmp_path: Path) -> None:
    done = typed("nano", "--json", tmp_path / "none" / "x.json")
    assert_one_sentence(done, 240, ("cannot be written",))
