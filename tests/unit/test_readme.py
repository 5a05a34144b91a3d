"""README.md tells the truth: its examples run and print what it says, its tables are the ones printed."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from minihv import errors
from minihv.cli.main import run
from minihv.machine.images import ALIASES, bundled_guests

README = (Path(__file__).parent.parent.parent / "README.md").read_text(encoding="utf-8")
REQUIRED = {"schema", "engine", "host", "guest", "outcome", "wall_ns", "vcpus", "kernel_counters"}
"""Keys that every reader of a report relies on. Others may come, and need not be told here."""
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks() -> list[tuple[str, str]]:
    """(language, contents) of every fenced block, in order."""
    return [(found[1], found[2]) for found in FENCE.finditer(README)]


def examples() -> list[tuple[str, str]]:
    """(code, output that the block behind it shows) of every Python example."""
    found = blocks()
    pairs = []
    for at, (language, code) in enumerate(found):
        if language == "python":
            assert found[at + 1][0] == "text", f"show what this prints:\n{code}"
            pairs.append((code, found[at + 1][1]))
    return pairs


def table(head: str) -> list[list[str]]:
    """The cells of the rows of the Markdown table whose first line begins with `head`."""
    lines = README[README.index(f"\n{head}") + 1 :].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_there_is_an_example_for_each_way_to_extend_a_machine() -> None:
    code = [code for code, _ in examples()]
    assert len(code) == 3
    for words in ("MachineConfig(", ".on_port(", ".attach("):
        assert sum(words in text for text in code) >= 1


@pytest.mark.parametrize(("code", "output"), examples())
def test_an_example_prints_what_it_shows(code: str, output: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout == output


def shown_commands() -> list[tuple[list[str], list[str]]]:
    """(words of the command, lines it is said to print) of every console block."""
    found = []
    for language, text in blocks():
        if language == "console":
            command, *lines = text.splitlines()
            assert command.startswith("$ minihv "), command
            found.append((shlex.split(command)[2:], lines))
    return found


def told(lines: list[str]) -> Iterator[str]:
    """Lines to look at: not which KVM and host it was and what its kernel counted, which differ from host to
    host, nor the order in which engines came in; [...] stands for what was left out."""
    for line in lines:
        if line.startswith(("Counted by the kernel", "counted by the engine")):
            return
        if not re.match(r"This KVM is|Host: |ATTENTION|kvm here is|  (slow|fast)est", line):
            yield line


@pytest.mark.kvm
@pytest.mark.parametrize(("words", "lines"), shown_commands())
def test_a_command_prints_the_lines_that_are_shown(
    words: list[str], lines: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    """Every line is there, numbers that are chance aside."""
    assert run(words) == 0
    printed = {shape(line) for line in capfd.readouterr().out.splitlines()}
    for line in told(lines):
        assert shape(line) in printed, line


def test_the_first_picture_is_what_the_demo_runs() -> None:
    script = (Path(__file__).parent.parent.parent / "scripts" / "run").read_text(encoding="utf-8")
    assert f"set -- {shlex.join(shown_commands()[0][0])}" in script


def shape(line: str) -> str:
    """A line without what differs from run to run: times and shares, and the width they take."""
    line = re.sub(r"^(times the fastest) .*", r"\1", line)
    return re.sub(r" +", " ", re.sub(r"[\d.]+( ?us| ms|%)", r"#\1", line))


def test_every_bundled_guest_is_listed() -> None:
    listed = {name for row in table("| guest |") for name in re.findall(r"`(\w+)`", row[0])}
    assert listed == {*bundled_guests(), *ALIASES}


def test_the_statuses_are_those_of_the_errors() -> None:
    rows = {row[0] for row in table("| status |")}
    statuses = {value for name, value in vars(errors).items() if name.startswith("EXIT_") and value}
    assert rows == {*map(str, statuses), "130, 143"}


def test_the_report_has_the_keys_that_are_listed() -> None:
    from minihv import Machine

    with Machine(timeout=60) as m:
        m.load("hello")
        told = m.run().to_dict()
    listed = {name for row in table("| key |") for name in re.findall(r"`(\w+)(?:\[\])?`", row[0])}
    assert listed <= set(told)
    assert listed >= REQUIRED
    assert {"sum", "min", "max", "p50", "p99"} <= set(told["exits"][0]["time_ns"])
    for row in table("| key |"):
        for name in re.findall(r"`(\w+)(?:\[\])?`", row[1]):
            known = {
                *told,
                *told["host"],
                *told["guest"],
                *told["outcome"],
                *told["vcpus"][0],
                *told["exits"][0],
            }
            known |= {*told["exits"][0]["time_ns"], *told["exits"][0]["sites"][0]}
            assert name in known | {"kvm", "auto", "KVM_GET_STATS_FD"}, name


def test_the_commands_are_those_there_are() -> None:
    from minihv.cli.main import COMMANDS

    listed = {name for row in table("| command |") for name in re.findall(r"`minihv (\w+)", row[0])}
    assert listed == set(COMMANDS)


def test_options_in_examples_are_known() -> None:
    from minihv.cli.run import command

    known = {option for parameter in command.params for option in parameter.opts}
    shown = [text for language, text in blocks() if language == "sh"]
    lines = [line for text in shown for line in text.splitlines() if "minihv run " in line]
    assert len(lines) > 5
    for line in lines:
        words = shlex.split(line.split("minihv run ", 1)[1], comments=True)
        for word in words:
            if word.startswith("-") and word != "-":
                assert word in known, line
