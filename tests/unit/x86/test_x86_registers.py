"""Spot checks of the constants against the manuals, and of the words made from them."""

import minihv.x86.registers as r


def test_no_two_names_share_a_bit_or_an_msr() -> None:
    for table in (r.CR0_NAMES, r.CR4_NAMES, r.EFER_NAMES, r.RFLAGS_NAMES, r.XCR0_NAMES, r.DR6_NAMES):
        assert len(set(table.values())) == len(table)
        assert all(bit & bit - 1 == 0 for bit in table)
    assert len(set(r.MSR_NAMES.values())) == len(r.MSR_NAMES)


def test_bit_positions_by_the_manual() -> None:
    assert (r.CR0_PG, r.CR0_WP) == (0x8000_0000, 0x1_0000)
    assert (r.CR4_PAE, r.CR4_OSXSAVE, r.CR4_SMEP, r.CR4_SMAP) == (0x20, 0x4_0000, 0x10_0000, 0x20_0000)
    assert (r.EFER_LME, r.EFER_LMA, r.EFER_NXE) == (0x100, 0x400, 0x800)
    assert (r.RFLAGS_IF, r.RFLAGS_VM, r.RFLAGS_IOPL) == (0x200, 0x2_0000, 0x3000)
    assert r.RFLAGS_ARITHMETIC == 0x8D5


def test_msr_names_with_families() -> None:
    assert r.msr_name(0x10) == "IA32_TIME_STAMP_COUNTER"
    assert r.msr_name(0xC0000082) == "IA32_LSTAR"
    assert r.msr_name(0x203) == "IA32_MTRR_PHYSMASK1"
    assert r.msr_name(0x405) == "IA32_MC1_STATUS"
    assert r.msr_name(0x269) == "IA32_MTRR_FIX4K_C8000"
    assert r.msr_name(0x80B) == "x2APIC register 0xb0"
    assert r.msr_name(0xC0010005) == "PERF_LEGACY_CTR1"
    assert r.msr_name(0x12345678) == "MSR 0x12345678"


def test_exceptions_that_push_an_error_code() -> None:
    assert sorted(r.ERROR_CODE_VECTORS) == [8, 10, 11, 12, 13, 14, 17, 21, 29, 30]
    assert set(r.EXCEPTIONS) >= r.ERROR_CODE_VECTORS | r.CONTRIBUTORY_VECTORS
    assert r.vector_name(14) == "#PF (page fault)"
    assert r.vector_name(0x20) == "vector 0x20"


def test_bits_in_words() -> None:
    assert r.bit_words(0x80000011, r.CR0_NAMES) == "PE ET PG"
    assert r.bit_words(0, r.CR0_NAMES) == "none"
    assert r.bit_words(1 << 7 | 1, r.CR0_NAMES) == "PE bit 7"
