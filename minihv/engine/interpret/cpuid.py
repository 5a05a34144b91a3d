"""CPUID: exactly what this interpreter implements (SDM Vol. 2A, CPUID; APM Vol. 3, appendix E).

Feature lists name bits as the manuals do; adding a feature is one word here plus its instructions.
"""

from collections.abc import Callable

from minihv.engine.interpret.cpu import Cpu
from minihv.engine.interpret.mmu import PHYS_BITS
from minihv.x86.registers import CR4_OSXSAVE, CR4_PKE

Registers = tuple[int, int, int, int]
"""EAX, EBX, ECX, EDX."""

INTEL, AMD = "GenuineIntel", "AuthenticAMD"
HYPERVISOR = "minihvminihv"
BRAND = "minihv interpreted processor"

FEATURES_1_EDX = {
    "fpu": 0, "de": 2, "pse": 3, "tsc": 4, "msr": 5, "pae": 6, "mce": 7, "cx8": 8, "apic": 9, "sep": 11,
    "mtrr": 12, "pge": 13, "mca": 14, "cmov": 15, "pat": 16, "pse36": 17, "clflush": 19, "mmx": 23,
    "fxsr": 24, "sse": 25, "sse2": 26,
}  # fmt: skip
FEATURES_1_ECX = {
    "sse3": 0, "ssse3": 9, "cx16": 13, "pcid": 17, "sse4.1": 19, "sse4.2": 20, "x2apic": 21, "movbe": 22,
    "popcnt": 23, "tsc-deadline": 24, "xsave": 26, "osxsave": 27, "hypervisor": 31,
}  # fmt: skip
FEATURES_7_EBX = {
    "fsgsbase": 0, "tsc_adjust": 1, "bmi1": 3, "smep": 7, "bmi2": 8, "erms": 9, "invpcid": 10, "adx": 19,
    "smap": 20, "clflushopt": 23, "clwb": 24,
}  # fmt: skip
FEATURES_7_ECX = {"umip": 2, "pku": 3, "ospke": 4, "rdpid": 22}
FEATURES_7_EDX = {"fsrm": 4}
FEATURES_EXT_EDX = {"syscall": 11, "nx": 20, "pdpe1gb": 26, "rdtscp": 27, "lm": 29}
FEATURES_EXT_ECX = {"lahf": 0, "abm": 5, "prefetchw": 8}
# APM Vol. 3, E.4.2: on AMD, Fn8000_0001 EDX repeats these bits of Fn0000_0001 EDX at the same places.
_AMD_REPEATED = sum(
    1 << FEATURES_1_EDX[name]
    for name in (
        "fpu", "de", "pse", "tsc", "msr", "pae", "mce", "cx8", "apic", "mtrr", "pge", "mca", "cmov", "pat",
        "pse36", "mmx", "fxsr",
    )
)  # fmt: skip

NEED_LAPIC = ("apic", "x2apic", "tsc-deadline")
SIGNATURES = {INTEL: 0x000306C3, AMD: 0x00A10F11}
"""Family, model, stepping: a processor of that vendor with about these features."""

XCR0_BITS = 1 | 2 | 1 << 9
"""What XSETBV accepts: x87, SSE, PKRU."""
MAX_BASIC = 0x16
MAX_EXTENDED = 0x80000008


def _bits(features: dict[str, int], without: tuple[str, ...] = ()) -> int:
    return sum(1 << bit for name, bit in features.items() if name not in without)


def pkru_offset(amd: bool) -> int:
    """Where PKRU lies in the standard XSAVE format: as on that vendor's processors, so states can move."""
    return 0x980 if amd else 0xA80


def xsave_size(xcr0: int, amd: bool) -> int:
    """Bytes of a standard-format area with the components of `xcr0`."""
    return pkru_offset(amd) + 8 if xcr0 >> 9 & 1 else 576


def cpuid(cpu: Cpu, leaf: int, subleaf: int) -> Registers:
    """What CPUID returns. Out of range: the data of the highest basic leaf on Intel, zeros on AMD."""
    if 0x40000000 <= leaf < 0x40010000:
        return _hypervisor(leaf)
    table, top = (_EXTENDED, MAX_EXTENDED) if leaf >= 0x80000000 else (_BASIC, MAX_BASIC)
    if leaf > top:
        if cpu.amd:
            return 0, 0, 0, 0
        leaf, table = MAX_BASIC, _BASIC
    row = table.get(leaf)
    return row(cpu, subleaf) if row is not None else (0, 0, 0, 0)


def _words(text: str, count: int) -> list[int]:
    raw = text.encode().ljust(4 * count, b"\0")
    return [int.from_bytes(raw[4 * n : 4 * n + 4], "little") for n in range(count)]


def _vendor(cpu: Cpu, top: int) -> Registers:
    ebx, edx, ecx = _words(AMD if cpu.amd else INTEL, 3)
    return top, ebx, ecx, edx


def _apic_id(cpu: Cpu) -> int:
    return cpu.index


def _missing(cpu: Cpu) -> tuple[str, ...]:
    """Features that depend on what stands at the interrupt pin, and on whether it is switched on."""
    if cpu.local_apic is None:
        return NEED_LAPIC
    base = cpu.local_apic.read_msr(0x1B)
    if base is None:
        return NEED_LAPIC
    return () if base & 0x800 else ("apic",)


def _features(cpu: Cpu, _: int) -> Registers:
    missing = _missing(cpu)
    ecx = _bits(FEATURES_1_ECX, missing if cpu.cr4 & CR4_OSXSAVE else (*missing, "osxsave"))
    ebx = _apic_id(cpu) << 24 | cpu.cpus << 16 | 8 << 8  # CLFLUSH line of 8 quadwords
    edx = _bits(FEATURES_1_EDX, missing) | (1 << 28 if cpu.cpus > 1 else 0)
    return SIGNATURES[AMD if cpu.amd else INTEL], ebx, ecx, edx


def _structured(cpu: Cpu, subleaf: int) -> Registers:
    if subleaf:
        return 0, 0, 0, 0
    ecx = _bits(FEATURES_7_ECX, () if cpu.cr4 & CR4_PKE else ("ospke",))
    return 0, _bits(FEATURES_7_EBX), ecx, _bits(FEATURES_7_EDX)


def _topology(cpu: Cpu, subleaf: int) -> Registers:
    """One thread per core, all cores in one package (leaf 0xB)."""
    if cpu.local_apic is None:
        return 0, 0, 0, 0
    shift = max(cpu.cpus - 1, 0).bit_length()
    rows = {0: (0, 1, 1 << 8), 1: (shift, cpu.cpus, 2 << 8 | 1)}
    width, count, ecx = rows.get(subleaf, (0, 0, subleaf & 0xFF))
    return width, count, ecx, _apic_id(cpu)


def _xsave(cpu: Cpu, subleaf: int) -> Registers:
    if subleaf == 0:
        return XCR0_BITS, xsave_size(cpu.xcr0, cpu.amd), xsave_size(XCR0_BITS, cpu.amd), 0
    if subleaf == 1:
        return XSAVE_EXTENSIONS, xsave_size(cpu.xcr0, cpu.amd), 0, 0
    if subleaf == 9:
        return 8, pkru_offset(cpu.amd), 0, 0
    return 0, 0, 0, 0


XSAVE_EXTENSIONS = 0b0101
"""Leaf 0xD.1 EAX: bit 0 XSAVEOPT, 1 XSAVEC, 2 XGETBV with ECX = 1, 3 XSAVES."""


def _extended_features(cpu: Cpu, _: int) -> Registers:
    edx = _bits(FEATURES_EXT_EDX)
    if cpu.amd:
        edx |= _AMD_REPEATED & _bits(FEATURES_1_EDX, _missing(cpu))
    elif not cpu.in64:
        edx &= ~(1 << 11)  # Intel shows SYSCALL in 64-bit mode only
    signature = SIGNATURES[AMD] if cpu.amd else 0
    return signature, 0, _bits(FEATURES_EXT_ECX), edx


def _brand(part: int) -> Callable[[Cpu, int], Registers]:
    words = _words(BRAND, 12)[4 * part : 4 * part + 4]
    row = (words[0], words[1], words[2], words[3])
    return lambda cpu, subleaf: row


def _caches(cpu: Cpu, _: int) -> Registers:
    """L2 of 256 KiB, 8-way, 64-byte lines (leaf 0x80000006)."""
    return 0, 0, 256 << 16 | 6 << 12 | 64, 0


def _hypervisor(leaf: int) -> Registers:
    if leaf == 0x40000000:
        ebx, ecx, edx = _words(HYPERVISOR, 3)
        return 0x40000000, ebx, ecx, edx
    return 0, 0, 0, 0


_BASIC: dict[int, Callable[[Cpu, int], Registers]] = {
    0x0: lambda cpu, subleaf: _vendor(cpu, MAX_BASIC),
    0x1: _features,
    0x7: _structured,
    0xB: _topology,
    0xD: _xsave,
}
_EXTENDED: dict[int, Callable[[Cpu, int], Registers]] = {
    0x80000000: lambda cpu, subleaf: _vendor(cpu, MAX_EXTENDED) if cpu.amd else (MAX_EXTENDED, 0, 0, 0),
    0x80000001: _extended_features,
    0x80000002: _brand(0),
    0x80000003: _brand(1),
    0x80000004: _brand(2),
    0x80000006: _caches,
    0x80000007: lambda cpu, subleaf: (0, 0, 0, 1 << 8),
    0x80000008: lambda cpu, subleaf: (PHYS_BITS | 48 << 8, 0, max(cpu.cpus - 1, 0) if cpu.amd else 0, 0),
}
