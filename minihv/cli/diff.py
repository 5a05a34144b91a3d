"""`minihv diff`: two engines in lock step, up to the first difference."""

from typing import Any

import click

from minihv.cli.options import EXIT_BY_SIGNAL, guest_options, machine_config, stoppable
from minihv.cli.words import tell
from minihv.errors import EXIT_OK, UsageError

EXIT_DIFFERENT = 1
LIMITS = f"""\b
Limits:
  one CPU: in which order several run is each engine's own affair
  kvm against another engine: an interrupt that arrives while the guest works
    arrives elsewhere on the other engine; after HLT both take it alike
  kvm on a PVM host: ring 0 is stepped; ring 3 cannot be (the guest itself gets
    the step trap) and is compared at its exits, without arithmetic flags
  memory is compared at the end, and in what the guest reads back

\b
Exit status:
  {EXIT_OK}    the engines agree, as far as they were compared
  {EXIT_DIFFERENT}    they differ
  else as with `minihv run`, where a guest could not be run at all
"""


@click.command("diff", epilog=LIMITS)
@click.argument("guest", required=False)
@click.option("--engines", metavar="A,B", default="kvm,interpret", show_default=True)
@click.option("--instructions", "limit", type=click.IntRange(1), default=1_000_000, show_default=True,
              help="Compare no more than so many instructions.")  # fmt: skip
@click.option("--every", type=click.IntRange(1), default=1, show_default=True, metavar="N",
              help="Compare after N instructions, and look closer where they differ. Needs engines that "
              "count instructions.")  # fmt: skip
@click.option("--rules", is_flag=True, help="List what is not compared or may differ, with the reasons.")
@guest_options(timeout=120.0)
def command(guest: str | None, engines: str, limit: int, every: int, rules: bool, **options: Any) -> int:
    """Run GUEST on two engines at once, instruction by instruction, and stop at the first difference.

    Each engine has memory and devices of its own and is fed the same input.
    """
    if rules:
        return _rules()
    if guest is None:
        raise UsageError("expected a guest to compare on two engines, found none; `minihv guests` lists them")
    names = [name.strip() for name in engines.split(",")]
    if len(names) != 2 or not all(names):
        raise UsageError(f"expected two engines as kvm,interpret, found {engines!r}")
    from minihv.machine.machine import Machine
    from minihv.machine.reporting import symbol_namer
    from minihv.verify.lockstep import Lockstep

    timeout = options["timeout"]
    config = machine_config({**options, "engine": names[0], "serial": "buffer", "rescue": True})
    plan = Machine(config).load(guest).plan
    assert plan is not None
    stopped: list[str] = []
    with Lockstep(config, plan, (names[0], names[1]), symbol_namer(plan)) as pair:

        def stop(reason: str) -> None:
            stopped.append(reason)
            pair.stop(reason)

        with stoppable(stop):
            verdict = pair.run(-(-limit // every), every, timeout)
    if stopped:
        return EXIT_BY_SIGNAL.get(stopped[0], EXIT_DIFFERENT)
    count = verdict.compared * every
    tell(f"{guest} on {names[0]} and {names[1]}: {count} instructions compared")
    if verdict.by_exit:
        tell(f", {verdict.by_exit} of the comparisons after an exit only")
    tell(f"; ended by: {verdict.ended}\n")
    for what, times in verdict.adopted.most_common():
        tell(f"  taken over from {names[0]}, as it may differ: {what}, {times} times\n")
    for line in verdict.lines:
        tell(line + "\n")
    tell("they differ, see above\n" if verdict.lines else "no difference\n")
    return EXIT_DIFFERENT if verdict.lines else EXIT_OK


def _rules() -> int:
    from minihv.verify.statediff import ADOPTED, NOT_COMPARED
    from minihv.verify.undefined_flags import TABLE

    tell("Not compared:\n")
    for what, why in NOT_COMPARED.items():
        tell(f"  {what}: {why}\n")
    tell("Taken over from the first engine:\n")
    for what, why in ADOPTED.items():
        tell(f"  {what}: {why}\n")
    tell("Undefined flags (SDM Vol. 2), masked:\n")
    for reference in sorted({row.reference for row in TABLE.values()}):
        tell(f"  {reference}\n")
    return EXIT_OK
