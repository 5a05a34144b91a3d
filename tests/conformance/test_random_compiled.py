"""The interpreter's compiled blocks against this host's processor: random cases, each block hot at once."""

from collections.abc import Iterator
from typing import Any

import pytest
from iced_x86 import Code, FlowControl, Instruction, Mnemonic

from minihv.engine.interpret.hottemplates import TEMPLATES
from minihv.errors import EngineUnavailable
from minihv.verify import layout as at
from minihv.verify.allowances import ALLOWANCES
from minihv.verify.campaign import Campaign
from minihv.verify.case import Case
from minihv.verify.compare import differences
from minihv.verify.generate import Generator, Subject
from minihv.verify.random_test import describe
from minihv.verify.session import Session


@pytest.fixture(scope="module")
def campaign() -> Iterator[Campaign]:
    try:
        found = Campaign()
    except EngineUnavailable as error:
        pytest.skip(str(error))
    with found:
        yield found


def goes_on(subject: Subject) -> bool:
    """It has a template, and leads to what follows: there the INT3 waits.

    Not PUSHF, which sees the trap flag, nor MOV SS, which holds the trap back for one instruction more.
    """
    insn = Instruction()
    insn.code = subject.code  # type: ignore[assignment]
    if insn.mnemonic == Mnemonic.PUSHF or insn.code in (
        Code.MOV_SREG_RM16,
        Code.MOV_SREG_R32M16,
        Code.MOV_SREG_R64M16,
    ):
        return False
    return insn.mnemonic in TEMPLATES and insn.flow_control == FlowControl.NEXT


def wrong(campaign: Campaign, count: int, seed: int) -> tuple[list[str], int]:
    """What differs in `count` cases, and how many blocks were compiled."""
    chosen = [s for s in campaign.subjects if goes_on(s)]
    generator = Generator(frozenset(chosen), seed)
    cases = [c for n in range(count) if (c := generator.case(chosen[n % len(chosen)])) is not None]
    cases = [c for c in cases if c.rip + 32 < at.CODE + 0x2000]  # else there is no room for the INT3
    vcpus: list[Any] = []

    def heat(vcpu: Any) -> None:
        vcpu.blocks.heat = 1
        vcpus.append(vcpu)

    lines = []
    with Session("interpret", step=False, prepare=heat) as engine:
        for bits, sessions in campaign.judges.items():
            part: list[Case] = [case for case in cases if case.bits == bits]
            if part and sessions:
                for case, a, b in zip(part, sessions[0].run(part), engine.run(part), strict=True):
                    found = differences(case, sessions[0].name, a, b, ALLOWANCES)
                    lines += [f"{describe(case)}: {'; '.join(found)} --case {case.to_hex()}"] if found else []
        compiled = sum(vcpu.blocks.compiled for vcpu in vcpus)
    return lines, compiled


def test_compiled_blocks(campaign: Campaign) -> None:
    lines, compiled = wrong(campaign, 2000, seed=1)
    assert not lines, "\n".join(lines)
    assert compiled > 1000


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_many_compiled_blocks(campaign: Campaign) -> None:
    lines, compiled = wrong(campaign, 40_000, seed=2)
    assert not lines, "\n".join(lines[:20])
    assert compiled > 20_000
