"""Coverage by opcode: every code of the decoder that the claimed CPUID brings, and how far it is checked.

checked   the random tester compares it with the host's processor (and it does something in ring 3), or a
          unit test of the interpreter executes it
executed  only as a fault: the random tester sees it refused in ring 3
missing   neither
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import NamedTuple

import click
from iced_x86 import OpCodeInfo

from minihv.errors import CannotStart
from minihv.verify.features import claimed_codes, claimed_features, code_names
from minihv.verify.session import Session
from minihv.verify.subjects import left_out, subjects


class Level(Enum):
    """How far one opcode is covered."""

    CHECKED = "executed and checked"
    EXECUTED = "executed"
    MISSING = "missing"


class Opcode(NamedTuple):
    """One code of the decoder."""

    name: str
    level: Level
    by: str
    """What covers it, or why the random tester leaves it out."""


def classify(codes: Iterable[int], in_tests: frozenset[int]) -> list[Opcode]:
    """The level of each of `codes`; `in_tests` are those that unit tests executed."""
    names = code_names()
    codes = list(codes)
    tried = {subject.code for subject in subjects(codes)}
    return [_opcode(code, names[code], code in tried, code in in_tests) for code in codes]


def _opcode(code: int, name: str, tried: bool, in_tests: bool) -> Opcode:
    info = OpCodeInfo(code)  # type: ignore[arg-type]
    refused = info.is_privileged or info.must_be_cpl0
    covers = [
        *(["random tester"] if tried and not refused else []),
        *(["unit tests"] if in_tests else []),
    ]
    if covers:
        return Opcode(name, Level.CHECKED, ", ".join(covers))
    if tried:
        return Opcode(name, Level.EXECUTED, "random tester: refused in ring 3")
    return Opcode(name, Level.MISSING, left_out(name) or "")


def executed_by_tests(root: Path) -> frozenset[int]:
    """Run the interpreter's quick unit tests, and note what they execute. Raises CannotStart if they fail."""
    plugin = root / "tests" / "conformance"
    with tempfile.TemporaryDirectory() as place:
        target = Path(place, "codes.json")
        environment = {**os.environ, "MINIHV_OPCODES": str(target), "PYTHONPATH": str(plugin)}
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "opcode_recorder", "-p", "no:cacheprovider",
             "-m", "not slow", "tests/unit/interpret"],
            cwd=root, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode or not target.exists():
            raise CannotStart(
                f"expected the interpreter's unit tests to pass, they do not:\n{done.stdout[-2000:]}"
            )
        return frozenset(json.loads(target.read_text(encoding="utf-8")))


def coverage(root: Path, engine: str = "interpret") -> list[Opcode]:
    """Every opcode that `engine` claims, by level."""
    with Session(engine) as session:
        codes = claimed_codes(claimed_features(session))
    return classify(codes, executed_by_tests(root))


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("root", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--all", "everything", is_flag=True, help="List every opcode, not only what is not checked.")
def command(root: Path, everything: bool) -> int:
    """List the opcodes that the interpreter claims: executed and checked, executed, or missing.

    ROOT is the checkout with the tests. Ends with 1 where an opcode is missing.
    """
    found = coverage(root)
    for opcode in sorted(found, key=lambda one: (one.level.value, one.name)):
        if everything or opcode.level is not Level.CHECKED:
            print(f"{opcode.level.value:22} {opcode.name:36} {opcode.by}")
    counts = {level: sum(o.level is level for o in found) for level in Level}
    print(f"{len(found)} opcodes: " + ", ".join(f"{level.value} {count}" for level, count in counts.items()))
    return 1 if counts[Level.MISSING] else 0


def main() -> None:
    """Entry point of the script."""
    try:
        status = command.main(standalone_mode=False)
    except CannotStart as error:
        print(f"opcode-coverage: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    except click.ClickException as error:
        print(f"opcode-coverage: {error.format_message()}", file=sys.stderr)
        sys.exit(2)
    sys.exit(status)
