"""Stores to code, device memory, page-crossing accesses, and states that go in and out unchanged."""

from lab import CODE, DATA, RAM, Lab, long_mode, map_identity, protected, real_mode

from minihv.exits import MmioRead, MmioWrite, Shutdown


def test_code_that_overwrites_the_next_instruction_of_its_block() -> None:
    lab = Lab()
    # mov byte [next + 1], 0x22; next: mov al, 0x11; hlt
    lab.code(32, "mov byte ptr [n + 1], 0x22; n: mov al, 0x11; hlt")
    lab.start(protected(), rax=0)
    lab.run_to_halt()
    assert lab.rax == 0x22
    assert lab.vcpu.instructions == 3


def test_a_loop_that_patches_itself_each_time() -> None:
    lab = Lab()
    lab.code(32, "mov ecx, 5; l: inc byte ptr [p + 1]; p: mov al, 0; add ebx, eax; dec ecx; jnz l; hlt")
    lab.start(protected(), rax=0, rbx=0)
    lab.run_to_halt()
    assert lab.rbx == 1 + 2 + 3 + 4 + 5


def test_rep_movs_onto_code_that_was_executed() -> None:
    lab = Lab()
    lab.code(32, "call 0x30000; mov esi, 0x31000; mov edi, 0x30000; mov ecx, 8; rep movsb; call 0x30000; hlt")
    lab.code(32, "mov bl, 1; ret", DATA)
    lab.code(32, "mov bh, 2; ret", DATA + 0x1000)
    lab.start(protected(), rbx=0)
    lab.run_to_halt()
    assert lab.rbx == 0x201


def test_the_vmm_can_void_decoded_code() -> None:
    lab = Lab()
    lab.code(32, "mov al, 1; hlt")
    lab.start(protected())
    lab.run_to_halt()
    lab.ram[CODE + 1] = 9
    lab.engine.memory_written(CODE + 1, 1)
    lab.start(protected())
    lab.run_to_halt()
    assert lab.rax == 9


def test_stores_next_to_code_do_not_void_it() -> None:
    lab = Lab()
    lab.code(32, "mov ecx, 50; l: mov [0x10800], ecx; dec ecx; jnz l; hlt")
    lab.start(protected())
    lab.run_to_halt()
    assert lab.engine.counters()["blocks_built"] <= 4


def test_instruction_across_a_page_boundary() -> None:
    lab = Lab()
    map_identity(lab)
    lab.code(64, "jmp 0x30ffd")
    lab.ram[0x30FFD : 0x30FFD + 6] = b"\xb8\x44\x33\x22\x11\xf4"
    lab.start(long_mode())
    lab.run_to_halt()
    assert lab.rax == 0x11223344


def test_fetch_from_a_missing_second_page_reports_that_page() -> None:
    lab = Lab()
    map_identity(lab)
    lab.catch(64)
    lab.put(0x53000 + 8 * 0x31, 0, 8)
    lab.code(64, "jmp 0x30ffd")
    lab.ram[0x30FFD : 0x30FFD + 6] = b"\xb8\x44\x33\x22\x11\xf4"
    lab.start(long_mode())
    lab.run_to_halt()
    assert lab.taken() == 14
    assert lab.cpu.cr2 == 0x31000
    assert lab.frame(8, 2) == [0x10, 0x30FFD]


def test_fifteen_bytes_are_enough_sixteen_are_gp() -> None:
    for prefixes, vector in ((14, None), (15, 13)):
        lab = Lab()
        lab.catch(32)
        code = b"\x66" * prefixes + b"\x90\xf4"
        lab.ram[CODE : CODE + len(code)] = code
        lab.start(protected())
        lab.run_to_halt()
        assert lab.taken() == vector


def test_read_modify_write_of_a_device_reads_and_writes_once() -> None:
    lab = Lab()
    lab.code(32, f"add dword ptr [{RAM + 0x1000}], 5; hlt")
    lab.start(protected())
    exit = lab.run()
    assert exit == MmioRead(RAM + 0x1000, 4, CODE)
    lab.vcpu.complete((7).to_bytes(4, "little"))
    exit = lab.run()
    assert exit == MmioWrite(RAM + 0x1000, (12).to_bytes(4, "little"), CODE)
    lab.run_to_halt()
    assert lab.vcpu.instructions == 2


def test_rep_movs_from_a_device_goes_item_by_item() -> None:
    lab = Lab()
    lab.code(32, "rep movsw; hlt")
    lab.start(protected(), rcx=3, rsi=RAM, rdi=DATA)
    for n in range(3):
        exit = lab.run()
        assert isinstance(exit, MmioRead)
        assert (exit.gpa, exit.size) == (RAM + 2 * n, 2)
        lab.vcpu.complete((n + 1).to_bytes(2, "little"))
    lab.run_to_halt()
    assert [lab.get(DATA + 2 * n, 2) for n in range(3)] == [1, 2, 3]


def test_get_state_completes_an_answered_exit() -> None:
    lab = Lab()
    lab.code(32, f"mov eax, [{RAM}]; hlt")
    lab.start(protected())
    assert isinstance(lab.run(), MmioRead)
    lab.vcpu.complete(b"\x01\x02\x03\x04")
    state = lab.vcpu.get_state()
    assert state.gpr[0] == 0x04030201
    assert state.rip == CODE + 5
    other = Lab()
    other.ram[:] = lab.ram
    other.start(state)
    other.run_to_halt()


def test_state_round_trip() -> None:
    lab = Lab()
    for state in (real_mode(), protected(True), long_mode(), long_mode(user=True, compat=True)):
        state.gpr = [0x1111111111111111 * (n % 16) for n in range(16)]
        state.rflags = 0x246
        state.dr[0] = 0x1234
        state.msrs = {0xC0000081: 5, 0x277: 0x0007040600070406, 0x3B: 0}
        lab.vcpu.set_state(state)
        back = lab.vcpu.get_state()
        assert back.msrs.pop(0x10) == lab.vcpu.tsc()
        state.xsave, state.apic_base = back.xsave, None
        state.msrs = back.msrs | state.msrs
        assert back == state
        lab.vcpu.set_state(back)
        again = lab.vcpu.get_state()
        again.msrs.pop(0x10)
        assert again == back


def test_overlapping_forward_copy_repeats_its_beginning() -> None:
    lab = Lab()
    lab.ram[DATA : DATA + 4] = b"abcd"
    lab.code(32, "rep movsb; hlt")
    lab.start(protected(), rcx=40, rsi=DATA, rdi=DATA + 4)
    lab.run_to_halt()
    assert bytes(lab.ram[DATA : DATA + 44]) == b"abcd" * 11


def test_rep_stops_at_a_fault_with_registers_of_that_item() -> None:
    lab = Lab()
    map_identity(lab)
    lab.catch(64)
    lab.put(0x53000 + 8 * 0x32, 0, 8)
    lab.code(64, "rep stosd; hlt")
    lab.start(long_mode(), rcx=0x1000, rdi=0x31F00, rax=0xAA)
    lab.run_to_halt()
    assert lab.taken() == 14
    assert (lab.rdi, lab.rcx) == (0x32000, 0x1000 - 64)
    assert lab.frame(8, 2) == [2, CODE]
    assert lab.cpu.cr2 == 0x32000


def test_jump_into_nothing_is_a_fault_and_ends() -> None:
    lab = Lab()
    lab.code(32, "mov eax, 0x70000000; jmp eax")
    lab.start(protected())
    assert isinstance(lab.run(), Shutdown)
