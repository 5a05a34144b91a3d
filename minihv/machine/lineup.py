"""The same guest on several engines, one after the other and again: the runs behind `minihv compare`."""

from collections.abc import Callable, Sequence
from os import PathLike, fspath

from minihv.engine.select import ENGINES, survey
from minihv.errors import EngineUnavailable, UsageError
from minihv.host.console import BufferSink
from minihv.machine.config import MachineConfig
from minihv.machine.machine import Machine
from minihv.report.comparison import Column, Comparison, Run


def working_engines(wanted: Sequence[str] = ()) -> tuple[list[str], tuple[str, ...]]:
    """Names of engines in the order of the table, and "name: why not" for each that was passed over.

    `wanted`: just these, in this order; then one that does not work raises EngineUnavailable, and one that
    does not exist UsageError. Raises EngineUnavailable where none works.
    """
    for name in wanted:
        if name not in ENGINES:
            raise UsageError(f"expected engines of {', '.join(ENGINES)}, found {name!r}")
    found = survey()
    if wanted:
        for name in wanted:
            if found[name] is not None:
                raise EngineUnavailable(f"engine {name} cannot work here: {found[name]}")
        return list(dict.fromkeys(wanted)), ()
    works = [name for name, why in found.items() if why is None]
    passed_over = tuple(f"{name}: {why}" for name, why in found.items() if why is not None)
    if not works:
        raise EngineUnavailable("no engine works on this host; " + "; ".join(passed_over))
    return works, passed_over


def compare(
    image: str | PathLike[str] | bytes,
    config: MachineConfig | None = None,
    engines: Sequence[str] = (),
    runs: int = 1,
    *,
    command: str = "",
    started: Callable[[Machine], None] = lambda machine: None,
) -> Comparison:
    """Run `image` `runs` times on each engine, in turn, so that whatever else the host does meets all.

    `engines`: see `working_engines`. `config.engine` and `config.serial` are replaced. `started` is given
    each machine before it runs, so that somebody can stop it. Raises what `Machine.run` raises.
    """
    if runs < 1:
        raise UsageError(f"expected 1 run or more on each engine, found {runs}")
    names, passed_over = working_engines(engines)
    done: dict[str, list[Run]] = {name: [] for name in names}
    for _ in range(runs):
        for name in names:
            done[name].append(_run(image, (config or MachineConfig()).replace(engine=name), started))
    guest = done[names[0]][0].report.guest["name"]
    columns = tuple(Column(name, tuple(done[name])) for name in names)
    return Comparison(guest, columns, passed_over, command)


def _run(
    image: str | PathLike[str] | bytes, config: MachineConfig, started: Callable[[Machine], None]
) -> Run:
    sink = BufferSink()
    with Machine(config, console=sink) as machine:
        machine.load(image if isinstance(image, bytes) else fspath(image))
        started(machine)
        report = machine.run()
    return Run(report, sink.data, sink.dropped)
