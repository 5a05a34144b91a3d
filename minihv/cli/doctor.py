"""`minihv doctor`: what this host can do, in words, and which engines work."""

import os
import platform
from collections.abc import Iterator, Mapping
from typing import Any

import click

from minihv.cli.words import tell
from minihv.engine.select import survey
from minihv.errors import EXIT_CANNOT_START, EXIT_OK, MinihvError

NUMBERS = (
    "vCPUs a VM (recommended)",
    "vCPUs a VM (at most)",
    "extended FPU state, bytes",
    "switch off HLT/MWAIT/PAUSE exits (bits)",
)
"""The capabilities whose value counts something."""


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@click.option("--cpuid", "show_cpuid", is_flag=True, help="Also list what a guest's CPUID differs in.")
def command(as_json: bool, show_cpuid: bool) -> int:
    """Tell the host's CPU, its KVM in words, permissions, and which engines work (status 0: one does)."""
    facts = examine()
    if as_json:
        import json

        tell(json.dumps(facts, indent=1) + "\n")
    else:
        tell("\n".join((*_lines(facts, show_cpuid), "")))
    return EXIT_OK if any(row["works"] for row in facts["engines"].values()) else EXIT_CANNOT_START


def examine() -> dict[str, Any]:
    """Everything the doctor finds, as JSON values."""
    from minihv.engine.kvm.kind import KIND_WORDS, kvm_kind
    from minihv.host.cpu import read_cpu

    cpu = read_cpu()
    kind = kvm_kind(cpu)
    engines = {name: {"works": why is None, "reason": why or ""} for name, why in survey().items()}
    facts: dict[str, Any] = {
        "schema": "minihv.doctor/1",
        "host": {
            "machine": platform.machine(),
            "cpu": cpu.model or cpu.vendor or "unknown",
            "kernel": platform.release(),
            "python": platform.python_version(),
            "cpus": os.cpu_count() or 1,
        },
        "kvm": {"device": _device(), "kind": kind, "words": KIND_WORDS[kind], "capabilities": {}},
        "engines": engines,
    }
    if engines["kvm"]["works"]:
        facts["kvm"]["capabilities"] = _capabilities()
    return facts


def _device() -> str:
    path = "/dev/kvm"
    if not os.path.exists(path):
        return "missing"
    return "readable and writable" if os.access(path, os.R_OK | os.W_OK) else "no permission"


def _capabilities() -> Mapping[str, int]:
    from minihv.engine.kvm import abi
    from minihv.engine.kvm.system import Kvm

    words = {
        "vCPUs a VM (recommended)": abi.CAP_NR_VCPUS,
        "vCPUs a VM (at most)": abi.CAP_MAX_VCPUS,
        "interrupt controllers in the kernel": abi.CAP_IRQCHIP,
        "only the LAPIC in the kernel (split)": abi.CAP_SPLIT_IRQCHIP,
        "PIT in the kernel": abi.CAP_PIT2,
        "registers with each exit (sync regs)": abi.CAP_SYNC_REGS,
        "exit without entering (immediate exit)": abi.CAP_IMMEDIATE_EXIT,
        "single-step and breakpoints": abi.CAP_SET_GUEST_DEBUG,
        "counters without root (stats fd)": abi.CAP_BINARY_STATS_FD,
        "MSR exits to user space": abi.CAP_X86_USER_SPACE_MSR,
        "read-only memory for ROMs": abi.CAP_READONLY_MEM,
        "extended FPU state, bytes": abi.CAP_XSAVE2,
        "switch off HLT/MWAIT/PAUSE exits (bits)": abi.CAP_X86_DISABLE_EXITS,
    }
    try:
        with Kvm() as kvm:
            return {name: kvm.check(number) for name, number in words.items()}
    except MinihvError:  # it worked a moment ago; then "engines" says why it does not
        return {}


def _lines(facts: Mapping[str, Any], show_cpuid: bool) -> Iterator[str]:
    host, kvm = facts["host"], facts["kvm"]
    yield f"host      {host['cpu']}, {host['machine']}, {host['cpus']} CPUs"
    yield f"          Linux {host['kernel']}, Python {host['python']}"
    yield f"/dev/kvm  {kvm['device']}"
    yield f"kind      {kvm['words']}"
    for name, value in kvm["capabilities"].items():
        yield f"          {name}: {_words_for(name, value)}"
    yield "engines"
    for name, row in facts["engines"].items():
        yield f"          {name}: {'works' if row['works'] else row['reason']}"
    if show_cpuid:
        from minihv.engine.kvm.cpuid import CPUID_CHANGES

        yield "CPUID of a guest: the host's as KVM supports it, except"
        for where, what, why in CPUID_CHANGES:
            yield f"          {where}: {what}; {why}"


def _words_for(name: str, value: int) -> str:
    """A number where the capability is one, else whether it is there."""
    return str(value) if value and name in NUMBERS else "yes" if value else "no"
