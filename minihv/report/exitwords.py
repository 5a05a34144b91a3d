"""One exit in words and as JSON: for the autopsy's last exits and for --trace."""

from typing import Any

from minihv.exits import (
    DebugStop,
    Exit,
    Fault,
    Hypercall,
    IoIn,
    IoOut,
    MmioRead,
    MmioWrite,
    MsrRead,
    MsrWrite,
)
from minihv.stats import SiteInfo


def exit_fields(exit: Exit) -> dict[str, Any]:
    """What is particular to the exit, as JSON values."""
    fields: dict[str, Any] = {"rip": getattr(exit, "rip", 0)}
    if isinstance(exit, IoIn | IoOut):
        fields |= {"port": exit.port, "size": exit.size, "count": exit.count}
    if isinstance(exit, IoOut | MmioWrite):
        fields["data"] = exit.data.hex()
    if isinstance(exit, MmioRead | MmioWrite):
        fields["gpa"] = exit.gpa
    if isinstance(exit, MmioRead):
        fields["size"] = exit.size
    if isinstance(exit, MsrRead | MsrWrite):
        fields["msr"] = exit.index
    if isinstance(exit, MsrWrite):
        fields["value"] = exit.value
    if isinstance(exit, Hypercall):
        fields |= {"number": exit.number, "args": list(exit.args)}
    if isinstance(exit, DebugStop):
        fields["dr6"] = exit.dr6
    if isinstance(exit, Fault):
        fields |= {"kind": exit.kind, "message": exit.message, "instruction": exit.instruction.hex()}
    return fields


def trace_line(vcpu: int, exit: Exit, info: SiteInfo, left_ns: int, elapsed_ns: int) -> dict[str, Any]:
    """One line of --trace: when (host ns), who, what, how long (ns)."""
    return {
        "t_ns": left_ns,
        "vcpu": vcpu,
        "exit": info.name,
        "direction": info.direction,
        "register": info.register,
        **exit_fields(exit),
        "handled_ns": elapsed_ns,
    }


def exit_words(exit: Exit) -> str:
    """One line for a person."""
    name = type(exit).__name__
    details = ", ".join(
        f"{key} {value:#x}" if isinstance(value, int) else f"{key} {value}"
        for key, value in exit_fields(exit).items()
        if key != "args"
    )
    return f"{name}: {details}"
