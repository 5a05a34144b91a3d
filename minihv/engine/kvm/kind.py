"""Which KVM this is. Numbers mean nothing without it: VT-x, AMD-V, nested in another VM, or PVM."""

from pathlib import Path
from typing import NamedTuple

KIND_WORDS = {
    "vt-x": "Intel VT-x: guest code of every ring runs on the processor",
    "amd-v": "AMD-V: guest code of every ring runs on the processor",
    "nested vt-x": "Intel VT-x inside another hypervisor's VM: exits cost several times more",
    "nested amd-v": "AMD-V inside another hypervisor's VM: exits cost several times more",
    "pvm": "PVM, no VT-x or AMD-V: guest ring 3 runs on the processor, guest ring 0 is EMULATED by the host "
    "kernel (about 1.5 million instructions a second), an exit costs about 10 us",
    "unknown": "a KVM that minihv does not know: no kvm_intel, kvm_amd or kvm_pvm module, no vmx or svm flag",
}


class CpuInfo(NamedTuple):
    """What /proc/cpuinfo says of the first processor."""

    vendor: str
    model: str
    flags: frozenset[str]


def read_cpu(path: Path = Path("/proc/cpuinfo")) -> CpuInfo:
    """Vendor, model name and flags; empty strings where the file does not tell."""
    fields: dict[str, str] = {}
    try:
        with path.open() as lines:
            for line in lines:
                if not line.strip():
                    break
                key, _, value = line.partition(":")
                fields[key.strip()] = value.strip()
    except OSError:
        return CpuInfo("", "", frozenset())
    flags = frozenset(fields.get("flags", "").split())
    return CpuInfo(fields.get("vendor_id", ""), fields.get("model name", ""), flags)


def kvm_kind(cpu: CpuInfo | None = None, modules: Path = Path("/sys/module")) -> str:
    """A key of KIND_WORDS. PVM is told by its module, the others by the processor's flags; where the flags
    are hidden, by their modules. (A kernel may have both built in, and then both folders exist.)"""
    if (modules / "kvm_pvm").is_dir():
        return "pvm"
    cpu = cpu or read_cpu()
    nested = "nested " if "hypervisor" in cpu.flags else ""
    for flag, kind in (("vmx", "vt-x"), ("svm", "amd-v")):
        if flag in cpu.flags:
            return nested + kind
    for module, kind in (("kvm_intel", "vt-x"), ("kvm_amd", "amd-v")):
        if (modules / module).is_dir():
            return nested + kind
    return "unknown"
