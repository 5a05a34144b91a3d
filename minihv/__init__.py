"""minihv: one tiny guest kernel, one machine, three ways to run its instructions.

    from minihv import Machine, MachineConfig

Names are imported on first use: `import minihv` costs nothing.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minihv.errors import HandlerFailed, MinihvError, UsageError
    from minihv.interfaces import Device
    from minihv.machine.config import MachineConfig
    from minihv.machine.machine import Machine
    from minihv.report.model import Report

__all__ = ["Device", "HandlerFailed", "Machine", "MachineConfig", "MinihvError", "Report", "UsageError"]

_HOME = {
    "Device": "minihv.interfaces",
    "HandlerFailed": "minihv.errors",
    "Machine": "minihv.machine.machine",
    "MachineConfig": "minihv.machine.config",
    "MinihvError": "minihv.errors",
    "Report": "minihv.report.model",
    "UsageError": "minihv.errors",
}


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'minihv' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(home), name)
