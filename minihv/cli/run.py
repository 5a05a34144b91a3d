"""`minihv run`: options -> MachineConfig -> Machine -> report."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from minihv import errors
from minihv.cli.words import fail, note, say, tell
from minihv.errors import HandlerFailed, UsageError
from minihv.machine import config as limits
from minihv.machine.config import MachineConfig, parse_size
from minihv.machine.machine import Machine
from minihv.machine.outcome import REASONS
from minihv.report.model import Report

if TYPE_CHECKING:
    from minihv.report.budget import Budget

STATUSES = f"""\b
Exit status:
  the guest's own   0..127 by port 0xf8; (value << 1) | 1 by port 0xf4
    0               also: power-off, reset, HLT for ever, Ctrl-A x
  {errors.EXIT_USAGE:3}               wrong usage
  {errors.EXIT_CANNOT_START:3}               cannot start: bad image, no engine, the host refused
  {errors.EXIT_GUEST_CRASHED:3}               the guest crashed (triple fault), or its engine could not go on
  {errors.EXIT_TIMED_OUT:3}               --timeout is over
  {errors.EXIT_BUDGET_SPENT:3}               --max-exits or --max-insns are used up
  {errors.EXIT_VMM_STOPPED:3}               a device handler failed, or the console takes no more output
  {errors.EXIT_OVER_BUDGET:3}               the run was fine, but a --budget is broken
  130, 143          SIGINT, SIGTERM
minihv's own are even and above 128: port 0xf4 gives odd ones only, port 0xf8 none so high.
"""


class _Wanted(NamedTuple):
    """What shall come of the report."""

    stats: bool
    stats_json: str | None
    folded: str | None
    budget: str | None
    budgets: "tuple[Budget, ...]" = ()


class Size(click.ParamType[int]):
    """64M, 1G -> bytes."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_size(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)


class Number(click.ParamType[int]):
    """Decimal or 0x hexadecimal."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return int(value, 0)
        except ValueError:
            self.fail(f"expected a number such as 1048576 or 0x100000, found {value!r}", param, ctx)


@click.command("run", epilog=STATUSES)
@click.argument("guest", required=False)
@click.option("-k", "--kernel", metavar="GUEST", help="The guest, for hands that know -k.")
@click.option("--engine", type=click.Choice(limits.ENGINES), default="auto", show_default=True)
@click.option("--format", "format", metavar="FORMAT", help="Do not recognise the image, take it as this: "
              "flat16, flat32, flat64, bootsector, elf32, elf64, multiboot, pvh.")  # fmt: skip
@click.option("--load-address", type=Number(), metavar="GPA", help="Where a flat image goes.")
@click.option("--entry", type=Number(), metavar="GPA", help="Where a flat image is entered.")
@click.option("--firmware", metavar="FILE", help="Start this ROM at the reset vector instead of a guest.")
@click.option("-m", "--memory", type=Size(), default="64M", show_default=True, help="RAM, as 64M or 1G.")
@click.option("-c", "--cpus", type=int, default=1, show_default=True, help="Number of CPUs.")
@click.option("-i", "--module", "modules", multiple=True, metavar="FILE", help="A boot module; repeatable.")
@click.option("-p", "--cmdline", "--append", default="", help="The guest's command line.")
@click.option("--board", type=click.Choice(limits.BOARDS), default="default", show_default=True)
@click.option("--irqchip", type=click.Choice(limits.IRQCHIPS), default="kernel", show_default=True,
              help="On engines that bring interrupt controllers: use them all, only their LAPICs (no PIC, "
              "PIT and IOAPIC then), or none: minihv models all, for one CPU.")  # fmt: skip
@click.option("--serial", default="stdio", show_default=True, metavar="WHERE",
              help=f"{limits.SERIAL_FORMS}. Ctrl-A x ends a session at a terminal.")  # fmt: skip
@click.option("--serial-input", "serial_input_file", metavar="FILE",
              help="What is typed at the serial port comes from this file.")  # fmt: skip
@click.option("--display", type=click.Choice(limits.DISPLAYS), default="none", show_default=True,
              help="The VGA text screen: text shows it at the end, live while the guest runs. What a boot "
              "sector prints by INT 10h goes to the console instead.")  # fmt: skip
@click.option("--timeout", type=float, metavar="SECONDS", help="End the machine after this time.")
@click.option("--max-exits", type=int, metavar="N", help="End the machine after this many VM exits.")
@click.option("--max-insns", type=int, metavar="N", help="End the machine after this many instructions, on "
              "an engine that counts them.")  # fmt: skip
@click.option("--stats", is_flag=True, help="Print the table of VM exits at the end.")
@click.option("--stats-json", metavar="FILE", help="Write the report as one JSON object; - is stdout.")
@click.option("--clock", type=click.Choice(limits.CLOCKS), default="real", show_default=True,
              help="Guest time: the host's, or counted instructions (a run repeats exactly).")  # fmt: skip
@click.option("--rescue", type=click.Choice(("on", "off")), default="on", show_default=True,
              help="Let the interpreter execute single instructions that KVM gives up on.")  # fmt: skip
@click.option("--trace", metavar="FILE", help="Write every exit as one line of JSON.")
@click.option("--trace-insns", metavar="FILE", help="Write every instruction and what it changed as a line, "
              "on an engine that counts them; - is stdout.")  # fmt: skip
@click.option("--timeline", metavar="FILE", help="Write a Chrome trace: open it at ui.perfetto.dev.")
@click.option("--folded", metavar="FILE", help="Write folded stacks (symbol;exit;device) for flame graphs.")
@click.option("--metrics", metavar="PORT|FILE", help="Prometheus text: served on a loopback port while the "
              "guest runs, or written at the end.")  # fmt: skip
@click.option("--kernel-exits", is_flag=True, help="Show the kernel's own exits, by reason and RIP, too.")
@click.option("--budget", metavar="LIMITS", help="Check limits after the run, as io=200,mmio=0,p99=50us.")
def command(guest: str | None, kernel: str | None, **options: Any) -> int:
    """Run GUEST, a bundled guest's name or the path of an image, and end with its status."""
    guest = _one_guest(guest, kernel, options["firmware"])
    options["rescue"] = options["rescue"] == "on"
    wanted = _Wanted(*(options.pop(name) for name in _Wanted._fields[:4]))
    wanted = wanted._replace(stats=wanted.stats or options["kernel_exits"])
    if wanted.budget is not None:
        from minihv.report.budget import parse_budgets

        wanted = wanted._replace(budgets=parse_budgets(wanted.budget))
    options["history"] = wanted.stats_json is not None
    machine = Machine(MachineConfig(**options))
    if guest is None:
        machine.load_firmware()
    else:
        machine.load(guest)
    if wanted.stats_json or wanted.folded:
        from minihv.cli.files import check_writable

        check_writable(wanted.stats_json, wanted.folded)
    with _signals(machine.stop):
        if options["display"] == "live":
            from minihv.cli.screen import watch_screen

            watch_screen(machine)
        try:
            report = machine.run()
        except HandlerFailed as error:
            return _handler_failed(error)
    return _present(machine, report, wanted)


def _one_guest(guest: str | None, kernel: str | None, firmware: str | None) -> str | None:
    named = [name for name in (guest, kernel) if name is not None]
    if firmware is not None and named:
        raise UsageError(f"expected either a guest or --firmware, found both ({named[0]!r} and {firmware!r})")
    if len(named) > 1:
        raise UsageError(f"expected one guest, found {named[0]!r} and {named[1]!r}")
    if not named and firmware is None:
        raise UsageError("expected a guest, found none; `minihv guests` lists the bundled ones")
    return named[0] if named else None


@contextmanager
def _signals(stop: Callable[[str], None]) -> Iterator[None]:
    """SIGINT and SIGTERM end the machine, so that the terminal is given back and the report is written."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop({signal.SIGINT: "sigint"}.get(signal.Signals(number), "sigterm"))

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    old = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _present(machine: Machine, report: Report, wanted: _Wanted) -> int:
    if machine.config.serial == "buffer":
        tell(machine.console)
    if machine.config.display != "none":
        tell("\n".join(line.rstrip() for line in machine.screen).rstrip() + "\n")
    if any(wanted):
        report = machine.with_symbols(report)
    if wanted.stats:
        from minihv.report.table import stats_table

        tell("\n" + stats_table(report))
    if wanted.stats_json or wanted.folded:
        _write(report, wanted)
    return _check_budgets(report, wanted, _end(report))


def _write(report: Report, wanted: _Wanted) -> None:
    from minihv.cli.files import write_text

    if wanted.stats_json:
        import json
        import shlex

        words = click.get_current_context().obj
        if words:
            report = report._replace(command=shlex.join(("minihv", *words)))
        write_text(json.dumps(report.to_dict(), indent=1) + "\n", wanted.stats_json)
    if wanted.folded:
        from minihv.report.folded import folded

        write_text(folded(report), wanted.folded)


def _check_budgets(report: Report, wanted: _Wanted, status: int) -> int:
    """Names every broken budget. Its status is that of a run that went well otherwise."""
    if not wanted.budgets:
        return status
    from minihv.report.budget import check

    broken = check(report, wanted.budgets)
    for one in broken:
        say(str(one))
    return errors.EXIT_OVER_BUDGET if broken and status == errors.EXIT_OK else status


QUIET_ENDINGS = frozenset(("exit", "power-off", "halted", "user"))
"""Nothing to explain: the guest said itself how it went, or the user knows."""


def _end(report: Report) -> int:
    end = report.outcome
    if report.passed_over:
        say(f"ran on {report.engine}; passed over: {'; '.join(report.passed_over)}")
    if end.reason not in QUIET_ENDINGS:
        words = REASONS[end.reason][1] + (f": {end.detail}" if end.detail else "")
        say(f"{report.guest['name']}: {words} (status {end.status})")
    if report.autopsy:
        note(report.autopsy)
    return end.status


def _handler_failed(error: HandlerFailed) -> int:
    import traceback

    if error.__cause__ is not None:
        note("".join(traceback.format_exception(error.__cause__)).rstrip())
    if isinstance(error.report, Report) and error.report.autopsy:
        note(error.report.autopsy)
    return fail(str(error), error.exit_status)
