"""Options of `minihv run` that other commands which run a guest take as well."""

import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from minihv.cli.run import Number, Size, _signals
from minihv.machine import config as limits
from minihv.machine.config import MachineConfig

EXIT_BY_SIGNAL = {"sigint": 130, "sigterm": 143}
"""How a run was stopped -> the status of a command that cannot go on then."""

_OPTIONS = (
    click.option("--format", "format", metavar="FORMAT", help="Take the image as this, as in `minihv run`."),
    click.option("--load-address", type=Number(), metavar="GPA", help="Where a flat image goes."),
    click.option("--entry", type=Number(), metavar="GPA", help="Where a flat image is entered."),
    click.option("-m", "--memory", type=Size(), default="64M", show_default=True, help="RAM, as 64M or 1G."),
    click.option("-c", "--cpus", type=int, default=1, show_default=True, help="Number of CPUs."),
    click.option("-i", "--module", "modules", multiple=True, metavar="FILE",
                 help="A boot module; repeatable."),
    click.option("-p", "--cmdline", "--append", default="", help="The guest's command line."),
    click.option("--board", type=click.Choice(limits.BOARDS), default="default", show_default=True),
    click.option("--irqchip", type=click.Choice(limits.IRQCHIPS), default="kernel", show_default=True,
                 help="Who models the interrupt controllers, on engines that can."),
    click.option("--serial-input", "serial_input_file", metavar="FILE",
                 help="What is typed at the serial port comes from this file."),
    click.option("--clock", type=click.Choice(limits.CLOCKS), default="real", show_default=True,
                 help="Guest time: the host's, or counted instructions."),
)  # fmt: skip


def guest_options(timeout: float | None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: the options above and --timeout with a default, as keyword arguments of MachineConfig."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        limit = click.option("--timeout", type=float, metavar="SECONDS", default=timeout, show_default=True,
                             help="End a run after this time.")  # fmt: skip
        for option in reversed((*_OPTIONS, limit)):
            function = option(function)
        return function

    return decorate


def machine_config(options: Mapping[str, Any]) -> MachineConfig:
    """The config that `guest_options` describe."""
    return MachineConfig(**options)


def command_line() -> str:
    """The command line that is being executed, as a shell would take it again."""
    return shlex.join(("minihv", *(click.get_current_context().find_root().obj or ())))


@contextmanager
def stoppable(stop: Callable[[str], None]) -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP call `stop` with the reason; as in `minihv run`."""
    with _signals(stop):
        yield
