"""The generated binding is what its builder makes, and the numbers are what the structures say."""

from pathlib import Path

import pytest

from minihv.engine.kvm import _cffi, _ffi_build, abi
from minihv.engine.kvm.cdata import ffi


def test_the_generated_file_is_what_the_builder_makes(tmp_path: Path) -> None:
    target = tmp_path / "_cffi.py"
    _ffi_build.build(target)
    assert target.read_bytes() == Path(_cffi.__file__).read_bytes()


SIZES = {
    "SET_USER_MEMORY_REGION": "kvm_userspace_memory_region", "GET_REGS": "kvm_regs", "SET_REGS": "kvm_regs",
    "GET_SREGS": "kvm_sregs", "SET_SREGS": "kvm_sregs", "GET_MSRS": "kvm_msrs", "SET_MSRS": "kvm_msrs",
    "GET_LAPIC": "kvm_lapic_state", "SET_LAPIC": "kvm_lapic_state", "SET_CPUID2": "kvm_cpuid2",
    "GET_SUPPORTED_CPUID": "kvm_cpuid2", "GET_MSR_INDEX_LIST": "kvm_msr_list", "GET_MP_STATE": "kvm_mp_state",
    "SET_MP_STATE": "kvm_mp_state", "SET_GUEST_DEBUG": "kvm_guest_debug",
    "GET_VCPU_EVENTS": "kvm_vcpu_events", "SET_VCPU_EVENTS": "kvm_vcpu_events",
    "GET_DEBUGREGS": "kvm_debugregs", "SET_DEBUGREGS": "kvm_debugregs",
    "GET_XSAVE": "kvm_xsave", "SET_XSAVE": "kvm_xsave", "GET_XSAVE2": "kvm_xsave", "GET_XCRS": "kvm_xcrs",
    "SET_XCRS": "kvm_xcrs", "IRQ_LINE": "kvm_irq_level", "CREATE_PIT2": "kvm_pit_config",
    "ENABLE_CAP": "kvm_enable_cap", "INTERRUPT": "kvm_interrupt", "SIGNAL_MSI": "kvm_msi",
}  # fmt: skip
UNSIZED = {"SET_SIGNAL_MASK": 4, "SET_IDENTITY_MAP_ADDR": 8}
"""Where the kernel's number counts a header only, or no structure."""


@pytest.mark.parametrize("name", [*SIZES, *UNSIZED])
def test_ioctl_numbers_carry_the_size_of_their_structure(name: str) -> None:
    """asm-generic/ioctl.h: bits 29..16 are the size, 15..8 the type 0xae."""
    number = getattr(abi, name)
    structure = SIZES.get(name)
    size = UNSIZED[name] if structure is None else ffi.sizeof(f"struct {structure}")
    assert number >> 16 & 0x3FFF == size
    assert number >> 8 & 0xFF == 0xAE


def test_every_exit_reason_has_a_name() -> None:
    reasons = {
        value for name, value in vars(abi).items() if name.startswith("EXIT_") and isinstance(value, int)
    }
    assert reasons <= set(abi.EXIT_NAMES)
