"""CPUID for the guest: the host's, as KVM supports it, with a short and visible list of changes."""

from minihv.records import Record

CPUID_CHANGES = (
    ("leaf 1 EBX[31:24]", "initial APIC id", "every vCPU has its own"),
    ("leaf 1 EBX[23:16]", "logical processors", "the machine's number of vCPUs, not the host's"),
    ("leaf 1 ECX[31]", "hypervisor present", "a guest may know that it is one"),
    ("leaf 1 ECX[24]", "TSC-deadline timer", "set where KVM's own LAPIC provides it"),
    ("leaf 1 ECX[21]", "x2APIC", "off where the local APIC is a model (--irqchip none)"),
    ("leaf 4 EAX[31:26]", "cores in the package", "the machine's number of vCPUs"),
    ("leaf 0xB and 0x1F", "topology", "one package with the machine's vCPUs as cores; EDX is the x2APIC id"),
    ("leaf 0x80000008 ECX", "cores in the package", "the machine's number of vCPUs"),
    ("leaf 0x8000001E EAX, EBX", "extended APIC id, core id", "every vCPU has its own"),
)
"""(where, what, why) of everything that differs from KVM_GET_SUPPORTED_CPUID; shown by `minihv doctor`."""

CACHE_TYPE = 0x1F
"""Leaf 4 EAX[4:0]; 0 ends the list of caches."""
SIGNIFICANT_INDEX = 1
"""KVM_CPUID_FLAG_SIGNIFCANT_INDEX: the leaf has sub-leaves."""


class CpuidEntry(Record):
    """One leaf (`function`) and sub-leaf (`index`) as in struct kvm_cpuid_entry2."""

    __slots__ = ("function", "index", "flags", "eax", "ebx", "ecx", "edx")

    def __init__(self, function: int, index: int, flags: int, eax: int, ebx: int, ecx: int, edx: int) -> None:
        self.function = function
        self.index = index
        self.flags = flags
        self.eax = eax
        self.ebx = ebx
        self.ecx = ecx
        self.edx = edx


def guest_cpuid(entries: list[CpuidEntry], apic_id: int, cpus: int, kernel_lapic: bool) -> list[CpuidEntry]:
    """A changed copy of the host's `entries` for the vCPU with `apic_id` in a machine of `cpus`."""
    result = []
    bits = max(cpus - 1, 0).bit_length()
    for old in entries:
        e = CpuidEntry(old.function, old.index, old.flags, old.eax, old.ebx, old.ecx, old.edx)
        if e.function == 1:
            e.ebx = e.ebx & 0x0000FFFF | (apic_id & 0xFF) << 24 | min(cpus, 255) << 16
            e.ecx |= 1 << 31
            e.ecx = e.ecx | 1 << 24 if kernel_lapic else e.ecx & ~(1 << 24)
            e.edx = e.edx | 1 << 28 if cpus > 1 else e.edx & ~(1 << 28)
            if not kernel_lapic:
                e.ecx &= ~(1 << 21)
        elif e.function == 4 and e.eax & CACHE_TYPE:
            e.eax = e.eax & 0x03FFFFFF | min(cpus - 1, 63) << 26
        elif e.function in (0xB, 0x1F):
            if e.index:
                continue  # KVM lists only sub-leaf 0 or the host's levels: all of ours come with it
            result += _topology(e, apic_id, cpus, bits)
            continue
        elif e.function == 0x80000008:
            e.ecx = e.ecx & ~0xF0FF | min(cpus - 1, 255) | bits << 12
        elif e.function == 0x8000001E:
            e.eax, e.ebx = apic_id, apic_id & 0xFF
        result.append(e)
    return result


def _topology(e: CpuidEntry, apic_id: int, cpus: int, bits: int) -> list[CpuidEntry]:
    """Leaf 0xB (SDM Vol. 2A, CPUID): sub-leaf 0 is one thread a core, 1 the cores, 2 the end of the list."""
    levels = ((0, 1, 1 << 8), (bits, cpus, 2 << 8 | 1), (0, 0, 2))
    return [
        CpuidEntry(e.function, index, SIGNIFICANT_INDEX, eax, ebx, ecx, apic_id)
        for index, (eax, ebx, ecx) in enumerate(levels)
    ]
