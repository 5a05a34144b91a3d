"""Recorders: what watches a run beside the counters, one `Observer` for each vCPU.

A recorder hands out its observers before the vCPUs run; each is called on its vCPU's own thread only, so
that recording needs no lock. A run without recorders has no observer at all and pays nothing for them.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from minihv.boot.plan import BootPlan
from minihv.exits import Exit
from minihv.machine.build import Parts
from minihv.machine.config import MachineConfig
from minihv.machine.loop import Observer
from minihv.machine.reporting import symbol_namer
from minihv.report.model import Report
from minihv.stats import SiteInfo

MakeObserver = Callable[[int], Observer | None]
"""vCPU index -> its observer, or None where that vCPU is not watched."""


class Recorder:
    """Something that is there from before the first entry to after the last exit of one run. Base class:
    records nothing."""

    ticks: Sequence[tuple[int, Callable[[], None]]] = ()
    """(interval in ns, what to call) on the thread that called `Machine.run`, while the guest runs."""

    def observer(self, index: int) -> Observer | None:
        """What is called after each exit of vCPU `index`, on its thread; None: nothing."""
        return None

    def prepare(self, parts: Parts) -> None:
        """The machine is built; what takes time before the vCPUs start goes here."""

    def begin(self, parts: Parts, now: int) -> None:
        """The vCPUs start at about `now` (host ns)."""

    def end(self, report: Report, now: int) -> Report:
        """The vCPUs have ended, the engine is still open: write files, add to the report."""
        return report

    def close(self) -> None:
        """Give back everything, however the run ended."""


def open_recorders(config: MachineConfig, guest: str, plan: BootPlan, stack: ExitStack) -> list[Recorder]:
    """What `config` asks for. Files are opened and ports are bound here, before there is a machine, and
    closed by `stack`. Raises HostError or UsageError where that cannot be."""
    recorders: list[Recorder] = []

    def add(recorder: Recorder) -> None:
        stack.callback(recorder.close)
        recorders.append(recorder)

    if config.trace is not None:
        from minihv.machine.trace import Trace

        add(Trace(config.trace))
    if config.history or config.timeline is not None:
        from minihv.machine.history import History

        add(History())
    if config.timeline is not None:
        from minihv.machine.timeline import TimelineFile

        add(TimelineFile(config.timeline, config.cpus, lambda: symbol_namer(plan)))
    if config.metrics is not None:
        from minihv.machine.metrics import Metrics

        add(Metrics(config.metrics, guest))
    if config.kernel_exits:
        from minihv.machine.kernel_exits import KernelExitRecorder

        add(KernelExitRecorder())
    if config.trace_insns is not None:
        from minihv.machine.insn_trace import InsnTrace

        add(InsnTrace(config.trace_insns, lambda: symbol_namer(plan)))
    if config.max_insns is not None:
        from minihv.machine.insn_limit import InsnLimit

        add(InsnLimit(config.max_insns))
    return recorders


def join(makers: Sequence[MakeObserver]) -> MakeObserver | None:
    """One maker for all of them, None for none; a vCPU with one observer gets that one itself."""
    if not makers:
        return None

    def make(index: int) -> Observer | None:
        return call_all([o for o in (maker(index) for maker in makers) if o is not None])

    return make


def call_all(observers: Sequence[Observer]) -> Observer | None:
    """One observer that calls all of them in their order; the last one's failure is not hidden by the
    first one's, because a failure ends the machine at once."""
    if len(observers) < 2:
        return observers[0] if observers else None
    if len(observers) == 2:
        first, second = observers

        def both(vcpu: int, exit: Exit, info: SiteInfo, left_ns: int, elapsed_ns: int) -> None:
            first(vcpu, exit, info, left_ns, elapsed_ns)
            second(vcpu, exit, info, left_ns, elapsed_ns)

        return both

    def every(vcpu: int, exit: Exit, info: SiteInfo, left_ns: int, elapsed_ns: int) -> None:
        for observe in observers:
            observe(vcpu, exit, info, left_ns, elapsed_ns)

    return every
