"""Several CPUs, read-only memory, page-crossing accesses and timers on the board, under the real /dev/kvm."""

import json
import threading

import pytest
from support import CLI, HLT, LEAVE_AL, ORIGIN, SLEEP, STI, inb, leave, machine, outb, run

from minihv import Machine, MachineConfig
from minihv.report.table import stats_table

pytestmark = pytest.mark.kvm


def start_others(program: bytes, then: bytes) -> bytes:
    """32-bit code: INIT and SIPI to all other CPUs, which run `program` (4 bytes) at 0x8000; then `then`.

    SDM Vol. 3A, 11.6.1: ICR 0x000c4500 is INIT, 0x000c46vv a SIPI, to all excluding self.
    """
    assert len(program) == 4
    return b"".join(
        (
            b"\xc7\x05\x00\x80\x00\x00" + program,  # mov dword [0x8000], program
            b"\xc7\x05\xf0\x00\xe0\xfe\xff\x01\x00\x00",  # spurious vector: LAPIC enabled
            b"\xc7\x05\x00\x03\xe0\xfe\x00\x45\x0c\x00",
            b"\xc7\x05\x00\x03\xe0\xfe\x08\x46\x0c\x00",
            then,
        )
    )


SPIN = b"\xeb\xfe\x90\x90"
OUT_FOR_EVER = b"\xe6\x80\xeb\xfc"


@pytest.mark.parametrize("irqchip", ["kernel", "split"])
def test_three_running_cpus_that_all_halt_end_the_machine(irqchip: str) -> None:
    r = run(start_others(SLEEP + SLEEP, SLEEP), format="flat32", cpus=3, irqchip=irqchip)
    assert r.end == ("halted", 0)
    assert [v.index for v in r.report.vcpus] == [0, 1, 2]


def test_one_cpu_that_goes_on_keeps_the_machine_alive() -> None:
    assert run(start_others(SPIN, SLEEP), format="flat32", cpus=2, timeout=0.4).end == ("timeout", 244)


@pytest.mark.parametrize("limit", [1, 50, 1001])
def test_the_exit_budget_of_several_cpus_is_exact(limit: int) -> None:
    r = run(start_others(OUT_FOR_EVER, OUT_FOR_EVER), format="flat32", cpus=3, max_exits=limit)
    assert r.end == ("max-exits", 246)
    assert r.report.total_exits == limit
    assert sum(v.exits for v in r.report.vcpus) == limit


def test_devices_of_several_cpus_work_one_at_a_time() -> None:
    inside, overlaps, writers = threading.Lock(), [], set()

    def write(value: int) -> None:
        if not inside.acquire(blocking=False):
            overlaps.append(value)
            return
        writers.add(threading.current_thread().name)
        sum(range(200))
        inside.release()

    others = start_others(b"\xe6\x82\xeb\xfc", b"\xe6\x82\xeb\xfc")
    with machine(others, format="flat32", cpus=3, max_exits=3000) as m:
        m.on_port(0x82, write=write)
        m.run()
    assert overlaps == []
    assert writers == {"vcpu0", "vcpu1", "vcpu2"}


EXITS = 20_000
"""Enough for the second CPU to come up while the first one is at it."""


def test_the_report_of_several_cpus_adds_up() -> None:
    r = run(start_others(OUT_FOR_EVER, OUT_FOR_EVER), format="flat32", cpus=2, max_exits=EXITS)
    told = json.loads(json.dumps(r.report.to_dict()))
    assert sum(e["count"] for e in told["exits"]) == EXITS
    assert sum(v["exits"] for v in told["vcpus"]) == EXITS
    for row in told["exits"]:
        assert sum(site["count"] for site in row["sites"]) == row["count"]
        assert sum(row["time_ns"]["histogram"]) == row["count"]
        assert (
            row["time_ns"]["min"] <= row["time_ns"]["p50"] <= row["time_ns"]["p99"] <= row["time_ns"]["max"]
        )
    addresses = {site["address"] for row in told["exits"] for site in row["sites"]}
    assert 0x8000 in addresses, "the second CPU's OUT"
    assert told["kernel_counters"]["exits"] >= EXITS
    assert told["host"]["kvm"]
    assert "VM-EXIT" in stats_table(r.report)


def test_guest_and_vmm_time_are_within_the_wall_time() -> None:
    r = run(outb(0x80, 1) + b"\xeb\xfd", max_exits=2000, irqchip="none")
    [vcpu] = r.report.vcpus
    assert 0 < vcpu.guest_ns + vcpu.vmm_ns <= r.report.wall_ns
    assert vcpu.guest_ns > 0 < vcpu.vmm_ns


def test_firmware_starts_at_the_reset_vector_and_its_rom_is_read_only() -> None:
    rom = bytearray(64 << 10)
    rom[0] = 0x11
    # ds = 0xf000; mov byte [0], 0x77; mov al, [0]
    code = b"\xb8\x00\xf0\x8e\xd8\xc6\x06\x00\x00\x77\xa0\x00\x00" + LEAVE_AL
    rom[0x100 : 0x100 + len(code)] = code
    rom[0xFFF0:0xFFF5] = b"\xea\x00\x01\x00\xf0"  # jmp f000:0100
    with Machine(MachineConfig(engine="kvm", timeout=20.0)) as m:
        report = m.load_firmware(bytes(rom)).run()
    assert report.outcome == ("exit", 0x11, "")
    [write] = (e for e in report.exits if e.name == "mmio")
    assert (write.direction, write.address, write.register) == ("write", 0xF0000, "unclaimed")
    assert [site.address for site in write.sites] == [0xF0105]


def test_an_access_across_the_end_of_ram_is_half_ram_and_half_nobodys() -> None:
    # ds = 0x9ff0: dword [0xfe] is at 0x9fffe; read it back into eax and leave with its third byte
    code = b"\xb8\xf0\x9f\x8e\xd8\x66\xc7\x06\xfe\x00\x11\x22\x33\x44\x66\xa1\xfe\x00"
    r = run(code + b"\x66\xc1\xe8\x08" + LEAVE_AL, irqchip="none")  # shr eax, 8
    assert r.end == ("exit", 0x22)
    told = {
        (e.direction, e.size): (e.address, [s.address for s in e.sites])
        for e in r.report.exits
        if e.name == "mmio"
    }
    assert told == {("write", 2): (0xA0000, [ORIGIN + 5]), ("read", 2): (0xA0000, [ORIGIN + 14])}


def poke(address: int, data: bytes) -> bytes:
    """mov word [address], ... for all of `data`."""
    padded = data + bytes(len(data) % 2)
    return b"".join(
        b"\xc7\x06" + (address + at).to_bytes(2, "little") + padded[at : at + 2]
        for at in range(0, len(padded), 2)
    )


def test_the_clocks_periodic_interrupt_arrives() -> None:
    """IRQ 8 through the second PIC, five times at 1024 Hz; the handler reads status C and counts at 0x500."""
    handler = (
        outb(0x70, 0x0C) + inb(0x71) + b"\xfe\x06\x00\x05" + outb(0xA0, 0x20) + outb(0x20, 0x20) + b"\xcf"
    )
    code = b"".join(
        (
            CLI, poke(0x600, handler), poke(0x70 * 4, b"\x00\x06\x00\x00"), poke(0x500, b"\x00"),
            outb(0x21, 0xFB), outb(0xA1, 0xFE),  # only the cascade and IRQ 8
            outb(0x70, 0x0B), outb(0x71, 0x42), outb(0x70, 0x0C), inb(0x71),
            STI, HLT, b"\x80\x3e\x00\x05\x05\x72\xf8",  # until [0x500] is 5
        )
    )  # fmt: skip
    r = run(code + leave(5))
    assert r.end == ("exit", 5)
    assert r.report.count("io", address=0x71, direction="in") >= 6


@pytest.mark.parametrize("guest", ["timer", "apic"])
def test_controllers_in_user_space_tick_like_the_kernel_s(guest: str) -> None:
    """The same console; but each controller access and each HLT is an exit now."""
    here = Machine(engine="kvm", irqchip="none", timeout=30.0)
    report = here.load(guest).run()
    there = Machine(engine="kvm", irqchip="kernel", timeout=30.0)
    other = there.load(guest).run()
    assert report.outcome == other.outcome
    assert here.console == there.console
    assert report.count("hlt") >= 9
    assert other.count("hlt") == 0
    register = "pic.OCW2" if guest == "timer" else "lapic.EOI"
    assert sum(e.count for e in report.exits if e.register == register) >= 10
