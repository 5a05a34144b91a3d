"""Two architectural states side by side: what counts, and what may differ between engines, in one table."""

import struct
from collections.abc import Mapping
from typing import NamedTuple

from minihv.x86 import registers as x
from minihv.x86.state import GPR_NAMES, SEGMENT_NAMES, CpuState, Segment

NOT_COMPARED: Mapping[str, str] = {
    "TSC, TSC_ADJUST, TSC deadline": "time runs as the engine runs",
    "APIC ids, local APIC page, IA32_APIC_BASE": "each engine has controllers of its own",
    "CR2, DR6": "left over from faults and steps; what counts of them is read by the guest",
    "RFLAGS.TF and RF": "the step itself sets them on some engines",
    "accessed and busy bits of segments": "set when a segment is loaded; a loader may have set them before",
    "hidden parts of unusable segments": "nobody can see them",
    "base and limit of FS and GS with a null selector": "processors of the two vendors differ",
    "RPL of CS and SS after SYSCALL under PVM": "PVM runs the guest's kernel in ring 3 and shows it",
    "DS, ES, FS, GS in long mode under PVM": "IRET to ring 3 does not null them there",
    "RFLAGS.IF in R11 after SYSCALL under PVM": "ring 3 has interrupts on there, whatever the guest says",
    "exits at PIC, PIT, IOAPIC and local APIC": "an engine that brings its own needs none",
    "MSRs that only one engine has": "CPUID says what there is",
}  # fmt: skip
"""What a comparison of two engines leaves out, and why."""

ADOPTED: Mapping[str, str] = {
    "RDTSC, RDTSCP, RDPMC": "time, and counts of the host",
    "CPUID, XGETBV": "engines are different processors",
    "RDMSR": "so are their machine check, MTRR and power MSRs",
    "SGDT, SIDT, SLDT, STR, SMSW in ring 3": "under PVM the host answers",
    "IN from PIT, RTC and port 0x61": "time",
    "loads from interrupt controllers": "timers count down there, and their versions differ",
}
"""Instructions whose results may differ: the second engine gets the first one's registers and goes on."""

MSRS = (
    x.MSR_STAR, x.MSR_LSTAR, x.MSR_CSTAR, x.MSR_SFMASK, x.MSR_KERNEL_GS_BASE, x.MSR_SYSENTER_CS,
    x.MSR_SYSENTER_ESP, x.MSR_SYSENTER_EIP, x.MSR_PAT,
)  # fmt: skip
_AT_RESET = {x.MSR_PAT: 0x0007_0406_0007_0406}
"""An MSR that a state does not list has the value of RESET (SDM Vol. 3A, 12.12.4)."""
_LOOSE_FLAGS = x.RFLAGS_TF | x.RFLAGS_RF
_ACCESSED, _BUSY, _CODE_OR_DATA, _UNUSABLE = 1, 2, 0x10, 1 << 16


class Difference(NamedTuple):
    """One register on both engines."""

    name: str
    first: int
    second: int


def flatten(state: CpuState) -> dict[str, int]:
    """What counts of a state, by the names of registers."""
    found = dict(zip(GPR_NAMES, state.gpr, strict=True))
    found["rip"] = state.rip
    found["rflags"] = state.rflags & ~_LOOSE_FLAGS | x.RFLAGS_FIXED
    for name in SEGMENT_NAMES:
        found.update(_segment(name, getattr(state, name)))
    found["ldtr"], found["tr"] = state.ldtr.selector, state.tr.selector
    for name, table in (("gdtr", state.gdtr), ("idtr", state.idtr)):
        found[name], found[f"{name}.limit"] = table.base, table.limit
    found["cr0"], found["cr3"], found["cr4"] = state.cr0 | x.CR0_ET, state.cr3, state.cr4
    found["efer"] = state.efer
    found["cr8"], found["xcr0"] = state.cr8, state.xcr0
    for n in range(4):
        found[f"dr{n}"] = state.dr[n]
    found["dr7"] = state.dr[5] | x.DR7_FIXED
    for index in MSRS:
        found[x.MSR_NAMES.get(index, f"MSR {index:#x}")] = state.msrs.get(index, _AT_RESET.get(index, 0))
    found.update(_fpu(state.xsave))
    return found


def _segment(name: str, segment: Segment) -> dict[str, int]:
    unusable = segment.access & _UNUSABLE or not segment.access & 0x80
    found = {name: segment.selector}
    if unusable or (segment.selector < 4 and name in ("fs", "gs")):
        return found
    access = segment.access
    access |= _ACCESSED if access & _CODE_OR_DATA else _BUSY
    found.update({f"{name}.base": segment.base, f"{name}.limit": segment.limit, f"{name}.access": access})
    return found


def _fpu(area: bytes) -> dict[str, int]:
    """x87, MXCSR and XMM of an XSAVE area; a component that its header leaves out is in its initial state."""
    present = int.from_bytes(area[512:520], "little") if len(area) >= 576 else 0
    fcw, fsw, ftw = struct.unpack_from("<HHB", area) if present & 1 else (0x37F, 0, 0)
    mxcsr = int.from_bytes(area[24:28], "little") if present & 6 else 0x1F80
    found = {"fcw": fcw, "fsw": fsw, "ftw": ftw, "mxcsr": mxcsr}
    for n in range(8):
        full = present & 1 and ftw >> ((fsw >> 11) + n & 7) & 1
        found[f"st{n}"] = int.from_bytes(area[32 + 16 * n : 42 + 16 * n], "little") if full else 0
    for n in range(16):
        raw = area[160 + 16 * n : 176 + 16 * n] if present & 2 else b""
        found[f"xmm{n}"] = int.from_bytes(raw, "little")
    return found


def differences(
    first: CpuState, second: CpuState, loose_flags: int = 0, pvm: bool = False
) -> list[Difference]:
    """What differs, in the order of `flatten`. `loose_flags`: RFLAGS bits that do not count; `pvm`: one of
    the two runs on a PVM host."""
    a, b = flatten(first), flatten(second)
    found = []
    for name in [*a, *(name for name in b if name not in a)]:
        u, v = a.get(name), b.get(name)
        if u is None or v is None or u == v:
            continue  # the hidden part of a segment that only one side can use shows in its selector
        if name == "rflags" and not (u ^ v) & ~loose_flags:
            continue
        if pvm and name in ("cs", "ss") and not (u ^ v) & ~3:
            continue
        if pvm and name == "r11" and u ^ v == x.RFLAGS_IF:
            continue
        if pvm and name.partition(".")[0] in ("ds", "es", "fs", "gs") and first.efer & x.EFER_LMA:
            continue
        if pvm and name in ("cs.access", "ss.access") and not (u ^ v) & ~0x60:
            continue
        found.append(Difference(name, u, v))
    return found
