"""Which KVM this is. Numbers mean nothing without it: VT-x, AMD-V, nested in another VM, or PVM."""

import os

from minihv.host.cpu import CpuInfo, read_cpu

KIND_WORDS = {
    "vt-x": "Intel VT-x: guest code of every ring runs on the processor",
    "amd-v": "AMD-V: guest code of every ring runs on the processor",
    "nested vt-x": "Intel VT-x inside another hypervisor's VM: exits cost several times more",
    "nested amd-v": "AMD-V inside another hypervisor's VM: exits cost several times more",
    "pvm": "PVM, no VT-x or AMD-V: guest ring 3 runs on the processor, guest ring 0 is EMULATED by the host "
    "kernel (about 1.5 million instructions a second), an exit costs about 10 us",
    "unknown": "a KVM that minihv does not know: no kvm_intel, kvm_amd or kvm_pvm module, no vmx or svm flag",
}


def kvm_kind(cpu: CpuInfo | None = None, modules: str = "/sys/module") -> str:
    """A key of KIND_WORDS. PVM is told by its module, the others by the processor's flags; where the flags
    are hidden, by their modules. (A kernel may have both built in, and then both folders exist.)"""
    if os.path.isdir(f"{modules}/kvm_pvm"):
        return "pvm"
    cpu = cpu or read_cpu()
    nested = "nested " if "hypervisor" in cpu.flags else ""
    for flag, kind in (("vmx", "vt-x"), ("svm", "amd-v")):
        if flag in cpu.flags:
            return nested + kind
    for module, kind in (("kvm_intel", "vt-x"), ("kvm_amd", "amd-v")):
        if os.path.isdir(f"{modules}/{module}"):
            return nested + kind
    return "unknown"
