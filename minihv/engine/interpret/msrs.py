"""Model-specific registers: which exist, and what reading and writing them does (SDM Vol. 4; APM Vol. 2, A).

A register is a row of `RULES`; an index without a row is #GP. Values that are nothing but storage live in
`cpu.msrs`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from minihv.engine.interpret.cpu import CS, FS, GS, M32, M64, Cpu
from minihv.engine.interpret.faults import protection
from minihv.x86 import registers as x
from minihv.x86.registers import CR0_PG, EFER_LMA, EFER_LME, EFER_NXE, EFER_SCE

Reader = Callable[[Cpu, int], int]
Writer = Callable[[Cpu, int, int], None]

EFER_WRITABLE = EFER_SCE | EFER_LME | EFER_NXE


@dataclass(frozen=True, slots=True)
class Rule:
    """How one MSR behaves. `read` and `write` raise #GP for what is refused."""

    read: Reader
    write: Writer
    stored: bool = True
    """The value lives in `cpu.msrs` and belongs to a state."""


def read(cpu: Cpu, index: int) -> int:
    """RDMSR. Raises #GP(0) for an unknown register."""
    rule = RULES.get(index)
    if rule is None:
        if cpu.local_apic is not None and (index == x.MSR_TSC_DEADLINE or 0x800 <= index <= 0x8FF):
            cpu.be_precise()
            value = cpu.local_apic.read_msr(index)
            if value is not None:
                return value
        rule = AMD_RULES.get(index) if cpu.amd else None
        if rule is None:
            raise protection()
    return rule.read(cpu, index)


def write(cpu: Cpu, index: int, value: int) -> None:
    """WRMSR. Raises #GP(0) for an unknown register or a refused value."""
    rule = RULES.get(index)
    if rule is None:
        if cpu.local_apic is not None and (index == x.MSR_TSC_DEADLINE or 0x800 <= index <= 0x8FF):
            cpu.be_precise()
            if cpu.local_apic.write_msr(index, value):
                return
        rule = AMD_RULES.get(index) if cpu.amd else None
        if rule is None:
            raise protection()
    rule.write(cpu, index, value)


def is_canonical(value: int) -> bool:
    """48-bit canonical address."""
    return not (value >> 47) + 1 & 0x1FFFE


# --- rules --------------------------------------------------------------------------------------------


def _storage(reset: int = 0, allowed: int = M64, check: Callable[[int], bool] | None = None) -> Rule:
    """A register that keeps what is written; bits outside `allowed` (and values failing `check`) are #GP."""

    def get(cpu: Cpu, index: int) -> int:
        return cpu.msrs.get(index, reset)

    def put(cpu: Cpu, index: int, value: int) -> None:
        if value & ~allowed or (check is not None and not check(value)):
            raise protection()
        cpu.msrs[index] = value

    return Rule(get, put)


def _constant(value: int) -> Rule:
    """Read-only."""

    def put(cpu: Cpu, index: int, new: int) -> None:
        raise protection()

    return Rule(lambda cpu, index: value, put, stored=False)


def _ignore(value: int = 0) -> Rule:
    """Reads a constant, takes and drops any write."""
    return Rule(lambda cpu, index: value, lambda cpu, index, new: None, stored=False)


_MEMORY_TYPES = frozenset((0, 1, 4, 5, 6))


def _pat_ok(value: int) -> bool:
    """Each byte a memory type; 7 is UC- and only PAT has it (SDM Vol. 3A, 11.12.2)."""
    return all((value >> 8 * n & 0xFF) in _MEMORY_TYPES | {7} for n in range(8))


def _fixed_mtrr_ok(value: int) -> bool:
    return all((value >> 8 * n & 0xFF) in _MEMORY_TYPES for n in range(8))


def _canonical_storage() -> Rule:
    return _storage(check=is_canonical)


def _get_efer(cpu: Cpu, index: int) -> int:
    return cpu.efer


def _put_efer(cpu: Cpu, index: int, value: int) -> None:
    """LMA is ours; LME must not change while paging is on (SDM Vol. 3A, 9.8.5)."""
    if value & ~(EFER_WRITABLE | EFER_LMA):
        raise protection()
    if (value ^ cpu.efer) & EFER_LME and cpu.cr0 & CR0_PG:
        raise protection()
    cpu.efer = value & EFER_WRITABLE | cpu.efer & EFER_LMA
    cpu.mmu.flush()
    cpu.mode_changed()


def _segment_base(segment: int) -> Rule:
    def get(cpu: Cpu, index: int) -> int:
        return cpu.seg[segment].base

    def put(cpu: Cpu, index: int, value: int) -> None:
        if not is_canonical(value):
            raise protection()
        cpu.seg[segment].base = value

    return Rule(get, put, stored=False)


def tsc(cpu: Cpu) -> int:
    """The time-stamp counter as the guest sees it."""
    return cpu.tsc() + cpu.tsc_offset & M64


def _get_tsc(cpu: Cpu, index: int) -> int:
    cpu.be_precise()
    return tsc(cpu)


def _put_tsc(cpu: Cpu, index: int, value: int) -> None:
    """Writing the counter moves TSC_ADJUST by as much (SDM Vol. 3B, 18.17.3)."""
    cpu.be_precise()
    delta = value - tsc(cpu)
    cpu.tsc_offset = cpu.tsc_offset + delta & M64
    cpu.msrs[x.MSR_TSC_ADJUST] = cpu.msrs.get(x.MSR_TSC_ADJUST, 0) + delta & M64


def _put_tsc_adjust(cpu: Cpu, index: int, value: int) -> None:
    cpu.tsc_offset = cpu.tsc_offset + value - cpu.msrs.get(index, 0) & M64
    cpu.msrs[index] = value


def _get_apic_base(cpu: Cpu, index: int) -> int:
    if cpu.local_apic is not None:
        value = cpu.local_apic.read_msr(index)
        if value is not None:
            return value
    return x.APIC_BASE_DEFAULT | (x.APIC_BASE_BSP if cpu.index == 0 else 0)


def _put_apic_base(cpu: Cpu, index: int, value: int) -> None:
    cpu.be_precise()
    if cpu.local_apic is None or not cpu.local_apic.write_msr(index, value):
        raise protection()
    cpu.mmu.flush()


_MISC_ENABLE_RESET = 1 | 1 << 11 | 1 << 12  # fast strings; BTS and PEBS unavailable
_MTRR_PAIRS = 8


def _mtrr_rules() -> dict[int, Rule]:
    mask = (1 << 48) - 1
    rules = {x.MSR_MTRRCAP: _constant(_MTRR_PAIRS | 1 << 8 | 1 << 10)}
    for n in range(_MTRR_PAIRS):
        rules[x.MSR_MTRR_PHYSBASE0 + 2 * n] = _storage(
            allowed=mask & ~0xF00, check=lambda value: value & 0xFF in _MEMORY_TYPES
        )
        rules[x.MSR_MTRR_PHYSMASK0 + 2 * n] = _storage(allowed=mask & ~0x7FF)
    fixed = (x.MSR_MTRR_FIX64K_00000, x.MSR_MTRR_FIX16K_80000, x.MSR_MTRR_FIX16K_A0000)
    for index in (*fixed, *(x.MSR_MTRR_FIX4K_C0000 + n for n in range(8))):
        rules[index] = _storage(check=_fixed_mtrr_ok)
    rules[x.MSR_MTRR_DEF_TYPE] = _storage(allowed=0xCFF, check=lambda value: value & 0xFF in _MEMORY_TYPES)
    return rules


RULES: dict[int, Rule] = {
    x.MSR_P5_MC_ADDR: _ignore(),
    x.MSR_P5_MC_TYPE: _ignore(),
    x.MSR_TSC: Rule(_get_tsc, _put_tsc, stored=False),
    x.MSR_PLATFORM_ID: _constant(0),
    x.MSR_APIC_BASE: Rule(_get_apic_base, _put_apic_base, stored=False),
    x.MSR_FEATURE_CONTROL: _storage(reset=1, allowed=1),
    x.MSR_TSC_ADJUST: Rule(lambda cpu, index: cpu.msrs.get(index, 0), _put_tsc_adjust),
    x.MSR_BIOS_UPDT_TRIG: _ignore(),
    x.MSR_BIOS_SIGN_ID: Rule(
        lambda cpu, index: cpu.msrs.get(index, 1 << 32),
        lambda cpu, index, value: cpu.msrs.update({index: value}),
    ),
    x.MSR_SYSENTER_CS: _storage(),
    x.MSR_SYSENTER_ESP: _canonical_storage(),
    x.MSR_SYSENTER_EIP: _canonical_storage(),
    x.MSR_MCG_CAP: _constant(0),
    x.MSR_MCG_STATUS: _storage(),
    x.MSR_PERF_STATUS: _constant(0),
    x.MSR_MISC_ENABLE: _storage(reset=_MISC_ENABLE_RESET),
    x.MSR_DEBUGCTL: _storage(allowed=3),
    x.MSR_LASTBRANCHFROMIP: _ignore(),
    x.MSR_LASTBRANCHTOIP: _ignore(),
    x.MSR_LASTINTFROMIP: _ignore(),
    x.MSR_LASTINTTOIP: _ignore(),
    x.MSR_PAT: _storage(reset=0x0007040600070406, check=_pat_ok),
    x.MSR_EFER: Rule(_get_efer, _put_efer, stored=False),
    x.MSR_STAR: _storage(),
    x.MSR_LSTAR: _canonical_storage(),
    x.MSR_CSTAR: _canonical_storage(),
    x.MSR_SFMASK: _storage(allowed=M32),
    x.MSR_FS_BASE: _segment_base(FS),
    x.MSR_GS_BASE: _segment_base(GS),
    x.MSR_KERNEL_GS_BASE: _canonical_storage(),
    x.MSR_TSC_AUX: _storage(allowed=M32),
    **_mtrr_rules(),
}
"""MSR -> behaviour, for both vendors."""

AMD_RULES: dict[int, Rule] = {
    **{x.MSR_K7_EVNTSEL0 + n: _storage() for n in range(4)},
    **{x.MSR_K7_PERFCTR0 + n: _storage(allowed=(1 << 48) - 1) for n in range(4)},
    x.MSR_SYSCFG: _storage(allowed=M32),
    x.MSR_HWCR: _storage(allowed=M32),
    x.MSR_VM_CR: _storage(reset=0x10, allowed=0x1F),
    x.MSR_OSVW_ID_LENGTH: _storage(),
    x.MSR_OSVW_STATUS: _storage(),
    x.MSR_DE_CFG: _storage(reset=2),
    x.MSR_LS_CFG: _storage(),
    0xC0010055: _ignore(),  # interrupt pending and C1E control: kernels read it to detect C1E
    0xC001001F: _storage(),  # NB_CFG
}
"""In addition where we claim to be AMD."""

_MOVED = (x.MSR_FS_BASE, x.MSR_GS_BASE)
"""Parts of segment registers: a state has them there."""


def export(cpu: Cpu) -> dict[int, int]:
    """MSRs of a state: what differs from reset, and TSC."""
    values = dict(cpu.msrs)
    values[x.MSR_TSC] = tsc(cpu)
    return values


def load(cpu: Cpu, index: int, value: int) -> None:
    """Take an MSR of a state that another engine may have written; those we do not have are dropped."""
    if index == x.MSR_TSC:
        cpu.tsc_offset = value - cpu.tsc() & M64
    elif index == x.MSR_TSC_ADJUST:
        cpu.msrs[index] = value
    elif index == x.MSR_TSC_DEADLINE or 0x800 <= index <= 0x8FF:
        if cpu.local_apic is not None:
            cpu.local_apic.write_msr(index, value)
    elif index in _MOVED:
        cpu.seg[FS if index == x.MSR_FS_BASE else GS].base = value
    else:
        rule = RULES.get(index) or AMD_RULES.get(index)
        if rule is not None and rule.stored:
            cpu.msrs[index] = value


__all__ = ["AMD_RULES", "CS", "RULES", "Rule", "export", "is_canonical", "load", "read", "tsc", "write"]
