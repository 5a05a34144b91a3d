"""`scripts/random-test`: options -> a campaign -> a report a person can act on."""

import sys
from collections import Counter
from collections.abc import Sequence

import click

from minihv.errors import MinihvError, UsageError
from minihv.verify.allowances import ALLOWANCES
from minihv.verify.campaign import CHUNK, Campaign, Failure, Tally
from minihv.verify.case import Case
from minihv.verify.instructions import decode
from minihv.verify.shrink import shrink
from minihv.verify.subjects import LEFT_OUT


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--cases", default=20_000, show_default=True, help="How many cases, at least.")
@click.option("--seed", default=1, show_default=True, help="The same seed gives the same cases.")
@click.option("--only", multiple=True, metavar="NAME", help="Only instructions whose iced-x86 code starts "
              "so: ADC, ADC_RM8_R8; repeatable.")  # fmt: skip
@click.option("--engine", default="interpret", show_default=True, help="The engine under test.")
@click.option("--judge", multiple=True, type=click.Choice(("native", "kvm")), help="Compare with this only; "
              "by default with all that this host has.")  # fmt: skip
@click.option("--strict", is_flag=True, help="Compare the undefined flags, too.")
@click.option("--failures", default=20, show_default=True, help="Give up after so many.")
@click.option(
    "--case", "lines", multiple=True, metavar="HEX", help="Run this case, as printed for a failure."
)
@click.option("--rules", is_flag=True, help="List what may differ, and what is not tried, with the reasons.")
def command(
    cases: int, seed: int, only: tuple[str, ...], engine: str, judge: tuple[str, ...], strict: bool,
    failures: int, lines: tuple[str, ...], rules: bool,
) -> int:  # fmt: skip
    """Run random instructions on this host's processor and on an engine, and compare all they leave behind.

    The processor is reached as a KVM guest (64-bit code in ring 3) and as a process guarded by signals (64-
    and 32-bit code). Ends with 1 where something differs.
    """
    if rules:
        _rules()
        return 0
    with Campaign(engine, judge, strict) as campaign:
        if lines:
            return _replay(campaign, [Case.from_hex(line) for line in lines])
        _introduce(campaign)
        tally = campaign.run(cases, seed, only, failures, _progress)
        return _report(campaign, tally, seed)


def _introduce(campaign: Campaign) -> None:
    for bits, sessions in campaign.judges.items():
        count = sum(subject.bits == bits for subject in campaign.subjects)
        names = " and ".join(session.name for session in sessions) or "nobody here"
        print(f"{bits}-bit code: {count} instructions, judged by {names}")
    if campaign.missing_here:
        print(f"claimed, but not on this host's processor: {', '.join(sorted(campaign.missing_here))}")


def _progress(tally: Tally) -> None:
    """At a terminal all the time, else (a log) now and then."""
    live = sys.stderr.isatty()
    if live or tally.cases % (48 * CHUNK) == 0:
        text = (
            f"{tally.cases} cases, {tally.cases / tally.seconds:.0f} a second, {len(tally.failures)} failures"
        )
        print(f"\r{text} " if live else text, end="" if live else "\n", file=sys.stderr, flush=True)


def _report(campaign: Campaign, tally: Tally, seed: int) -> int:
    rate = tally.cases / tally.seconds if tally.seconds else 0
    ends = ", ".join(
        f"{'no end' if v < 0 else 'step' if v == 1 else f'#{v}'} {n}"
        for v, n in sorted(tally.vectors.items())
    )
    print(
        f"{tally.cases} cases (seed {seed}) of {len(tally.by_subject)} instructions in {tally.seconds:.0f} s"
        f", {rate:.0f} a second; by vector: {ends}; failures: {len(tally.failures)}; "
        f"judged otherwise when run again: {tally.unsteady[0]}"
    )
    kinds: Counter[str] = Counter()
    for failure in tally.failures:
        kinds[failure.name] += 1
        if kinds[failure.name] <= 2:
            _show(campaign, failure)
    for name, count in kinds.most_common():
        print(f"{name}: {count}")
    return 1 if tally.failures else 0


def _show(campaign: Campaign, failure: Failure) -> None:
    small, lines = failure.case, campaign.differs(failure.case)
    if lines:
        small = shrink(failure.case, lambda case: bool(campaign.differs(case)))
        lines = campaign.differs(small)
    print(f"{failure.name}: {describe(small)}")
    for line in lines or ["alone it does not differ; in its batch it did:", *failure.lines]:
        print(f"    {line}")
    print(f"    --case {small.to_hex()}")


def describe(case: Case) -> str:
    """Bytes and assembly text."""
    from iced_x86 import Formatter, FormatterSyntax

    encoded = decode(case.code, case.bits, case.rip)
    text = Formatter(FormatterSyntax.INTEL).format(encoded.insn) if encoded is not None else "no instruction"
    return f"{case.bits}-bit {case.code.hex(' ')}  {text}"


def _replay(campaign: Campaign, cases: Sequence[Case]) -> int:
    status = 0
    for case in cases:
        print(describe(case))
        found = campaign.differs(case)
        for line in found or ["no difference"]:
            print(f"    {line}")
        status = status or bool(found)
    return int(status)


def _rules() -> None:
    print("May differ:")
    for allowance in ALLOWANCES:
        print(f"  {allowance.name}: {allowance.why}")
    print("Not tried:")
    for name, why in LEFT_OUT.items():
        print(f"  {name}: {why}")


def main() -> None:
    """Entry point of the script."""
    try:
        status = command.main(standalone_mode=False)
    except MinihvError as error:
        print(f"random-test: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    except click.ClickException as error:
        print(f"random-test: {error.format_message()}", file=sys.stderr)
        sys.exit(UsageError.exit_status)
    sys.exit(status)
