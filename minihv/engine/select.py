"""Which engines there are, which of them work here, and why the others do not.

An engine is a row of the table: a name, and a function that imports it only when it is asked for.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from minihv.errors import EngineUnavailable, HostError, UsageError
from minihv.interfaces import Engine, EngineConfig
from minihv.memory import GuestMemory

if TYPE_CHECKING:
    from minihv.x86.steps import Narrator


class EngineKind(NamedTuple):
    """How to look for an engine and how to make one. `probe` gives None, or why it cannot work here.
    `narrator`: who tells what the engine does with an instruction, where there is somebody."""

    probe: Callable[[], str | None]
    open: Callable[[GuestMemory, EngineConfig], Engine]
    narrator: "Callable[[], Narrator] | None" = None


def _kvm_probe() -> str | None:
    from minihv.engine.kvm.engine import probe

    return probe()


def _kvm_open(memory: GuestMemory, config: EngineConfig) -> Engine:
    from minihv.engine.kvm.engine import KvmEngine

    return KvmEngine(memory, config)


def _kvm_narrator() -> "Narrator":
    from minihv.engine.kvm.explain import KvmNarrator

    return KvmNarrator()


def _interpret_probe() -> str | None:
    from importlib.util import find_spec

    if find_spec("iced_x86") is None:
        return "iced-x86, which decodes for it, is not installed (it has wheels for x86-64 hosts only)"
    return None


def _interpret_open(memory: GuestMemory, config: EngineConfig) -> Engine:
    from minihv.engine.interpret.engine import InterpretEngine

    return InterpretEngine(memory, config)


def _interpret_narrator() -> "Narrator":
    from minihv.engine.interpret.explain import InterpretNarrator

    return InterpretNarrator()


ENGINES: dict[str, EngineKind] = {
    "kvm": EngineKind(_kvm_probe, _kvm_open, _kvm_narrator),
    "interpret": EngineKind(_interpret_probe, _interpret_open, _interpret_narrator),
}
"""In the order in which "auto" tries them."""


def survey() -> dict[str, str | None]:
    """Every engine's name with None where it works here, else the reason why not."""
    return {name: kind.probe() for name, kind in ENGINES.items()}


def open_engine(name: str, memory: GuestMemory, config: EngineConfig) -> tuple[Engine, list[str]]:
    """The engine `name`, or for "auto" the first that works; and why others were passed over.

    Raises UsageError for an unknown name, EngineUnavailable where none works, and what the engine itself
    raises when it is the one asked for.
    """
    if name != "auto":
        kind = ENGINES.get(name)
        if kind is None:
            raise UsageError(f"expected an engine of auto, {', '.join(ENGINES)}, found {name!r}")
        return kind.open(memory, config), []
    passed_over: list[str] = []
    for candidate, kind in ENGINES.items():
        reason = kind.probe()
        if reason is None:
            try:
                return kind.open(memory, config), passed_over
            except HostError as error:  # a probe cannot foresee that, say, another hypervisor holds VT-x
                reason = str(error)
        passed_over.append(f"{candidate}: {reason}")
    raise EngineUnavailable("no engine works on this host; " + "; ".join(passed_over))
