"""No instruction that the interpreter claims is without a check."""

import subprocess
from pathlib import Path

import pytest
from iced_x86 import Code, Mnemonic
from opcode_recorder import recording

from minihv.verify.coverage import Level, classify, coverage
from minihv.verify.features import ALWAYS, BITS, claimed_codes, claimed_features, code_names, features_of
from minihv.verify.session import Session
from minihv.verify.subjects import LEFT_OUT

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def claimed() -> list[int]:
    with Session("interpret") as session:
        return claimed_codes(claimed_features(session))


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_nothing_is_missing() -> None:
    found = coverage(ROOT)
    assert len(found) > 1500
    assert [o.name for o in found if o.level is Level.MISSING] == []
    assert [o.name for o in found if o.level is Level.EXECUTED] == []


def test_every_claimed_opcode_has_a_builder(claimed: list[int]) -> None:
    from iced_x86 import Instruction

    from minihv.engine.interpret.table import load_table

    table = load_table()
    lost = []
    for code in claimed:
        insn = Instruction()
        insn.code = code  # type: ignore[assignment]
        if table.get(insn.mnemonic) is None and insn.mnemonic not in _UNDEFINED:
            lost.append(code_names()[code])
    assert not lost


_UNDEFINED = (Mnemonic.UD0, Mnemonic.UD1, Mnemonic.UD2)
"""An instruction without a builder is #UD."""


def test_levels(claimed: list[int]) -> None:
    by_name = {o.name: o for o in classify(claimed, frozenset((Code.HLT,)))}
    assert by_name["ADD_RM8_R8"].level is Level.CHECKED
    assert by_name["HLT"].level is Level.CHECKED
    assert by_name["WBINVD"].level is Level.EXECUTED
    assert by_name["CPUID"].level is Level.MISSING


def test_what_is_left_out_exists(claimed: list[int]) -> None:
    names = {code_names()[code] for code in claimed}
    heads = {name.partition("_")[0] for name in names}
    assert {word for word in LEFT_OUT if word not in names and word not in heads} == set()


def test_features_are_words_of_the_decoder() -> None:
    known = set().union(*(features_of(code) for code in code_names()))
    assert set(BITS) | set(ALWAYS) <= known


def test_the_recorder_notes_what_is_executed() -> None:
    with recording() as seen, Session("interpret") as session:
        claimed_features(session)
    assert Code.CPUID in seen
    assert Code.FXSAVE64_M512BYTE in seen
    assert Code.FSIN not in seen


@pytest.mark.slow
def test_the_script() -> None:
    done = subprocess.run(["scripts/opcode-coverage"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "missing 0" in done.stdout
