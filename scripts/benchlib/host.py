"""The machine that the numbers are from, and what it lacks."""

import os
import platform
import shutil
import subprocess
from pathlib import Path

from minihv.engine.kvm.engine import probe
from minihv.engine.kvm.kind import KIND_WORDS, kvm_kind
from minihv.host.cpu import read_cpu

ROOT = Path(__file__).resolve().parents[2]
BUSY = 0.25
"""Load average for each processor above which the numbers deserve a warning."""


def describe() -> dict[str, str]:
    """CPU, kernel, KVM kind, versions of what is compared, and how busy the host is, in words."""
    cpu = read_cpu()
    kind = kvm_kind(cpu)
    processors = os.cpu_count() or 1
    load = os.getloadavg()[0]
    words = {
        "cpu": f"{cpu.model or cpu.vendor}, {processors} processors",
        "kernel": f"{platform.system()} {platform.release()}",
        "kvm": f"{kind} ({KIND_WORDS[kind]})",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "minihv": _first_line(["git", "-C", str(ROOT), "describe", "--always", "--dirty"])
        or "unknown commit",
        "gcc": _first_line(["gcc", "--version"]) or "none",
        "qemu": _first_line(["qemu-system-x86_64", "--version"]) or "none",
        "load": f"{load:.2f} (1 minute, before the run)",
    }
    if load / processors > BUSY:
        words["warning"] = "other work is running on this host: trust ratios only, and those not too far"
    return words


def lacks_kvm() -> str | None:
    """Why nothing can be measured under KVM here, in one sentence; None where it can."""
    return probe()


def lacks_tool(name: str, package: str) -> str | None:
    """Why the comparison with `name` is missing; None where it is installed."""
    return None if shutil.which(name) else f"{name} is not installed (Debian: apt-get install {package})"


def _first_line(command: list[str]) -> str:
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.partition("\n")[0].strip()
