"""Descriptors against values that the manuals and well-known tables give."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minihv.x86 import segments as s
from minihv.x86.registers import CR0_PE, EFER_LMA, RFLAGS_VM
from minihv.x86.state import CpuState, Segment

FLAT_CODE32 = 0x00CF_9B00_0000_FFFF
FLAT_DATA32 = 0x00CF_9300_0000_FFFF
CODE64 = 0x00AF_9B00_0000_FFFF


def test_flat_descriptors() -> None:
    code = s.decode_segment(FLAT_CODE32, 8)
    assert (code.base, code.limit, code.access, code.selector) == (0, 0xFFFF_FFFF, 0xC09B, 8)
    assert s.is_code(code)
    assert not s.is_code(s.decode_segment(FLAT_DATA32))
    assert s.describe_segment(code) == "32-bit code, readable, DPL 0, base 0x0, limit 0xffffffff"
    assert s.describe_segment(s.decode_segment(CODE64), True).startswith("64-bit code")


def test_base_and_byte_limit_come_together() -> None:
    segment = s.decode_segment(0x1240_F234_5678_9ABC)
    assert (segment.base, segment.limit, segment.dpl) == (0x12345678, 0x9ABC, 3)
    assert s.describe_segment(segment).startswith("32-bit data, writable, DPL 3")


def test_sixteen_byte_tss() -> None:
    low, high = 0x0000_8B00_3000_0067, 0xFFFF_8000
    tss = s.decode_segment(low, 0x28, high)
    assert (tss.base, tss.limit) == (0xFFFF_8000_0000_3000, 0x67)
    assert s.describe_segment(tss, True).startswith("busy 64-bit TSS")
    assert s.encode_system_segment(tss) == high << 64 | low
    with pytest.raises(ValueError, match="8-byte"):
        s.encode_segment(tss)


@given(st.integers(0, 2**64 - 1))
def test_segments_round_trip(raw: int) -> None:
    assert s.encode_segment(s.decode_segment(raw)) == raw


@given(st.integers(0, 2**128 - 1))
def test_long_gates_round_trip_in_their_defined_bits(raw: int) -> None:
    raw &= 0xFFFF_FFFF << 64 | 0xFFFF_FF07_FFFF_FFFF
    gate = s.decode_gate(raw, long_mode=True)
    if gate.type not in (s.TYPE_CALL16, s.TYPE_CALL32):
        assert s.encode_gate(gate) == raw


def test_limits_that_cannot_be_encoded() -> None:
    with pytest.raises(ValueError, match="fff"):
        s.encode_segment(Segment(limit=0x1000, access=0x8093))
    with pytest.raises(ValueError, match="20 bits"):
        s.encode_segment(Segment(limit=0x10_0000, access=0x93))


def test_gates_in_three_sizes() -> None:
    long_gate = s.decode_gate(0xFFFF_FFFF << 64 | 0x8010_8E01_0008_1234, long_mode=True)
    assert (long_gate.offset, long_gate.selector, long_gate.ist) == (0xFFFF_FFFF_8010_1234, 8, 1)
    assert s.describe_gate(long_gate) == "64-bit interrupt gate, DPL 0, to 0x8:0xffffffff80101234, IST 1"
    trap32 = s.decode_gate(0x0010_EF00_0008_1234)
    assert (trap32.kind, trap32.offset, trap32.dpl, trap32.bits) == ("trap", 0x101234, 3, 32)
    gate16 = s.decode_gate(0xFFFF_8600_0008_1234)
    assert (gate16.kind, gate16.offset, gate16.bits) == ("interrupt", 0x1234, 16)
    task = s.decode_gate(0x0000_8500_0028_0000)
    assert s.describe_gate(task) == "task gate, DPL 0, to TSS 0x28"
    call = s.decode_gate(0x0010_EC03_0008_1234)
    assert (call.kind, call.params, call.ist) == ("call", 3, 0)
    assert s.decode_ivt_entry(0xF000_E123) == (0xF000, 0xE123)
    assert s.encode_ivt_entry(0xF000, 0xE123) == 0xF000_E123


def test_gate_problems() -> None:
    assert s.idt_gate_problem(s.decode_gate(0x0010_8E00_0008_1234)) is None
    assert s.idt_gate_problem(s.decode_gate(0x0010_0E00_0008_1234)) == "is not present"
    zero = s.idt_gate_problem(s.decode_gate(0))
    assert zero == "is not an interrupt, trap or task gate but type 0x0"
    code = s.idt_gate_problem(s.decode_gate(FLAT_CODE32))
    assert code is not None
    assert code.endswith("with S set")
    # A task gate, fine before, is no gate in long mode.
    assert s.idt_gate_problem(s.decode_gate(0x0000_8500_0028_0000)) is None
    assert s.idt_gate_problem(s.decode_gate(0x0000_8500_0028_0000, long_mode=True)) is not None


def test_modes() -> None:
    state = CpuState()
    assert (s.cpu_mode(state), s.code_bits(state), s.idt_entry_size(state)) == ("real", 16, 4)
    state.cr0 |= CR0_PE
    assert (s.cpu_mode(state), s.idt_entry_size(state)) == ("protected 16-bit", 8)
    state.cs.access = 0xC09B
    assert (s.cpu_mode(state), s.code_bits(state)) == ("protected 32-bit", 32)
    state.rflags |= RFLAGS_VM
    assert s.cpu_mode(state) == "virtual-8086"
    state.rflags, state.efer = 2, EFER_LMA
    assert (s.cpu_mode(state), s.idt_entry_size(state)) == ("compatibility", 16)
    state.cs.access = 0xA09B
    assert (s.cpu_mode(state), s.code_bits(state)) == ("64-bit", 64)
