"""How a machine ended: a reason by name, and the process status that goes with it."""

from typing import NamedTuple

from minihv import errors

REASONS: dict[str, tuple[int, str]] = {
    "exit": (0, "the guest wrote its status to an exit port"),
    "power-off": (0, "the guest switched the machine off"),
    "halted": (0, "every CPU sits in HLT with interrupts off"),
    "reset": (0, "the guest asked for a reset; minihv does not start it again"),
    "triple-fault": (errors.EXIT_GUEST_CRASHED, "the guest crashed: triple fault"),
    "guest-crash": (errors.EXIT_GUEST_CRASHED, "the guest declared itself crashed"),
    "engine-fault": (errors.EXIT_GUEST_CRASHED, "the engine could not go on"),
    "debug-stop": (0, "a breakpoint or a single step that nobody waited for"),
    "timeout": (errors.EXIT_TIMED_OUT, "the time given by --timeout is over"),
    "max-exits": (errors.EXIT_BUDGET_SPENT, "the exits given by --max-exits are used up"),
    "max-insns": (errors.EXIT_BUDGET_SPENT, "the instructions given by --max-insns are executed"),
    "console-closed": (errors.EXIT_VMM_STOPPED, "the console takes no more output"),
    "handler-failed": (errors.EXIT_VMM_STOPPED, "a device handler raised"),
    "vmm-failed": (errors.EXIT_VMM_STOPPED, "minihv itself, or the host under it, failed"),
    "user": (0, "Ctrl-A x"),
    "stopped": (0, "Machine.stop was called"),
    "sigint": (130, "interrupted by SIGINT"),
    "sigterm": (143, "terminated by SIGTERM"),
}
"""Reason -> (status where the guest gives none, what it means)."""

THE_GUESTS_CHOICE = frozenset(
    ("exit", "power-off", "halted", "reset", "triple-fault", "guest-crash", "engine-fault")
)
"""Reasons for which the guest ended by itself: what it printed is delivered, however long that takes."""


class Outcome(NamedTuple):
    """`reason` is a key of REASONS; `status` is the process status; `detail` one more sentence, or ""."""

    reason: str
    status: int
    detail: str = ""


def outcome(reason: str, status: int | None = None, detail: str = "") -> Outcome:
    """An Outcome with the reason's own status unless another is given."""
    return Outcome(reason, REASONS[reason][0] if status is None else status, detail)
