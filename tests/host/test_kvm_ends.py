"""Every way for a machine to end, under the real /dev/kvm: for the right reason, with the right status."""

import json
import threading
from pathlib import Path

import pytest
from support import (
    FOREVER,
    HLT,
    LEAVE_AL,
    NOP,
    SLEEP,
    STI,
    UD2,
    held,
    inb,
    leave,
    loop_cx,
    machine,
    mov_ax,
    mov_dx,
    outb,
    outb_al,
    run,
    say,
)

from minihv import MachineConfig
from minihv.errors import HandlerFailed, HostError, UsageError

pytestmark = pytest.mark.kvm

IRQCHIPS = ("kernel", "split", "none")


@pytest.mark.parametrize("irqchip", IRQCHIPS)
def test_exit_port(irqchip: str) -> None:
    r = run(say(b"hi") + leave(5), irqchip=irqchip)
    assert r.end == ("exit", 5)
    assert r.console == b"hi"
    assert r.report.count("io", address=0xE9, direction="out") == 2


def test_debug_exit_port_is_never_zero() -> None:
    assert run(outb(0xF4, 0) + SLEEP).end == ("exit", 1)
    assert run(outb(0xF4, 0x10) + SLEEP).end == ("exit", 0x21)


def test_power_off() -> None:
    assert run(mov_dx(0x604) + mov_ax(0x2000) + b"\xef" + SLEEP).end == ("power-off", 0)


@pytest.mark.parametrize(
    ("irqchip", "cpus"), [("kernel", 1), ("kernel", 3), ("split", 1), ("split", 3), ("none", 1)]
)
def test_hlt_with_interrupts_off_ends_it(irqchip: str, cpus: int) -> None:
    """CPUs that were never started keep no machine alive."""
    r = run(say(b"zzz") + SLEEP, irqchip=irqchip, cpus=cpus)
    assert r.end == ("halted", 0)
    assert r.console == b"zzz"
    assert r.report.count("hlt") == (1 if irqchip == "none" else 0)
    assert r.report.wall_ns < 5e9


def test_hlt_with_interrupts_on_waits_for_the_timer() -> None:
    """The tiny BIOS lets the PIT tick: HLT comes back. Three ticks are 55 ms each."""
    r = run(STI + (HLT * 3) + say(b"t") + leave(0))
    assert r.end == ("exit", 0)
    assert r.report.wall_ns > 50e6


def test_time_out() -> None:
    r = run(FOREVER, timeout=0.15)
    assert r.end == ("timeout", 244)
    assert 0.15e9 <= r.report.wall_ns < 3e9


def test_time_out_of_a_sleeping_machine_and_of_one_with_three_cpus() -> None:
    assert run(STI + HLT + b"\xeb\xfd", timeout=0.15, cpus=3).end == ("timeout", 244)


@pytest.mark.parametrize("limit", [1, 2, 7])
def test_exit_budget_is_exact(limit: int) -> None:
    r = run(outb(0x80, 1) * 20 + leave(0), max_exits=limit, irqchip="none")
    assert r.end == ("max-exits", 246)
    assert r.report.total_exits == limit


def test_a_guest_that_ends_within_its_budget_does_not_notice() -> None:
    first = run(outb(0x80, 1) * 4 + leave(3), irqchip="none").report.total_exits
    assert run(outb(0x80, 1) * 4 + leave(3), irqchip="none", max_exits=first).end == ("exit", 3)


@pytest.mark.parametrize("reason", ["stopped", "sigterm"])
def test_stop_from_another_thread(reason: str) -> None:
    with machine(say(b".") + FOREVER) as m:
        timer = threading.Timer(0.05, m.stop, (reason,))
        timer.start()
        report = m.run()
        timer.join()
    assert report.outcome.reason == reason
    assert report.outcome.status == {"stopped": 0, "sigterm": 143}[reason]


def test_stop_before_the_run_ends_it_at_once_and_only_that_run() -> None:
    with machine(leave(1)) as m:
        m.stop()
        assert m.run().outcome.reason == "stopped"
        assert m.run().outcome.reason == "exit"


def test_stop_out_of_a_handler() -> None:
    with machine(outb(0x42, 1) + FOREVER) as m:
        m.on_port(0x42, write=lambda value: m.stop())
        assert m.run().outcome.reason == "stopped"


@pytest.mark.parametrize(("port", "value"), [(0x64, 0xFE), (0x92, 0x03), (0xCF9, 0x06)])
def test_reset(port: int, value: int) -> None:
    r = run(outb(port, value) + SLEEP)
    assert r.end == ("reset", 0)
    assert r.report.count("io", address=port, direction="out") == 1


@pytest.mark.parametrize("cpus", [1, 2])
def test_triple_fault_with_an_autopsy(cpus: int) -> None:
    """mov al, 'x'; out 0xe9, al; push 0; push 0; lidt [esp]; ud2"""
    r = run(b"\xb0x\xe6\xe9\x6a\x00\x6a\x00\x0f\x01\x1c\x24" + UD2, format="flat32", cpus=cpus)
    assert r.end == ("triple-fault", 242)
    assert r.report.count("shutdown") == 1
    text = r.report.autopsy
    assert "Last exits, oldest first:" in text
    assert "IoOut: " in text
    assert "port 0xe9" in text


# Handlers


def test_a_handler_that_raises_stops_the_machine() -> None:
    def read() -> int:
        raise LookupError("no such register")

    with machine(say(b"a") + inb(0x500) + leave(0)) as m:
        m.on_port(0x500, read=read, name="mine")
        with pytest.raises(HandlerFailed, match="LookupError: no such register") as caught:
            m.run()
        assert m.console == b"a"
    assert isinstance(caught.value.__cause__, LookupError)
    assert caught.value.exit_status == 248
    report = caught.value.report
    assert report is not None
    assert report.outcome.reason == "handler-failed"  # type: ignore[attr-defined]
    assert "no such register" in report.outcome.detail  # type: ignore[attr-defined]
    assert report.count("io", address=0x500, register="mine.PORT") == 1  # type: ignore[attr-defined]
    assert "Registers (real" in report.autopsy  # type: ignore[attr-defined]


def test_a_handler_that_exits_the_process_only_stops_the_machine() -> None:
    def write(value: int) -> None:
        raise SystemExit(value)

    with machine(outb(0x500, 1) + FOREVER) as m:
        m.on_port(0x500, write=write)
        with pytest.raises(HandlerFailed, match="SystemExit: 1"):
            m.run()


def test_a_handler_that_does_not_return_is_given_up(monkeypatch: pytest.MonkeyPatch, no_leaks: None) -> None:
    from minihv.machine import supervisor

    monkeypatch.setattr(supervisor, "JOIN_SECONDS", 0.2)
    release, threads = threading.Event(), []

    def write(value: int) -> None:
        threads.append(threading.current_thread())
        release.wait(60)

    with machine(outb(0x500, 1) + FOREVER, timeout=0.1) as m:
        m.on_port(0x500, write=write)
        with pytest.raises(HandlerFailed, match=r"did not return within .* \(vcpu0\)") as caught:
            m.run()
        assert caught.value.report.outcome.reason == "timeout"  # type: ignore[attr-defined]
        assert any("kvm-vm" in descriptor for descriptor in held()[0]), "the thread may still use it"
        release.set()
        threads[0].join(10)
        assert not threads[0].is_alive()
    # and closes everything when it ends after all: see no_leaks


def test_a_device_of_ones_own() -> None:
    class Counter:
        max_width = 2

        def __init__(self) -> None:
            self.log: list[tuple[str, int, int, int]] = []
            self.closed = 0

        def read(self, offset: int, size: int) -> int:
            self.log.append(("read", offset, size, 0))
            return 0x1200 + offset

        def write(self, offset: int, size: int, value: int) -> None:
            self.log.append(("write", offset, size, value))

        def register(self, offset: int, write: bool) -> str:
            return ("R", "W")[write] + str(offset)

        def reset(self) -> None:
            self.log.clear()

        def close(self) -> None:
            self.closed += 1

    device = Counter()
    # out 0x501, al; in ax, dx at 0x502; out dx, eax at 0x500
    code = outb(0x501, 7) + mov_dx(0x502) + b"\xed" + mov_dx(0x500) + b"\x66\xef" + leave(0)
    with machine(code, irqchip="none") as m:
        m.attach(device, port=0x500, size=4, name="counter")
        report = m.run()
    assert device.log[:2] == [("write", 1, 1, 7), ("read", 2, 2, 0)]
    assert [(kind, offset, size) for kind, offset, size, _ in device.log[2:]] == [
        ("write", 0, 2),
        ("write", 2, 2),
    ]
    assert device.log[2][3] == 0x1202
    assert device.closed == 1
    assert report.count("io", address=0x501, register="counter.W1", size=1) == 1
    assert report.count("io", address=0x502, register="counter.R2", size=2) == 1
    assert report.count("io", address=0x500, register="counter.W0", size=4) == 1


def test_mmio_of_ones_own() -> None:
    written: list[int] = []

    class Window:
        max_width = 4

        def read(self, offset: int, size: int) -> int:
            return 0x2A

        def write(self, offset: int, size: int, value: int) -> None:
            written.append(value)

        def register(self, offset: int, write: bool) -> str:
            return "REG"

        def reset(self) -> None:
            written.clear()

        def close(self) -> None:
            written.append(-1)

    # ds = 0xb800 (the board's screen ends at 0xbffff; 0xa0000 is free)
    code = b"\xb8\x00\xa0\x8e\xd8\xc6\x06\x10\x00\x55\xa0\x20\x00" + LEAVE_AL
    with machine(code, irqchip="none") as m:
        m.attach(Window(), mmio=0xA0000, size=0x100, name="mine")
        report = m.run()
    assert report.outcome == ("exit", 0x2A, "")
    assert written == [0x55, -1]
    assert report.count("mmio", register="mine.REG") == 2


@pytest.mark.parametrize("irqchip", IRQCHIPS)
def test_a_handler_may_take_the_place_of_the_pit(irqchip: str) -> None:
    with machine(inb(0x42) + LEAVE_AL, irqchip=irqchip) as m:
        m.on_port(0x42, read=lambda: 0x21)
        assert m.run().outcome == ("exit", 0x21, "")


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ({"port": 0x3F8}, r"port window mine .* overlaps serial \(0x3f8\.\.0x3ff\)"),
        ({"port": 0x20}, r"pic \(the engine's own\) .* overlaps mine"),
        ({"mmio": 0xFEE00000}, r"lapic \(the engine's own\) .* overlaps mine"),
        ({"mmio": 0x1000}, r"mmio window mine \(0x1000\.\.0x1000\) overlaps ram"),
        ({"port": 0x10000}, "does not fit"),
    ],
)
def test_a_window_that_is_taken_is_refused_and_the_device_closed(
    where: dict[str, int], words: str, no_leaks: None
) -> None:
    from minihv.devices.callbacks import PortHandler

    closed: list[int] = []

    class Mine(PortHandler):
        def close(self) -> None:
            closed.append(1)

    with machine(leave(0)) as m:
        m.attach(Mine(), name="mine", **where)
        with pytest.raises(UsageError, match=words):
            m.run()
    assert closed == [1]


def test_a_device_whose_close_raises_fails_the_run_after_everything_is_closed(no_leaks: None) -> None:
    from minihv.devices.callbacks import PortHandler

    class Mine(PortHandler):
        def close(self) -> None:
            raise OSError("stuck")

    with machine(leave(0)) as m:
        m.attach(Mine(), port=0x500)
        with pytest.raises(HandlerFailed, match="OSError when it was closed: stuck"):
            m.run()


# MSRs


def test_an_unknown_msr_raises_gp_in_the_guest_and_is_counted() -> None:
    """The handler of #GP (vector 13) leaves with status 13."""
    setup = b"\xc7\x06\x34\x00\x00\x06\xc7\x06\x36\x00\x00\x00"  # word [0x34] = 0x600, word [0x36] = 0
    handler = leave(13)
    # copy the handler to 0x600: mov si, src; mov di, 0x600; mov cx, n; rep movsb
    body = setup
    copy_at = 0x7C00 + len(body) + 11
    tail = b"\x66\xb9\xef\xbe\x00\x00\x0f\x32" + leave(1)  # mov ecx, 0xbeef; rdmsr
    body += (
        b"\xbe"
        + (copy_at + len(tail)).to_bytes(2, "little")
        + b"\xbf\x00\x06\xb9"
        + len(handler).to_bytes(2, "little")
        + b"\xf3\xa4"
    )
    r = run(body + tail + handler, irqchip="none")
    assert r.end == ("exit", 13)
    assert r.report.count("msr", direction="read", address=0xBEEF) == 1


def test_k7_counters_are_accepted() -> None:
    code = (
        b"\x66\xb9\x00\x00\x01\xc0" + b"\x0f\x30" + b"\x0f\x32" + leave(0)
    )  # mov ecx, 0xc0010000; wrmsr; rdmsr
    assert run(code, irqchip="none").end == ("exit", 0)


# Where the output goes


def test_serial_into_a_file(tmp_path: Path, no_leaks: None) -> None:
    path = tmp_path / "serial"
    with machine(b"".join(outb(0x3F8, byte) for byte in b"to a file") + leave(0), serial=f"file:{path}") as m:
        m.run()
        with pytest.raises(UsageError, match="found another sink"):
            _ = m.console
    assert path.read_bytes() == b"to a file"


def test_serial_into_a_file_that_cannot_be(tmp_path: Path, no_leaks: None) -> None:
    with (
        machine(leave(0), serial=f"file:{tmp_path}/no/such") as m,
        pytest.raises(HostError, match="No such file"),
    ):
        m.run()


def test_a_full_disk_behind_the_serial_port_ends_the_machine(no_leaks: None) -> None:
    line = b"".join(outb(0x3F8, byte) for byte in b"full\n")
    r = run(line + FOREVER, serial="file:/dev/full")
    assert r.end == ("console-closed", 248)


def test_the_trace_has_a_line_for_each_exit(tmp_path: Path, no_leaks: None) -> None:
    path = tmp_path / "trace"
    r = run(say(b"ab") + inb(0x60) + leave(0), irqchip="none", trace=str(path))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == r.report.total_exits
    told = [line for line in lines if line.get("port") == 0xE9]
    assert [line["data"] for line in told] == ["61", "62"]
    assert told[0]["exit"] == "io"
    assert told[0]["register"] == "debugcon.DATA"
    assert told[0]["t_ns"] < told[1]["t_ns"]
    assert lines[-1]["port"] == 0xF8


@pytest.mark.parametrize("code", [say(b"x") + leave(0), loop_cx(2000, outb(0x80, 1) + NOP) + leave(0)])
def test_a_trace_that_cannot_be_written_is_told_in_one_sentence(code: bytes, no_leaks: None) -> None:
    with (
        machine(code, trace="/dev/full") as m,
        pytest.raises(HostError, match=r"/dev/full: cannot be written: No space"),
    ):
        m.run()


def test_a_trace_in_no_folder(tmp_path: Path, no_leaks: None) -> None:
    m = machine(leave(0), trace=f"{tmp_path}/no/such", serial=f"file:{tmp_path}/serial")
    with pytest.raises(HostError, match="cannot be written: No such file"):
        m.run()


def test_input_from_memory_is_echoed() -> None:
    # wait for LSR bit 0, read, write to 0xe9, until 'q'
    code = (
        mov_dx(0x3FD) + b"\xec\xa8\x01\x74\xf8" + inb(0x3F8) + outb_al(0xE9) + b"\x3c\x71\x75\xed" + leave(0)
    )
    r = run(code, serial_input=b"abcq", irqchip="none")
    assert r.console == b"abcq"


def test_a_machine_runs_again_and_starts_afresh() -> None:
    # add [0x700], 1 in RAM; leave with it
    code = b"\xfe\x06\x00\x07\xa0\x00\x07" + LEAVE_AL
    with machine(code) as m:
        assert [m.run().outcome.status for _ in range(3)] == [1, 1, 1]


def test_without_a_guest_there_is_nothing_to_run(no_leaks: None) -> None:
    from minihv import Machine

    with Machine(MachineConfig()) as m, pytest.raises(UsageError, match="found none"):
        m.run()


def test_a_run_within_a_run_is_refused() -> None:
    caught: list[str] = []
    with machine(outb(0x500, 1) + leave(0)) as m:

        def write(value: int) -> None:
            try:
                m.run()
            except UsageError as error:
                caught.append(str(error))

        m.on_port(0x500, write=write)
        m.run()
    assert "found one that is running" in caught[0]
