"""`minihv sensitive`: the instructions that trap-and-emulate cannot catch, tried on everybody."""

import click

from minihv.cli.files import check_writable, write_text
from minihv.cli.words import tell
from minihv.errors import EXIT_OK, UsageError


@click.command("sensitive")
@click.option("--engines", metavar="NAME,NAME", help="Engines to try; default: all that work here.")
@click.option("--native/--no-native", default=True, show_default=True,
              help="Also execute them in a process of this host.")  # fmt: skip
@click.option("--json", "json_file", metavar="FILE", help="Write one JSON object; - is stdout.")
def command(engines: str | None, native: bool, json_file: str | None) -> int:
    """Execute Robin and Irvine's sensitive, unprivileged instructions and tell what each saw.

    The same bytes run in a process of this host at ring 3, and on each engine in a guest's ring 0 and 3.
    """
    from minihv.nano.survey import choose_engines
    from minihv.sensitive.survey import take

    names, passed_over = choose_engines(engines)
    if not names and not native:
        raise UsageError("expected at least one engine or --native, found neither; `minihv doctor` tells why")
    check_writable(json_file)
    report = take(names, native=native, passed_over=passed_over)
    if json_file != "-":
        from minihv.sensitive.table import sensitive_table

        tell(sensitive_table(report))
    if json_file is not None:
        import json

        write_text(json.dumps(report.to_dict(), indent=1) + "\n", json_file)
    return EXIT_OK
