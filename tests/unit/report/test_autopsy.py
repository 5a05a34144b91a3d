"""The text of the autopsy: what a person must find in it, in each mode and for each way to die."""

from minihv.errors import GuestMemoryError
from minihv.report.autopsy import autopsy, looks_reset
from minihv.x86.state import CpuState, DescriptorTable, Segment

RAM = 0x20_0000


class Memory:
    def __init__(self) -> None:
        self.data = bytearray(RAM)

    def put(self, gpa: int, data: bytes) -> None:
        self.data[gpa : gpa + len(data)] = data

    def read(self, gpa: int, size: int) -> int:
        if gpa + size > RAM:
            raise GuestMemoryError(gpa, size)
        return int.from_bytes(self.data[gpa : gpa + size], "little")


def long_guest() -> tuple[CpuState, Memory]:
    """Long mode, 2 MiB identity-mapped, no IDT at all, `ud2` at RIP."""
    memory = Memory()
    for gpa, value in {0x1000: 0x2007, 0x2000: 0x3007, 0x3000: 0x83}.items():
        memory.put(gpa, value.to_bytes(8, "little"))
    memory.put(0x10_0000, b"\x0f\x0b\xf4")
    state = CpuState(rip=0x10_0000, cr0=0x8000_0011, cr3=0x1000, cr4=0x20, efer=0x500)
    state.cs = Segment(8, 0, 0xFFFF_FFFF, 0xA09B)
    state.ss = Segment(0x10, 0, 0xFFFF_FFFF, 0xC093)
    state.gpr[0] = 0xDEAD_BEEF_0000_0001
    state.idtr = DescriptorTable(0, 0)
    return state, memory


def test_long_mode_without_idt() -> None:
    state, memory = long_guest()
    text = autopsy(
        state,
        memory.read,
        ["out 0x3f8 <- 41", "shutdown"],
        symbols=lambda a: "start+0x0" if a == 0x10_0000 else None,
        disassemble=lambda code, address, bits: f"<{code[:2].hex()} {address:#x} {bits}>",
    )
    assert "  out 0x3f8 <- 41\n  shutdown" in text
    assert "Registers (64-bit, CPL 0):" in text
    assert "RAX deadbeef00000001" in text
    assert "RIP 0000000000100000 <start+0x0>" in text
    assert "CR0  0000000080000011  PE ET PG" in text
    assert "EFER 0000000000000500  LME LMA" in text
    assert "CS   0008  64-bit code, readable, DPL 0" in text
    assert "0x100000: 0f 0b f4" in text
    assert "<0f0b 0x100000 64>" in text
    assert "#UD (invalid opcode): no, the IDT limit is 0x0, but the entry is bytes 0x60..0x6f" in text
    assert "#DF (double fault): no, the IDT limit is 0x0, but the entry is bytes 0x80..0x8f" in text
    assert "Page walk of CR2" not in text


def test_page_fault_walks_cr2_in_words() -> None:
    state, memory = long_guest()
    state.cr2 = 0x4000_0000
    text = autopsy(state, memory.read)
    assert "Page walk of CR2 = 0x40000000:" in text
    assert "PDPTE[1] at 0x2008 = 0x0: not present" in text
    assert "this is why a supervisor read of 0x40000000 faults" in text


def test_error_code_of_the_event_picks_the_access() -> None:
    state, memory = long_guest()
    state.cr2 = 0x4000_0000
    state.events.exception, state.events.error_code = 14, 2
    text = autopsy(state, memory.read)
    assert "exception being delivered: #PF (page fault), error code 0x2" in text
    assert "a supervisor write of 0x40000000" in text


def test_old_cr2_is_called_old() -> None:
    state, memory = long_guest()
    state.cr2 = 0x5000
    assert "no fault there now: CR2 may be old" in autopsy(state, memory.read)


def test_rip_that_cannot_be_fetched() -> None:
    state, memory = long_guest()
    state.rip = 0x8000_0000
    text = autopsy(state, memory.read)
    assert "nothing can be fetched at 0x80000000; its page walk:" in text
    assert "PDPTE[2] at 0x2010 = 0x0: not present" in text
    assert "#PF (page fault): no, the IDT limit" in text


def test_tables_outside_ram_do_not_break_the_report() -> None:
    state, memory = long_guest()
    state.cr3 = 0x7FFF_F000
    state.cr2 = 0x1234
    text = autopsy(state, memory.read)
    assert "PML4E[0] at 0x7ffff000: cannot be read, there is no RAM" in text


def test_idt_that_is_not_mapped_shows_its_walk() -> None:
    state, memory = long_guest()
    state.idtr = DescriptorTable(0x3000_0000, 0xFFF)
    text = autopsy(state, memory.read)
    assert "#DF (double fault): no, IDT entry 8 at linear 0x30000080 is not mapped" in text
    assert "PDE[384] at 0x3c00 = 0x0: not present" in text


def test_32_bit_layout() -> None:
    state = CpuState(rip=0x10_0000, cr0=0x11)
    state.cs = Segment(8, 0, 0xFFFF_FFFF, 0xC09B)
    state.ss = Segment(0x10, 0, 0xFFFF_FFFF, 0xC093)
    state.gpr[3] = 0x1234
    text = autopsy(state, Memory().read)
    assert "Registers (protected 32-bit, CPL 0):" in text
    assert "EBX 00001234" in text
    assert "R15" not in text
    assert "EFL 00000002  none, IOPL 0" in text


def test_real_mode_shows_the_linear_address() -> None:
    state = CpuState(rip=0x10)
    state.cs = Segment(0x7C0, 0x7C00, 0xFFFF, 0x9B)
    state.idtr.limit = 0
    memory = Memory()
    memory.put(0x7C10, b"\xcd\x21")
    text = autopsy(state, memory.read)
    assert "Registers (real, CPL 0):" in text
    assert "EIP 00000010 (linear 0x7c10)" in text
    assert "CS   07c0  base 0x7c00, limit 0xffff" in text
    assert "vector 0x21: no, the IDT limit is 0x0, but the entry is bytes 0x84..0x87" in text


def test_a_reset_state_is_not_believed() -> None:
    state = CpuState()
    assert looks_reset(state)
    text = autopsy(state, Memory().read, ["shutdown"])
    assert "after RESET" in text
    assert "shutdown" in text
    assert "RAX" not in text
    assert "EAX" not in text
    # An engine that gave up at the reset vector is believed.
    assert "EAX" in autopsy(state, Memory().read, shutdown=False)


def test_everything_in_order_is_said_too() -> None:
    state = CpuState(rip=0)
    state.cs, state.idtr = Segment(), DescriptorTable(0, 0x3FF)
    text = autopsy(state, Memory().read)
    assert "#DF (double fault): yes, its handler can be reached" in text
    assert "no obstacle found" in text
