"""The interpreter against this host's processor: random instructions with random state, and old failures."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from regressions import REGRESSIONS

from minihv.errors import EngineUnavailable, UsageError
from minihv.verify import native_code, stubs
from minihv.verify.campaign import Campaign
from minihv.verify.case import Case
from minihv.verify.random_test import describe
from minihv.verify.shrink import shrink
from minihv.verify.subjects import LEFT_OUT

_ALIASES = {"movabs": "mov", "jz": "je"}
"""GNU as's words for what the decoder calls otherwise."""
QUICK, SLOW = 2_000, 26_000


@pytest.fixture(scope="module")
def campaign() -> Iterator[Campaign]:
    try:
        found = Campaign()
    except EngineUnavailable as error:
        pytest.skip(str(error))
    with found:
        yield found


def told(campaign: Campaign, cases: int, seed: int) -> str:
    """What differs in a campaign of `cases`; empty where nothing does."""
    tally = campaign.run(cases, seed, stop_after=10)
    assert tally.cases == cases or tally.failures
    return "\n".join(
        "\n    ".join((f"{f.name}: {describe(f.case)}", *f.lines, f"--case {f.case.to_hex()}"))
        for f in tally.failures
    )


def test_two_thousand_cases(campaign: Campaign) -> None:
    assert not told(campaign, QUICK, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_instruction_ten_times(campaign: Campaign) -> None:
    """At least 20 000 cases, and all subjects ten times."""
    cases = max(SLOW, 10 * len(campaign.subjects))
    assert not told(campaign, cases, seed=2)


@pytest.mark.parametrize(("what", "line"), REGRESSIONS, ids=[what for what, _ in REGRESSIONS])
def test_regression(campaign: Campaign, what: str, line: str) -> None:
    case = Case.from_hex(line)
    if not campaign.judges[case.bits]:
        pytest.skip(f"nobody here judges {case.bits}-bit code")
    assert not campaign.differs(case), f"{what}: {describe(case)}"


def test_every_claimed_ring_3_instruction_is_tried_or_has_a_reason(campaign: Campaign) -> None:
    if campaign.missing_here - {"PKU"}:
        pytest.skip(f"this processor lacks {sorted(campaign.missing_here)}")
    tally = campaign.run(len(campaign.subjects), seed=3)
    untried = set(campaign.subjects) - set(tally.by_subject)
    assert len(campaign.subjects) > 1000
    assert not {campaign.names[s.code] for s in untried if s.bits == 64}
    assert all(LEFT_OUT.values())


def test_a_difference_is_seen_and_shrinks(campaign: Campaign) -> None:
    """The tester itself: an engine that gets ADC wrong is found out, by a case of one line."""
    tally = campaign.run(3, seed=4, only=("ADC_RM8_R8",))
    assert not tally.failures
    source = campaign.run  # the same cases, but with results of ours that are off by one
    engine = campaign.engine
    right = engine.run

    def wrong(cases):  # type: ignore[no-untyped-def]
        return [r if isinstance(r, str) else r._replace(rflags=r.rflags ^ 1) for r in right(cases)]

    engine.run = wrong  # type: ignore[method-assign]
    try:
        failures = source(3, seed=4, only=("ADC_RM8_R8",)).failures
        assert len(failures) >= 3
        small = shrink(failures[0].case, lambda case: bool(campaign.differs(case)))
        assert any(line.startswith("rflags:") for line in campaign.differs(small))
        assert len(small.to_hex()) < len(failures[0].case.to_hex())
        assert Case.from_hex(small.to_hex()) == small
    finally:
        engine.run = right  # type: ignore[method-assign]


@pytest.mark.parametrize("line", ["", "00", "zz", "78da63000000010001"])
def test_a_bad_case_is_refused_in_one_sentence(line: str) -> None:
    with pytest.raises(UsageError, match="expected a case as scripts/random-test prints it"):
        Case.from_hex(line)


def test_stub_code_is_what_its_comments_say() -> None:
    """Every row of machine code decodes to the instruction beside it."""
    from iced_x86 import Decoder, Formatter, FormatterSyntax

    for module in (stubs, native_code):
        source = Path(str(module.__file__)).read_text(encoding="utf-8")
        rows = [line.strip() for line in source.splitlines() if line.startswith('    "') and "#" in line]
        assert len(rows) > 60
        assert bytes.fromhex("".join(row.split('"')[1] for row in rows)) == module.CODE
        for row in rows:
            raw, text = bytes.fromhex(row.split('"')[1]), row.split("# ")[1]
            insn = Decoder(64, raw).decode()
            assert insn.len == len(raw), row
            decoded = Formatter(FormatterSyntax.INTEL).format(insn).split()
            mnemonic = decoded[1] if decoded[0] == "rep" else decoded[0]
            written = text.removeprefix("rep ").split()[0]
            assert _ALIASES.get(written, written) == mnemonic, row
