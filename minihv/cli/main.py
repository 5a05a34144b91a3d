"""`minihv`: finds the command, runs it, and turns every error into one sentence and a status."""

import errno
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from minihv.cli.words import fail, leave_stdout
from minihv.errors import EXIT_CANNOT_START, EXIT_OK, EXIT_USAGE, MinihvError

EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
"""128 + SIGINT and 128 + SIGPIPE, as a shell has them."""

ADVICE = {
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "the whole host is out of open files",
    errno.ENOMEM: "free some memory, or give the guest less (-m)",
    errno.ENOSPC: "send the output to a place with room",
}
"""errno -> what to do."""

COMMANDS = {
    "run": "run a guest on a virtual machine",
    "compare": "run a guest on every engine and hold them side by side",
    "diff": "run a guest on two engines in lock step, up to the first difference",
    "explain": "tell what each engine does with one instruction of a guest",
    "top": "run a guest and watch its exits live",
    "stats": "print a recorded run again, or what changed between two",
    "report": "make one HTML page of a recorded run, comparison or nanobenchmark",
    "nano": "measure what single operations cost, beside the numbers of 2006",
    "sensitive": "run the instructions that trap-and-emulate cannot catch",
    "guests": "list the bundled guests and what each shows",
    "doctor": "tell what this host can do, and which engines work",
}
"""Command -> its line in `minihv --help`. Each is `command` in minihv.cli.<name>, imported when used."""


class _Commands(click.Group):
    """A group that knows its commands' names, and imports a command only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"minihv.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        from importlib.metadata import version

        click.echo(f"minihv {version('minihv')}")
        ctx.exit()


_SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=_Commands, context_settings=_SETTINGS, no_args_is_help=False, invoke_without_command=True)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version,
              help="Show the version and leave.")  # fmt: skip
@click.pass_context
def cli(ctx: click.Context) -> None:
    """One tiny guest kernel, one machine, several ways to run its instructions."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return the process status. Prints; does not exit."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        result = cli.main(args=list(words), prog_name="minihv", standalone_mode=False, obj=tuple(words))
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        message = error.format_message().rstrip(".").replace("\n", " ")
        message = f"{message[:1].lower()}{message[1:]}"
        return fail(f"{message}; `{_command_of(words)} --help` shows what there is", EXIT_USAGE)
    except click.Abort:
        return EXIT_INTERRUPTED
    except MinihvError as error:
        return fail(str(error), error.exit_status)
    except (BrokenPipeError, SystemExit):  # the latter is how click says the former
        leave_stdout()  # no message, as nobody reads, and no traceback at the end
        return EXIT_BROKEN_PIPE
    except OSError as error:
        # Commands make sentences of what they expect. What is left: click cannot print its help, or the
        # process may not open another file.
        leave_stdout()
        where = f"{error.filename}: " if error.filename else ""
        advice = ADVICE.get(error.errno or 0, "`minihv doctor` shows what this host can do")
        return fail(
            f"{where}the host refused to go on: {error.strerror or error}; {advice}", EXIT_CANNOT_START
        )
    return result if isinstance(result, int) else EXIT_OK


def _command_of(words: Sequence[str]) -> str:
    return f"minihv {words[0]}" if words and words[0] in COMMANDS else "minihv"
