"""Recorded statistics -> Report, after the vCPU threads have ended."""

import os
import sys
from collections.abc import Callable, Mapping

from minihv.boot.plan import BootPlan
from minihv.errors import GuestMemoryError
from minihv.interfaces import Engine
from minihv.machine.build import Parts
from minihv.machine.config import MachineConfig
from minihv.machine.loop import VcpuLoop
from minihv.report.model import OutcomeReport, Report, VcpuReport, merge_counters


def make_report(config: MachineConfig, name: str, plan: BootPlan, parts: Parts, wall_ns: int) -> Report:
    """The report of a run that has ended; the engine is still open."""
    engine, end = parts.engine, parts.stop.outcome
    assert engine is not None
    assert end is not None
    return Report(
        engine=engine.name,
        host=_host(engine),
        guest={
            "name": name,
            "format": plan.format,
            "memory": config.memory,
            "cpus": config.cpus,
            "board": config.board,
            "irqchip": config.irqchip,
            "cmdline": config.cmdline,
        },
        outcome=OutcomeReport(end.reason, end.status, end.detail),
        wall_ns=wall_ns,
        vcpus=tuple(_vcpu_report(loop) for loop in parts.loops),
        exits=merge_counters(c for loop in parts.loops for c in loop.stats.counters),
        kernel_counters=parts.counters(),
        passed_over=tuple(parts.passed_over),
        autopsy="\n\n".join(filter(None, (_autopsy(loop, plan, parts) for loop in parts.loops))),
    )


def _host(engine: Engine) -> Mapping[str, str]:
    """What numbers must be labelled with; what the engine itself tells wins."""
    host = {"python": sys.version.split()[0], **engine.describe()}
    if "cpu" not in host:
        from minihv.host.cpu import read_cpu

        cpu = read_cpu()
        host = {"kvm": "not used", "cpu": cpu.model or cpu.vendor, "kernel": os.uname().release, **host}
    return host


def _vcpu_report(loop: VcpuLoop) -> VcpuReport:
    stats = loop.stats
    return VcpuReport(
        index=stats.index,
        exits=sum(c.count for c in stats.counters),
        kicks=stats.kicks,
        guest_ns=stats.guest_ns,
        vmm_ns=sum(c.sum_ns for c in stats.counters),
        instructions=loop.instructions,
    )


def symbol_namer(plan: BootPlan) -> Callable[[int], str]:
    """Linear address -> "name+0x4", or "" where the image has no symbol for it."""
    if not plan.symbols:
        return lambda address: ""
    from minihv.boot.symbols import SymbolTable

    table = SymbolTable.from_elf(plan.symbols)

    def name(address: int) -> str:
        found = table.lookup(address)
        if found is None:
            return ""
        symbol, offset = found
        return f"{symbol}+{offset:#x}" if offset else symbol

    return name


def source_namer(plan: BootPlan) -> Callable[[int], str]:
    """Linear address -> "file.c:12", or "" where the image does not tell."""
    if not plan.symbols:
        return lambda address: ""
    from minihv.boot.lines import LineTable

    return LineTable.from_elf(plan.symbols).lookup


def _autopsy(loop: VcpuLoop, plan: BootPlan, parts: Parts) -> str:
    """The text for one vCPU, where its last state was kept and it is the one that failed."""
    state, end = loop.final_state, parts.stop.outcome
    if state is None or end is None:
        return ""
    from minihv.report.autopsy import autopsy
    from minihv.report.exitwords import exit_words
    from minihv.x86.disasm import disassemble

    def read(gpa: int, size: int) -> int:
        if parts.memory.find(gpa) is None:
            raise GuestMemoryError(gpa, size)
        return parts.memory.read_int(gpa, size)

    namer = symbol_namer(plan)
    text = autopsy(
        state,
        read,
        [exit_words(exit) for exit in loop.recent],
        lambda address: namer(address) or None,
        disassemble,
        shutdown=end.reason == "triple-fault",
    )
    return f"vCPU {loop.vcpu.index}\n\n{text}" if len(parts.loops) > 1 else text
