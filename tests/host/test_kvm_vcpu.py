"""One vCPU against the real /dev/kvm: state, exits that are still open, kicks, debugging."""

import threading
import time

import pytest
from support import (
    CLI,
    FOREVER,
    HLT,
    NOP,
    ORIGIN,
    KvmGuest,
    inb,
    leave,
    loop_cx,
    mov_ax,
    mov_dx,
    outb,
    outb_al,
    real_state,
)

from minihv import exits as x
from minihv.boot.states import long64
from minihv.x86.state import CpuState, Events, MpState, Segment

pytestmark = pytest.mark.kvm

TSC, TSC_ADJUST, MPERF, APERF = 0x10, 0x3B, 0xE7, 0xE8
MOVING_MSRS = {TSC, MPERF, APERF, 0x11, 0x12, 0x4B564D00, 0x4B564D01}
"""Clocks, and the pages that the guest's clock lives in."""
LAPIC_CURRENT_COUNT = 0x390


def still(state: CpuState) -> CpuState:
    """Without what moves by itself."""
    state.msrs = {index: value for index, value in state.msrs.items() if index not in MOVING_MSRS}
    if state.lapic:
        at = LAPIC_CURRENT_COUNT
        state.lapic = state.lapic[:at] + bytes(4) + state.lapic[at + 4 :]
    return state


def colourful_real() -> CpuState:
    state = real_state(rip=0x1234, cs=0x700)
    state.gpr = [0x1111 * n for n in range(16)]
    state.rflags = 0x2 | 0x8D5  # CF PF AF ZF SF OF
    state.ds = Segment(0x1230, 0x12300, 0xFFFF, 0x93)
    state.dr = [0x1000, 0x2000, 0x3000, 0x4000, 0xFFFF0FF1, 0x455]
    state.events = Events(nmi_masked=True)
    return state


def colourful_long(guest: KvmGuest) -> CpuState:
    """Long mode with its tables at 0x10000; every register has a value of its own."""
    from minihv.boot.states import gdt, page_tables

    guest.memory.write(0x10000, page_tables(0x10000))
    guest.memory.write(0x20000, gdt(long=True))
    state = long64(ORIGIN, 0x20000, 0x10000, 0x8000)
    state.gpr = [(n + 1) * 0x0102030405060708 & (1 << 64) - 1 for n in range(16)]
    state.cr2 = 0xFFFF800012345678
    state.cr8 = 5
    state.fs.base, state.gs.base = 0x7FFF12345000, 0xFFFF888000000000
    state.msrs = {
        0xC0000081: 0x0013000800000000,
        0xC0000082: 0xFFFFFFFF81000000,
        0xC0000102: 0x1000,
        0x174: 8,
    }
    area = bytearray(4096)
    area[0:2] = (0x27F).to_bytes(2, "little")  # FCW: double precision
    area[24:28] = (0x1FA0).to_bytes(4, "little")  # MXCSR: inexact raised
    area[160:416] = bytes(range(256))  # XMM0..15
    area[512] = 3  # XSTATE_BV: x87 and SSE
    state.xsave = bytes(area)
    return state


def compare(one: CpuState, other: CpuState) -> None:
    for name in ("gpr", "rip", "rflags", "cr0", "cr2", "cr3", "cr4", "cr8", "efer", "apic_base", "dr", "xcr0",
                 "gdtr", "idtr", "ldtr", "tr", "events", "mp_state", "msrs", "xsave", "lapic"):  # fmt: skip
        assert getattr(one, name) == getattr(other, name), name
    assert one.segments() == other.segments()


@pytest.mark.parametrize("irqchip", ["kernel", "split", "none"])
def test_a_real_mode_state_comes_back(irqchip: str) -> None:
    with KvmGuest(HLT, irqchip=irqchip) as guest:
        wanted = colourful_real()
        guest.vcpu.set_state(wanted)
        got = still(guest.vcpu.get_state())
        for name in ("gpr", "rip", "rflags", "cs", "ds", "dr", "events", "cr0", "efer"):
            assert getattr(got, name) == getattr(wanted, name), name
        guest.vcpu.set_state(got)
        compare(still(guest.vcpu.get_state()), got)


@pytest.mark.parametrize("irqchip", ["kernel", "split", "none"])
def test_a_long_mode_state_comes_back(irqchip: str) -> None:
    with KvmGuest(HLT, irqchip=irqchip) as guest:
        wanted = colourful_long(guest)
        guest.vcpu.set_state(wanted)
        got = still(guest.vcpu.get_state())
        for name in ("gpr", "rip", "cr0", "cr2", "cr3", "cr4", "cr8", "efer"):
            assert getattr(got, name) == getattr(wanted, name), name
        assert (got.fs.base, got.gs.base) == (wanted.fs.base, wanted.gs.base)
        assert {index: got.msrs[index] for index in wanted.msrs} == wanted.msrs
        assert got.xsave[160:416] == bytes(range(256))
        assert (got.xsave[0:2], got.xsave[24:28]) == (b"\x7f\x02", b"\xa0\x1f\x00\x00")
        guest.vcpu.set_state(got)
        compare(still(guest.vcpu.get_state()), got)


def test_a_state_without_fpu_is_the_initial_one_even_on_a_used_vcpu() -> None:
    with KvmGuest(HLT) as guest:
        fresh = guest.vcpu.get_state().xsave
        guest.vcpu.set_state(colourful_long(guest))
        guest.vcpu.set_state(real_state())
        again = guest.vcpu.get_state().xsave
        assert again[:28] == fresh[:28]
        assert again[160:416] == bytes(256)


def test_an_msr_that_the_host_refuses_is_noted_and_the_others_are_set() -> None:
    with KvmGuest(HLT) as guest:
        state = real_state()
        state.msrs = {0x174: 0x10, 0xDEAD: 1, 0x175: 0x9000, 0xBEEF: 2, 0x176: 0x20}
        guest.vcpu.set_state(state)
        assert guest.vcpu.port.refused_msrs == {0xDEAD: 1, 0xBEEF: 2}
        assert [guest.vcpu.get_state().msrs[i] for i in (0x174, 0x175, 0x176)] == [0x10, 0x9000, 0x20]


def test_the_tsc_deadline_needs_its_lapic_first() -> None:
    with KvmGuest(HLT) as guest:
        state = guest.vcpu.get_state()
        lapic = bytearray(state.lapic)
        lapic[0xF0:0xF4] = (0x1FF).to_bytes(4, "little")  # software enabled
        lapic[0x320:0x324] = (2 << 17 | 0x40).to_bytes(4, "little")  # LVT timer: TSC deadline, vector 0x40
        deadline = state.msrs[TSC] + (1 << 40)
        state.lapic, state.msrs = bytes(lapic), {0x6E0: deadline}
        guest.vcpu.set_state(state)
        assert guest.vcpu.get_state().msrs[0x6E0] == deadline


# Exits that are still open


def test_after_an_in_the_state_is_that_behind_it() -> None:
    """RIP and RAX are stale until the next entry; get_state completes the exit first."""
    code = mov_ax(0x5500) + inb(0x60) + outb_al(0x61) + HLT
    with KvmGuest(code, irqchip="none") as guest:
        exit = guest.vcpu.run()
        assert exit == x.IoIn(0x60, 1, 1, ORIGIN + 6)
        guest.vcpu.complete(b"\x42")
        state = guest.vcpu.get_state()
        assert (state.rip, state.gpr[0] & 0xFFFF) == (ORIGIN + 7, 0x5542)
        exit = guest.vcpu.run()
        assert isinstance(exit, x.IoOut)
        assert exit.data == b"\x42"


def test_a_state_set_after_an_in_is_not_overwritten_by_its_completion() -> None:
    with KvmGuest(inb(0x60) + HLT, irqchip="none") as guest:
        guest.vcpu.run()
        guest.vcpu.complete(b"\x42")
        state = guest.vcpu.get_state()
        state.gpr[0] = 0x9999
        guest.vcpu.set_state(state)
        assert isinstance(guest.vcpu.run(), x.Halt)
        assert guest.vcpu.get_state().gpr[0] == 0x9999


VIDEO = b"\xb8\x00\xb8\x8e\xd8"
"""mov ax, 0xb800; mov ds, ax"""


def test_mmio_reads_of_every_width_and_their_sites() -> None:
    # mov al,[0] / mov ax,[2] / mov eax,[4]
    code = VIDEO + b"\xa0\x00\x00" + b"\xa1\x02\x00" + b"\x66\xa1\x04\x00" + HLT
    with KvmGuest(code, irqchip="none") as guest:
        for gpa, size, rip in ((0xB8000, 1, 5), (0xB8002, 2, 8), (0xB8004, 4, 11)):
            exit = guest.vcpu.run()
            assert exit == x.MmioRead(gpa, size, ORIGIN + rip)
            assert guest.vcpu.site(exit).address() == ORIGIN + rip
            guest.vcpu.complete(bytes(range(0x11, 0x11 + size)))
            value = int.from_bytes(bytes(range(0x11, 0x11 + size)), "little")
            assert guest.vcpu.get_state().gpr[0] & (1 << 8 * size) - 1 == value
        assert isinstance(guest.vcpu.run(), x.Halt)


def test_mmio_writes_of_every_width_and_their_sites() -> None:
    # mov byte [0],1 / mov word [2],0x302 / mov dword [4],... / rep stosb over es = ds, di = 0x10
    code = VIDEO + b"\xc6\x06\x00\x00\x01" + b"\xc7\x06\x02\x00\x02\x03"
    code += b"\x66\xc7\x06\x04\x00\x01\x02\x03\x04" + b"\x8e\xc0\xbf\x10\x00\xb9\x03\x00\xf3\xaa" + HLT
    with KvmGuest(code, irqchip="none") as guest:
        told = []
        while isinstance(exit := guest.vcpu.run(), x.MmioWrite):
            told.append((exit.gpa, exit.data, guest.vcpu.site(exit).address() - ORIGIN))
        assert isinstance(exit, x.Halt)
        assert told == [
            (0xB8000, b"\x01", 5), (0xB8002, b"\x02\x03", 10), (0xB8004, b"\x01\x02\x03\x04", 16),
            (0xB8010, b"\x00", 33), (0xB8011, b"\x00", 33), (0xB8012, b"\x00", 33),
        ]  # fmt: skip


def test_the_second_half_of_a_wide_read_is_not_lost_to_get_state() -> None:
    code = VIDEO + b"\x0f\x10\x06\x00\x00" + HLT  # movups xmm0, [0]
    with KvmGuest(code, irqchip="none") as guest:
        state = real_state()
        state.cr4 = 0x600  # OSFXSR
        guest.vcpu.set_state(state)
        assert guest.vcpu.run() == x.MmioRead(0xB8000, 8, ORIGIN + 5)
        guest.vcpu.complete(b"ABCDEFGH")
        guest.vcpu.get_state()
        guest.vcpu.get_state()
        assert guest.vcpu.run() == x.MmioRead(0xB8008, 8, ORIGIN + 5)
        guest.vcpu.complete(b"IJKLMNOP")
        assert isinstance(guest.vcpu.run(), x.Halt)
        assert guest.vcpu.get_state().xsave[160:176] == b"ABCDEFGHIJKLMNOP"


def test_a_hlt_exit_is_behind_the_instruction_and_its_site_at_it() -> None:
    with KvmGuest(CLI + NOP + HLT, irqchip="none") as guest:
        exit = guest.vcpu.run()
        assert exit == x.Halt(False, ORIGIN + 3)
        assert guest.vcpu.site(exit).address() == ORIGIN + 2


def test_a_rep_insb_arrives_whole_and_a_rep_outsb_in_pieces() -> None:
    # mov cx,5; mov di,0x500; mov dx,0x60; rep insb; mov cx,5; mov si,0x500; rep outsb; hlt
    code = (
        b"\xb9\x05\x00\xbf\x00\x05"
        + mov_dx(0x60)
        + b"\xf3\x6c"
        + b"\xb9\x05\x00\xbe\x00\x05"
        + b"\xf3\x6e"
        + HLT
    )
    with KvmGuest(code, irqchip="none") as guest:
        exit = guest.vcpu.run()
        assert isinstance(exit, x.IoIn)
        assert exit.count == 5
        assert guest.vcpu.site(exit).address() == ORIGIN + 9
        guest.vcpu.complete(b"hello")
        data, sites = b"", set()
        while not isinstance(exit := guest.vcpu.run(), x.Halt):
            assert isinstance(exit, x.IoOut)
            assert len(exit.data) == exit.size * exit.count
            data += exit.data
            sites.add(guest.vcpu.site(exit).address())
        assert data == b"hello"
        assert guest.memory.read(0x500, 5) == b"hello"
        assert sites == {ORIGIN + 17}


# Kicks


def kick_soon(guest: KvmGuest, seconds: float = 0.02) -> threading.Timer:
    timer = threading.Timer(seconds, guest.vcpu.kick)
    timer.start()
    return timer


def test_a_kick_gets_an_endless_guest_out() -> None:
    with KvmGuest(FOREVER) as guest:
        for _ in range(3):
            timer = kick_soon(guest)
            assert guest.vcpu.run() == x.Interrupted()
            timer.join()


def test_a_kick_gets_a_sleeping_guest_out() -> None:
    with KvmGuest(b"\xfb" + HLT + b"\xeb\xfc") as guest:
        timer = kick_soon(guest)
        assert guest.vcpu.run() == x.Interrupted()
        timer.join()


def test_a_kick_before_run_is_not_lost() -> None:
    with KvmGuest(FOREVER) as guest:
        for _ in range(200):
            guest.vcpu.kick()
            assert guest.vcpu.run() == x.Interrupted()


def test_a_kick_at_any_moment_is_not_lost() -> None:
    """A second thread kicks 300 times and waits each time until the guest came out."""
    with KvmGuest(FOREVER) as guest:
        out = threading.Semaphore(0)

        def kicker() -> None:
            for n in range(300):
                guest.vcpu.kick()
                if not out.acquire(timeout=10):
                    raise AssertionError(f"kick {n} was lost")

        thread = threading.Thread(target=kicker)
        thread.start()
        watchdog = threading.Timer(20, guest.vcpu.kick)
        watchdog.start()
        rounds = 0
        while thread.is_alive():
            assert guest.vcpu.run() == x.Interrupted()
            rounds += 1
            out.release()
            if rounds >= 300:
                break
        thread.join()
        watchdog.cancel()
        watchdog.join()
        assert rounds == 300


def test_a_kick_between_exits_does_not_lose_the_exit() -> None:
    """The answer to an IN is there although the next entry is interrupted at once."""
    with KvmGuest(inb(0x60) + HLT, irqchip="none") as guest:
        guest.vcpu.run()
        guest.vcpu.complete(b"\x77")
        guest.vcpu.kick()
        assert guest.vcpu.run() == x.Interrupted()
        assert isinstance(guest.vcpu.run(), x.Halt)
        assert guest.vcpu.get_state().gpr[0] & 0xFF == 0x77


def test_get_state_keeps_a_kick() -> None:
    with KvmGuest(FOREVER) as guest:
        guest.vcpu.kick()
        guest.vcpu.get_state()
        assert guest.vcpu.run() == x.Interrupted()


def test_a_kick_after_detach_waits_for_the_next_thread() -> None:
    with KvmGuest(FOREVER) as guest:
        guest.vcpu.detach_thread()
        guest.vcpu.kick()
        guest.vcpu.attach_thread()
        assert guest.vcpu.run() == x.Interrupted()


def test_a_kick_after_close_does_nothing() -> None:
    with KvmGuest(FOREVER) as guest:
        vcpu = guest.vcpu
    vcpu.kick()
    vcpu.probe()


# Debugging


def test_single_steps_stop_behind_each_instruction() -> None:
    code = NOP + mov_ax(0x1234) + NOP + outb(0x80, 1) + HLT
    with KvmGuest(code, irqchip="none") as guest:
        guest.vcpu.set_state(real_state(rip=ORIGIN - 0x7000, cs=0x700))
        guest.vcpu.debug(single_step=True)
        stops = []
        for _ in range(5):
            exit = guest.vcpu.run()
            assert isinstance(exit, x.DebugStop)
            assert exit.dr6 & 0x4000, "BS"
            stops.append(exit.rip + 0x7000)
            assert guest.vcpu.site(exit).address() == exit.rip + 0x7000
        assert stops == [ORIGIN + at for at in (1, 4, 5, 8, 10)]
        guest.vcpu.debug(single_step=False)
        assert isinstance(guest.vcpu.run(), x.IoOut)
        assert isinstance(guest.vcpu.run(), x.Halt)


def test_hardware_breakpoints_stop_before_their_instruction() -> None:
    code = NOP * 8 + mov_ax(7) + HLT
    with KvmGuest(code, irqchip="none") as guest:
        guest.vcpu.debug(single_step=False, breakpoints=(ORIGIN + 3, ORIGIN + 8))
        first = guest.vcpu.run()
        assert isinstance(first, x.DebugStop)
        assert (first.rip, first.dr6 & 0xF) == (ORIGIN + 3, 1)
        guest.vcpu.debug(single_step=False, breakpoints=(ORIGIN + 8,))
        second = guest.vcpu.run()
        assert isinstance(second, x.DebugStop)
        assert (second.rip, second.dr6 & 0xF) == (ORIGIN + 8, 1)
        assert guest.vcpu.get_state().gpr[0] & 0xFFFF != 7
        guest.vcpu.debug(single_step=False)
        assert isinstance(guest.vcpu.run(), x.Halt)
        assert guest.vcpu.get_state().gpr[0] & 0xFFFF == 7


def test_five_breakpoints_are_too_many() -> None:
    with KvmGuest(HLT) as guest, pytest.raises(ValueError, match="four breakpoint registers, 5 asked for"):
        guest.vcpu.debug(False, (1, 2, 3, 4, 5))


# Threads and interrupts


def test_an_interrupt_line_reaches_the_in_kernel_pic() -> None:
    """Line 4, PIC initialised to vector 0x20; the handler at 0x600 writes to port 0x80."""
    words = ((0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 1), (0x21, 0xEF), (0x81, 1))
    code = b"".join(outb(port, value) for port, value in words) + b"\xfb" + HLT + b"\xeb\xfd"
    with KvmGuest(code) as guest:
        guest.memory.write(0x24 * 4, (0x600).to_bytes(2, "little") + bytes(2))
        guest.memory.write(0x600, outb(0x80, 0x44) + HLT)
        ready = guest.vcpu.run()
        assert isinstance(ready, x.IoOut)
        assert ready.port == 0x81
        line = guest.engine.irq_line(4)
        line(True)
        line(True)  # no change, no call
        watchdog = kick_soon(guest, 10)
        exit = guest.vcpu.run()
        watchdog.cancel()
        watchdog.join()
        assert isinstance(exit, x.IoOut)
        assert (exit.port, exit.data) == (0x80, b"\x44")


def test_only_a_cpu_that_waits_for_its_start_reports_idle() -> None:
    with KvmGuest(FOREVER, cpus=2) as guest:
        assert [v.get_state().mp_state for v in guest.vcpus] == [MpState.RUNNABLE, MpState.UNINITIALIZED]
        found: list[x.Exit] = []

        def second() -> None:
            vcpu = guest.vcpus[1]
            vcpu.attach_thread()
            found.append(vcpu.run())
            vcpu.detach_thread()

        thread = threading.Thread(target=second)
        thread.start()
        deadline = time.monotonic() + 10
        while thread.is_alive() and time.monotonic() < deadline:
            guest.engine.poll()
            thread.join(0.005)
        assert not thread.is_alive()
        assert isinstance(found[0], x.Idle)


def test_the_kernels_counters_grow_by_the_exits() -> None:
    with KvmGuest(loop_cx(50, outb(0x80, 1)) + HLT, irqchip="none") as guest:
        before = guest.engine.counters()
        while not isinstance(guest.vcpu.run(), x.Halt):
            continue
        after = guest.engine.counters()
        assert after["exits"] - before["exits"] >= 51
        assert set(before) == set(after)


def test_leaving_means_nothing_to_the_engine() -> None:
    with KvmGuest(leave(5), irqchip="none") as guest:
        exit = guest.vcpu.run()
        assert isinstance(exit, x.IoOut)
        assert (exit.port, exit.data) == (0xF8, b"\x05")
