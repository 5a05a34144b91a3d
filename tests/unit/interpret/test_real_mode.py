"""Real mode: segments, the vector table, prefixes, switching to protected mode and back."""

from lab import CODE, GDT, Lab, real_mode

from minihv.exits import IoIn, IoOut, Shutdown


def test_far_call_and_return_move_cs_and_ip() -> None:
    lab = Lab()
    lab.code(16, "mov ax, 0x1234; call 0x1800:0x10; mov bx, ax; hlt", origin=0)
    lab.code(16, "inc ax; retf", 0x18010, origin=0x10)
    lab.start(real_mode())
    lab.run_to_halt()
    assert lab.rbx & 0xFFFF == 0x1235
    assert lab.rsp == 0x8000
    assert lab.cpu.seg[1].selector == CODE >> 4


def test_interrupt_through_the_vector_table_pushes_flags_cs_ip() -> None:
    lab = Lab()
    lab.catch(16)
    lab.ram[CODE : CODE + 3] = b"\xfb\xcd\x21"  # sti; int 0x21
    lab.start(real_mode())
    lab.run_to_halt()
    assert lab.taken() == 0x21
    ip, cs, flags = lab.frame(2, 3)
    assert (ip, cs) == (3, CODE >> 4)
    assert flags & 0x200
    assert not lab.rflags & 0x200


def test_access_across_the_segment_limit_is_gp() -> None:
    lab = Lab()
    lab.catch(16)
    lab.ram[CODE : CODE + 4] = b"\x8b\x07\x90\x90"  # mov ax, [bx]
    lab.start(real_mode(), rbx=0xFFFF)
    lab.run_to_halt()
    assert lab.taken() == 13
    assert lab.frame(2, 1) == [0]


def test_stack_access_across_the_limit_is_ss() -> None:
    lab = Lab()
    lab.catch(16)
    lab.ram[CODE : CODE + 3] = b"\x8b\x46\x00"  # mov ax, [bp]
    lab.start(real_mode(), rbp=0xFFFF)
    lab.run_to_halt()
    assert lab.taken() == 12


def test_divide_error_points_at_the_instruction() -> None:
    lab = Lab()
    lab.catch(16)
    lab.ram[CODE : CODE + 3] = b"\x90\xf7\xf3"  # nop; div bx
    lab.start(real_mode(), rbx=0)
    lab.run_to_halt()
    assert lab.taken() == 0
    assert lab.frame(2, 1) == [1]


def test_missing_vector_table_ends_in_a_triple_fault() -> None:
    lab = Lab()
    lab.ram[CODE : CODE + 2] = b"\x0f\x0b"
    state = real_mode()
    state.idtr.limit = 0
    lab.start(state)
    assert isinstance(lab.run(), Shutdown)
    assert isinstance(lab.run(), Shutdown)  # and stays so


def test_ports_pass_bytes_both_ways() -> None:
    lab = Lab()
    lab.ram[CODE : CODE + 6] = b"\xe4\x60\x40\xe6\x61\xf4"  # in al, 0x60; inc ax; out 0x61, al; hlt
    lab.start(real_mode())
    exit = lab.run()
    assert isinstance(exit, IoIn)
    assert (exit.port, exit.size, exit.count, exit.rip) == (0x60, 1, 1, 0)
    lab.vcpu.complete(b"\x41")
    exit = lab.run()
    assert isinstance(exit, IoOut)
    assert (exit.port, exit.data) == (0x61, b"\x42")
    lab.run_to_halt()
    assert lab.vcpu.instructions == 4


def test_32_bit_prefixes() -> None:
    lab = Lab()
    # mov eax, 0x12345678; mov [0x9000], eax (32-bit address); hlt
    lab.ram[CODE : CODE + 15] = bytes.fromhex("66b878563412 67668905 00900000 f4".replace(" ", ""))
    lab.start(real_mode())
    lab.run_to_halt()
    assert lab.get(0x9000, 4) == 0x12345678


def test_into_protected_mode_and_back() -> None:
    lab = Lab()
    lab.put(0x600, 0x1FF | GDT << 16, 6)
    lab.code(16, "lgdt [0x600]; mov eax, cr0; or al, 1; mov cr0, eax; jmp 0x08:0x9000", origin=0)
    lab.code(
        32,
        """mov ax, 0x10; mov ds, ax; mov es, ax; mov ss, ax; mov esp, 0x20000; push 0x55aa; pop edx;
        mov dword ptr [0x9100], edx; mov eax, cr0; and al, 0xfe; mov cr0, eax; hlt""",
        0x9000,
    )
    lab.start(real_mode())
    lab.run_to_halt()
    assert lab.get(0x9100, 4) == 0x55AA
    assert not lab.cpu.protected
    assert lab.cpu.mode.bits == 32  # CS keeps its D bit until it is loaded
