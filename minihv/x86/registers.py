"""Names for bits, MSRs and exception vectors, so that no other file spells a magic number.

Plain integers: an import of this module must cost nothing. Tables for words are at the end of each part.
Sources: SDM Vol. 3A 2.5 (control registers), 2.6 (XCR0), 2.3 (RFLAGS), 6.15 (exceptions), 18.2 (debug
registers), SDM Vol. 4 (MSRs), APM Vol. 2 3.1 and 3.2 and appendix A (AMD's MSRs).
"""

# --- CR0: SDM Vol. 3A, 2.5 --------------------------------------------------------------------------
CR0_PE = 1 << 0
CR0_MP = 1 << 1
CR0_EM = 1 << 2
CR0_TS = 1 << 3
CR0_ET = 1 << 4
CR0_NE = 1 << 5
CR0_WP = 1 << 16
CR0_AM = 1 << 18
CR0_NW = 1 << 29
CR0_CD = 1 << 30
CR0_PG = 1 << 31

CR0_NAMES = {
    CR0_PE: "PE", CR0_MP: "MP", CR0_EM: "EM", CR0_TS: "TS", CR0_ET: "ET", CR0_NE: "NE",
    CR0_WP: "WP", CR0_AM: "AM", CR0_NW: "NW", CR0_CD: "CD", CR0_PG: "PG",
}  # fmt: skip

# --- CR3: SDM Vol. 3A, tables 4-3, 4-7, 4-12 --------------------------------------------------------
CR3_PWT = 1 << 3
CR3_PCD = 1 << 4
CR3_PCID_MASK = 0xFFF
"""Only with CR4.PCIDE set; else bits 3 and 4 are PWT and PCD and the others are ignored."""

CR3_NAMES = {CR3_PWT: "PWT", CR3_PCD: "PCD"}

# --- CR4: SDM Vol. 3A, 2.5 --------------------------------------------------------------------------
CR4_VME = 1 << 0
CR4_PVI = 1 << 1
CR4_TSD = 1 << 2
CR4_DE = 1 << 3
CR4_PSE = 1 << 4
CR4_PAE = 1 << 5
CR4_MCE = 1 << 6
CR4_PGE = 1 << 7
CR4_PCE = 1 << 8
CR4_OSFXSR = 1 << 9
CR4_OSXMMEXCPT = 1 << 10
CR4_UMIP = 1 << 11
CR4_LA57 = 1 << 12
CR4_VMXE = 1 << 13
CR4_SMXE = 1 << 14
CR4_FSGSBASE = 1 << 16
CR4_PCIDE = 1 << 17
CR4_OSXSAVE = 1 << 18
CR4_KL = 1 << 19
CR4_SMEP = 1 << 20
CR4_SMAP = 1 << 21
CR4_PKE = 1 << 22
CR4_CET = 1 << 23
CR4_PKS = 1 << 24
CR4_UINTR = 1 << 25

CR4_NAMES = {
    CR4_VME: "VME", CR4_PVI: "PVI", CR4_TSD: "TSD", CR4_DE: "DE", CR4_PSE: "PSE", CR4_PAE: "PAE",
    CR4_MCE: "MCE", CR4_PGE: "PGE", CR4_PCE: "PCE", CR4_OSFXSR: "OSFXSR", CR4_OSXMMEXCPT: "OSXMMEXCPT",
    CR4_UMIP: "UMIP", CR4_LA57: "LA57", CR4_VMXE: "VMXE", CR4_SMXE: "SMXE", CR4_FSGSBASE: "FSGSBASE",
    CR4_PCIDE: "PCIDE", CR4_OSXSAVE: "OSXSAVE", CR4_KL: "KL", CR4_SMEP: "SMEP", CR4_SMAP: "SMAP",
    CR4_PKE: "PKE", CR4_CET: "CET", CR4_PKS: "PKS", CR4_UINTR: "UINTR",
}  # fmt: skip

# --- EFER: SDM Vol. 3A, 2.2.1; APM Vol. 2, 3.1.7 ----------------------------------------------------
EFER_SCE = 1 << 0
EFER_LME = 1 << 8
EFER_LMA = 1 << 10
EFER_NXE = 1 << 11
EFER_SVME = 1 << 12
EFER_LMSLE = 1 << 13
EFER_FFXSR = 1 << 14
EFER_TCE = 1 << 15
EFER_MCOMMIT = 1 << 17
EFER_INTWB = 1 << 18
EFER_UAIE = 1 << 20
EFER_AIBRSE = 1 << 21

EFER_NAMES = {
    EFER_SCE: "SCE", EFER_LME: "LME", EFER_LMA: "LMA", EFER_NXE: "NXE", EFER_SVME: "SVME",
    EFER_LMSLE: "LMSLE", EFER_FFXSR: "FFXSR", EFER_TCE: "TCE", EFER_MCOMMIT: "MCOMMIT",
    EFER_INTWB: "INTWB", EFER_UAIE: "UAIE", EFER_AIBRSE: "AIBRSE",
}  # fmt: skip

# --- RFLAGS: SDM Vol. 1, 3.4.3; Vol. 3A, 2.3 --------------------------------------------------------
RFLAGS_CF = 1 << 0
RFLAGS_FIXED = 1 << 1
"""Reads as one always."""
RFLAGS_PF = 1 << 2
RFLAGS_AF = 1 << 4
RFLAGS_ZF = 1 << 6
RFLAGS_SF = 1 << 7
RFLAGS_TF = 1 << 8
RFLAGS_IF = 1 << 9
RFLAGS_DF = 1 << 10
RFLAGS_OF = 1 << 11
RFLAGS_IOPL_SHIFT = 12
RFLAGS_IOPL = 3 << RFLAGS_IOPL_SHIFT
RFLAGS_NT = 1 << 14
RFLAGS_RF = 1 << 16
RFLAGS_VM = 1 << 17
RFLAGS_AC = 1 << 18
RFLAGS_VIF = 1 << 19
RFLAGS_VIP = 1 << 20
RFLAGS_ID = 1 << 21

RFLAGS_ARITHMETIC = RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF | RFLAGS_OF
"""The six status flags."""

RFLAGS_NAMES = {
    RFLAGS_CF: "CF", RFLAGS_PF: "PF", RFLAGS_AF: "AF", RFLAGS_ZF: "ZF", RFLAGS_SF: "SF", RFLAGS_TF: "TF",
    RFLAGS_IF: "IF", RFLAGS_DF: "DF", RFLAGS_OF: "OF", RFLAGS_NT: "NT", RFLAGS_RF: "RF", RFLAGS_VM: "VM",
    RFLAGS_AC: "AC", RFLAGS_VIF: "VIF", RFLAGS_VIP: "VIP", RFLAGS_ID: "ID",
}  # fmt: skip

# --- Debug registers: SDM Vol. 3B, 18.2 -------------------------------------------------------------
DR6_B0 = 1 << 0
DR6_B1 = 1 << 1
DR6_B2 = 1 << 2
DR6_B3 = 1 << 3
DR6_BLD = 1 << 11
"""Active low: cleared by a bus-lock debug exception."""
DR6_BD = 1 << 13
DR6_BS = 1 << 14
DR6_BT = 1 << 15
DR6_RTM = 1 << 16
"""Active low: cleared by a debug exception inside a transaction."""
DR6_RESET = 0xFFFF0FF0
"""Value after RESET; its set bits below 32 are those that read as one."""

DR6_NAMES = {
    DR6_B0: "B0", DR6_B1: "B1", DR6_B2: "B2", DR6_B3: "B3", DR6_BD: "BD", DR6_BS: "BS", DR6_BT: "BT",
}  # fmt: skip

DR7_L0 = 1 << 0
DR7_G0 = 1 << 1
DR7_L1 = 1 << 2
DR7_G1 = 1 << 3
DR7_L2 = 1 << 4
DR7_G2 = 1 << 5
DR7_L3 = 1 << 6
DR7_G3 = 1 << 7
DR7_LE = 1 << 8
DR7_GE = 1 << 9
DR7_FIXED = 1 << 10
"""Reads as one always."""
DR7_RTM = 1 << 11
DR7_GD = 1 << 13
DR7_RESET = DR7_FIXED
DR7_CONDITION_SHIFT = 16
"""R/W0 is at bits 16-17, LEN0 at 18-19, then four bits up for each further breakpoint."""
DR7_RW_EXECUTE = 0
DR7_RW_WRITE = 1
DR7_RW_IO = 2
DR7_RW_ACCESS = 3
DR7_LENGTHS = (1, 2, 8, 4)
"""Bytes watched, by the LEN field."""

DR7_NAMES = {
    DR7_L0: "L0", DR7_G0: "G0", DR7_L1: "L1", DR7_G1: "G1", DR7_L2: "L2", DR7_G2: "G2", DR7_L3: "L3",
    DR7_G3: "G3", DR7_LE: "LE", DR7_GE: "GE", DR7_RTM: "RTM", DR7_GD: "GD",
}  # fmt: skip

# --- XCR0: SDM Vol. 1, 13.3 -------------------------------------------------------------------------
XCR0_X87 = 1 << 0
XCR0_SSE = 1 << 1
XCR0_AVX = 1 << 2
XCR0_BNDREGS = 1 << 3
XCR0_BNDCSR = 1 << 4
XCR0_OPMASK = 1 << 5
XCR0_ZMM_HI256 = 1 << 6
XCR0_HI16_ZMM = 1 << 7
XCR0_PKRU = 1 << 9
XCR0_TILECFG = 1 << 17
XCR0_TILEDATA = 1 << 18

XCR0_NAMES = {
    XCR0_X87: "x87", XCR0_SSE: "SSE", XCR0_AVX: "AVX", XCR0_BNDREGS: "BNDREGS", XCR0_BNDCSR: "BNDCSR",
    XCR0_OPMASK: "opmask", XCR0_ZMM_HI256: "ZMM_Hi256", XCR0_HI16_ZMM: "Hi16_ZMM", XCR0_PKRU: "PKRU",
    XCR0_TILECFG: "TILECFG", XCR0_TILEDATA: "TILEDATA",
}  # fmt: skip

# --- Page-fault error code: SDM Vol. 3A, 4.7 --------------------------------------------------------
PF_PRESENT = 1 << 0
"""Clear: an entry was not present; set: rights or reserved bits."""
PF_WRITE = 1 << 1
PF_USER = 1 << 2
PF_RESERVED = 1 << 3
PF_FETCH = 1 << 4
PF_KEY = 1 << 5
PF_SHADOW_STACK = 1 << 6

# --- Selector and selector error code: SDM Vol. 3A, 3.4.2 and 6.13 ----------------------------------
SELECTOR_RPL = 3
SELECTOR_TI = 4
SELECTOR_INDEX = 0xFFF8
ERROR_EXT = 1
ERROR_IDT = 2
ERROR_TI = 4

# --- MSRs: SDM Vol. 4, table 2-2; APM Vol. 2, appendix A --------------------------------------------
MSR_P5_MC_ADDR = 0x0
MSR_P5_MC_TYPE = 0x1
MSR_TSC = 0x10
MSR_PLATFORM_ID = 0x17
MSR_APIC_BASE = 0x1B
MSR_FEATURE_CONTROL = 0x3A
MSR_TSC_ADJUST = 0x3B
MSR_SPEC_CTRL = 0x48
MSR_PRED_CMD = 0x49
MSR_BIOS_UPDT_TRIG = 0x79
MSR_BIOS_SIGN_ID = 0x8B
MSR_SMBASE = 0x9E
MSR_PLATFORM_INFO = 0xCE
MSR_UMWAIT_CONTROL = 0xE1
MSR_MPERF = 0xE7
MSR_APERF = 0xE8
MSR_MTRRCAP = 0xFE
MSR_ARCH_CAPABILITIES = 0x10A
MSR_FLUSH_CMD = 0x10B
MSR_TSX_CTRL = 0x122
MSR_MISC_FEATURES_ENABLES = 0x140
MSR_SYSENTER_CS = 0x174
MSR_SYSENTER_ESP = 0x175
MSR_SYSENTER_EIP = 0x176
MSR_MCG_CAP = 0x179
MSR_MCG_STATUS = 0x17A
MSR_MCG_CTL = 0x17B
MSR_PERFEVTSEL0 = 0x186
MSR_PERF_STATUS = 0x198
MSR_PERF_CTL = 0x199
MSR_THERM_INTERRUPT = 0x19B
MSR_THERM_STATUS = 0x19C
MSR_MISC_ENABLE = 0x1A0
MSR_ENERGY_PERF_BIAS = 0x1B0
MSR_DEBUGCTL = 0x1D9
MSR_LASTBRANCHFROMIP = 0x1DB
MSR_LASTBRANCHTOIP = 0x1DC
MSR_LASTINTFROMIP = 0x1DD
MSR_LASTINTTOIP = 0x1DE
MSR_MTRR_PHYSBASE0 = 0x200
MSR_MTRR_PHYSMASK0 = 0x201
MSR_MTRR_FIX64K_00000 = 0x250
MSR_MTRR_FIX16K_80000 = 0x258
MSR_MTRR_FIX16K_A0000 = 0x259
MSR_MTRR_FIX4K_C0000 = 0x268
MSR_PAT = 0x277
MSR_MTRR_DEF_TYPE = 0x2FF
MSR_FIXED_CTR0 = 0x309
MSR_PERF_CAPABILITIES = 0x345
MSR_FIXED_CTR_CTRL = 0x38D
MSR_PERF_GLOBAL_STATUS = 0x38E
MSR_PERF_GLOBAL_CTRL = 0x38F
MSR_MC0_CTL = 0x400
MSR_VMX_BASIC = 0x480
MSR_U_CET = 0x6A0
MSR_S_CET = 0x6A2
MSR_PL0_SSP = 0x6A4
MSR_PL3_SSP = 0x6A7
MSR_INT_SSP_TABLE = 0x6A8
MSR_TSC_DEADLINE = 0x6E0
MSR_X2APIC_BASE = 0x800
"""x2APIC register at xAPIC offset `o` is MSR 0x800 + (o >> 4) (SDM Vol. 3A, 10.12.1.2)."""
MSR_X2APIC_LAST = 0x8FF
MSR_XSS = 0xDA0

MSR_EFER = 0xC0000080
MSR_STAR = 0xC0000081
MSR_LSTAR = 0xC0000082
MSR_CSTAR = 0xC0000083
MSR_SFMASK = 0xC0000084
MSR_FS_BASE = 0xC0000100
MSR_GS_BASE = 0xC0000101
MSR_KERNEL_GS_BASE = 0xC0000102
MSR_TSC_AUX = 0xC0000103
MSR_K7_EVNTSEL0 = 0xC0010000
MSR_K7_PERFCTR0 = 0xC0010004
MSR_SYSCFG = 0xC0010010
MSR_HWCR = 0xC0010015
MSR_VM_CR = 0xC0010114
MSR_VM_HSAVE_PA = 0xC0010117
MSR_OSVW_ID_LENGTH = 0xC0010140
MSR_OSVW_STATUS = 0xC0010141
MSR_VIRT_SPEC_CTRL = 0xC001011F
MSR_LS_CFG = 0xC0011020
MSR_DE_CFG = 0xC0011029

# KVM's paravirtual MSRs (Documentation/virt/kvm/x86/msr.rst).
MSR_KVM_WALL_CLOCK = 0x11
MSR_KVM_SYSTEM_TIME = 0x12
MSR_KVM_WALL_CLOCK_NEW = 0x4B564D00
MSR_KVM_SYSTEM_TIME_NEW = 0x4B564D01
MSR_KVM_ASYNC_PF_EN = 0x4B564D02
MSR_KVM_STEAL_TIME = 0x4B564D03
MSR_KVM_PV_EOI_EN = 0x4B564D04
MSR_KVM_POLL_CONTROL = 0x4B564D05
MSR_KVM_ASYNC_PF_INT = 0x4B564D06
MSR_KVM_ASYNC_PF_ACK = 0x4B564D07

APIC_BASE_BSP = 1 << 8
APIC_BASE_X2APIC = 1 << 10
APIC_BASE_ENABLE = 1 << 11
APIC_BASE_DEFAULT = 0xFEE00000

MSR_NAMES = {
    MSR_P5_MC_ADDR: "IA32_P5_MC_ADDR",
    MSR_P5_MC_TYPE: "IA32_P5_MC_TYPE",
    MSR_TSC: "IA32_TIME_STAMP_COUNTER",
    MSR_KVM_WALL_CLOCK: "KVM_WALL_CLOCK",
    MSR_KVM_SYSTEM_TIME: "KVM_SYSTEM_TIME",
    MSR_PLATFORM_ID: "IA32_PLATFORM_ID",
    MSR_APIC_BASE: "IA32_APIC_BASE",
    MSR_FEATURE_CONTROL: "IA32_FEATURE_CONTROL",
    MSR_TSC_ADJUST: "IA32_TSC_ADJUST",
    MSR_SPEC_CTRL: "IA32_SPEC_CTRL",
    MSR_PRED_CMD: "IA32_PRED_CMD",
    MSR_BIOS_UPDT_TRIG: "IA32_BIOS_UPDT_TRIG",
    MSR_BIOS_SIGN_ID: "IA32_BIOS_SIGN_ID",
    MSR_SMBASE: "IA32_SMBASE",
    MSR_PLATFORM_INFO: "MSR_PLATFORM_INFO",
    MSR_UMWAIT_CONTROL: "IA32_UMWAIT_CONTROL",
    MSR_MPERF: "IA32_MPERF",
    MSR_APERF: "IA32_APERF",
    MSR_MTRRCAP: "IA32_MTRRCAP",
    MSR_ARCH_CAPABILITIES: "IA32_ARCH_CAPABILITIES",
    MSR_FLUSH_CMD: "IA32_FLUSH_CMD",
    MSR_TSX_CTRL: "IA32_TSX_CTRL",
    MSR_MISC_FEATURES_ENABLES: "MSR_MISC_FEATURES_ENABLES",
    MSR_SYSENTER_CS: "IA32_SYSENTER_CS",
    MSR_SYSENTER_ESP: "IA32_SYSENTER_ESP",
    MSR_SYSENTER_EIP: "IA32_SYSENTER_EIP",
    MSR_MCG_CAP: "IA32_MCG_CAP",
    MSR_MCG_STATUS: "IA32_MCG_STATUS",
    MSR_MCG_CTL: "IA32_MCG_CTL",
    MSR_PERF_STATUS: "IA32_PERF_STATUS",
    MSR_PERF_CTL: "IA32_PERF_CTL",
    MSR_THERM_INTERRUPT: "IA32_THERM_INTERRUPT",
    MSR_THERM_STATUS: "IA32_THERM_STATUS",
    MSR_MISC_ENABLE: "IA32_MISC_ENABLE",
    MSR_ENERGY_PERF_BIAS: "IA32_ENERGY_PERF_BIAS",
    MSR_DEBUGCTL: "IA32_DEBUGCTL",
    MSR_LASTBRANCHFROMIP: "MSR_LASTBRANCHFROMIP",
    MSR_LASTBRANCHTOIP: "MSR_LASTBRANCHTOIP",
    MSR_LASTINTFROMIP: "MSR_LASTINTFROMIP",
    MSR_LASTINTTOIP: "MSR_LASTINTTOIP",
    MSR_MTRR_FIX64K_00000: "IA32_MTRR_FIX64K_00000",
    MSR_MTRR_FIX16K_80000: "IA32_MTRR_FIX16K_80000",
    MSR_MTRR_FIX16K_A0000: "IA32_MTRR_FIX16K_A0000",
    MSR_PAT: "IA32_PAT",
    MSR_MTRR_DEF_TYPE: "IA32_MTRR_DEF_TYPE",
    MSR_PERF_CAPABILITIES: "IA32_PERF_CAPABILITIES",
    MSR_FIXED_CTR_CTRL: "IA32_FIXED_CTR_CTRL",
    MSR_PERF_GLOBAL_STATUS: "IA32_PERF_GLOBAL_STATUS",
    MSR_PERF_GLOBAL_CTRL: "IA32_PERF_GLOBAL_CTRL",
    MSR_VMX_BASIC: "IA32_VMX_BASIC",
    MSR_U_CET: "IA32_U_CET",
    MSR_S_CET: "IA32_S_CET",
    MSR_PL0_SSP: "IA32_PL0_SSP",
    MSR_PL3_SSP: "IA32_PL3_SSP",
    MSR_INT_SSP_TABLE: "IA32_INTERRUPT_SSP_TABLE_ADDR",
    MSR_TSC_DEADLINE: "IA32_TSC_DEADLINE",
    MSR_XSS: "IA32_XSS",
    MSR_EFER: "IA32_EFER",
    MSR_STAR: "IA32_STAR",
    MSR_LSTAR: "IA32_LSTAR",
    MSR_CSTAR: "IA32_CSTAR",
    MSR_SFMASK: "IA32_FMASK",
    MSR_FS_BASE: "IA32_FS_BASE",
    MSR_GS_BASE: "IA32_GS_BASE",
    MSR_KERNEL_GS_BASE: "IA32_KERNEL_GS_BASE",
    MSR_TSC_AUX: "IA32_TSC_AUX",
    MSR_SYSCFG: "SYSCFG",
    MSR_HWCR: "HWCR",
    MSR_VM_CR: "VM_CR",
    MSR_VM_HSAVE_PA: "VM_HSAVE_PA",
    MSR_VIRT_SPEC_CTRL: "VIRT_SPEC_CTRL",
    MSR_OSVW_ID_LENGTH: "OSVW_ID_Length",
    MSR_OSVW_STATUS: "OSVW_Status",
    MSR_LS_CFG: "LS_CFG",
    MSR_DE_CFG: "DE_CFG",
    MSR_KVM_WALL_CLOCK_NEW: "KVM_WALL_CLOCK_NEW",
    MSR_KVM_SYSTEM_TIME_NEW: "KVM_SYSTEM_TIME_NEW",
    MSR_KVM_ASYNC_PF_EN: "KVM_ASYNC_PF_EN",
    MSR_KVM_STEAL_TIME: "KVM_STEAL_TIME",
    MSR_KVM_PV_EOI_EN: "KVM_PV_EOI_EN",
    MSR_KVM_POLL_CONTROL: "KVM_POLL_CONTROL",
    MSR_KVM_ASYNC_PF_INT: "KVM_ASYNC_PF_INT",
    MSR_KVM_ASYNC_PF_ACK: "KVM_ASYNC_PF_ACK",
}

# First index, count, distance between two of a kind, name: families too large for the table above.
_MSR_FAMILIES = (
    (0xC1, 8, 1, "IA32_PMC{}"),
    (MSR_PERFEVTSEL0, 8, 1, "IA32_PERFEVTSEL{}"),
    (MSR_MTRR_PHYSBASE0, 10, 2, "IA32_MTRR_PHYSBASE{}"),
    (MSR_MTRR_PHYSMASK0, 10, 2, "IA32_MTRR_PHYSMASK{}"),
    (MSR_FIXED_CTR0, 3, 1, "IA32_FIXED_CTR{}"),
    (0x280, 32, 1, "IA32_MC{}_CTL2"),
    (MSR_MC0_CTL, 29, 4, "IA32_MC{}_CTL"),
    (MSR_MC0_CTL + 1, 29, 4, "IA32_MC{}_STATUS"),
    (MSR_MC0_CTL + 2, 29, 4, "IA32_MC{}_ADDR"),
    (MSR_MC0_CTL + 3, 29, 4, "IA32_MC{}_MISC"),
    (MSR_K7_EVNTSEL0, 4, 1, "PERF_LEGACY_CTL{}"),
    (MSR_K7_PERFCTR0, 4, 1, "PERF_LEGACY_CTR{}"),
)
_FIX4K_NAMES = ("C0000", "C8000", "D0000", "D8000", "E0000", "E8000", "F0000", "F8000")


def msr_name(index: int) -> str:
    """The manual's name of MSR `index`, or "MSR 0x..." where it has none here."""
    known = MSR_NAMES.get(index)
    if known is not None:
        return known
    if MSR_MTRR_FIX4K_C0000 <= index < MSR_MTRR_FIX4K_C0000 + 8:
        return f"IA32_MTRR_FIX4K_{_FIX4K_NAMES[index - MSR_MTRR_FIX4K_C0000]}"
    if MSR_X2APIC_BASE <= index <= MSR_X2APIC_LAST:
        return f"x2APIC register {index - MSR_X2APIC_BASE << 4:#x}"
    for first, count, step, name in _MSR_FAMILIES:
        number, rest = divmod(index - first, step)
        if 0 <= number < count and not rest:
            return name.format(number)
    return f"MSR {index:#x}"


# --- Exceptions: SDM Vol. 3A, table 6-1; APM Vol. 2, 8.2 --------------------------------------------
VECTOR_DE = 0
VECTOR_DB = 1
VECTOR_NMI = 2
VECTOR_BP = 3
VECTOR_OF = 4
VECTOR_BR = 5
VECTOR_UD = 6
VECTOR_NM = 7
VECTOR_DF = 8
VECTOR_TS = 10
VECTOR_NP = 11
VECTOR_SS = 12
VECTOR_GP = 13
VECTOR_PF = 14
VECTOR_MF = 16
VECTOR_AC = 17
VECTOR_MC = 18
VECTOR_XM = 19
VECTOR_VE = 20
VECTOR_CP = 21
VECTOR_HV = 28
VECTOR_VC = 29
VECTOR_SX = 30

EXCEPTIONS = {
    VECTOR_DE: ("#DE", "divide error"),
    VECTOR_DB: ("#DB", "debug"),
    VECTOR_NMI: ("NMI", "non-maskable interrupt"),
    VECTOR_BP: ("#BP", "breakpoint"),
    VECTOR_OF: ("#OF", "overflow"),
    VECTOR_BR: ("#BR", "BOUND range exceeded"),
    VECTOR_UD: ("#UD", "invalid opcode"),
    VECTOR_NM: ("#NM", "device not available"),
    VECTOR_DF: ("#DF", "double fault"),
    9: ("#9", "coprocessor segment overrun"),
    VECTOR_TS: ("#TS", "invalid TSS"),
    VECTOR_NP: ("#NP", "segment not present"),
    VECTOR_SS: ("#SS", "stack-segment fault"),
    VECTOR_GP: ("#GP", "general protection"),
    VECTOR_PF: ("#PF", "page fault"),
    VECTOR_MF: ("#MF", "x87 floating-point error"),
    VECTOR_AC: ("#AC", "alignment check"),
    VECTOR_MC: ("#MC", "machine check"),
    VECTOR_XM: ("#XM", "SIMD floating-point exception"),
    VECTOR_VE: ("#VE", "virtualization exception"),
    VECTOR_CP: ("#CP", "control protection"),
    VECTOR_HV: ("#HV", "hypervisor injection"),
    VECTOR_VC: ("#VC", "VMM communication"),
    VECTOR_SX: ("#SX", "security exception"),
}
"""Vector -> (mnemonic, name)."""

ERROR_CODE_VECTORS = frozenset(
    {
        VECTOR_DF, VECTOR_TS, VECTOR_NP, VECTOR_SS, VECTOR_GP, VECTOR_PF, VECTOR_AC, VECTOR_CP, VECTOR_VC,
        VECTOR_SX,
    }
)  # fmt: skip
"""Vectors that push an error code (never in real mode; never for INT n)."""

CONTRIBUTORY_VECTORS = frozenset({VECTOR_DE, VECTOR_TS, VECTOR_NP, VECTOR_SS, VECTOR_GP, VECTOR_CP})
"""Two of these in a row make a double fault (SDM Vol. 3A, table 6-5; #VE and #PF have rules of their own)."""


def vector_name(vector: int) -> str:
    """ "#PF (page fault)" for an exception, "vector 0x20" for anything else."""
    known = EXCEPTIONS.get(vector)
    return f"{known[0]} ({known[1]})" if known is not None else f"vector {vector:#x}"


def bit_words(value: int, names: dict[int, str]) -> str:
    """The set bits of `value` in words: "PE ET PG"; bits without a name as "bit 7"; "none" for zero."""
    words = []
    for position in range(value.bit_length()):
        bit = 1 << position
        if value & bit:
            words.append(names.get(bit) or f"bit {position}")
    return " ".join(words) or "none"
