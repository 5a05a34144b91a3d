"""Hostile guests and long use: nothing grows, nothing leaks, nothing waits for ever."""

import threading
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from support import (
    CLI,
    FOREVER,
    HLT,
    LEAVE_AL,
    SLEEP,
    STI,
    KvmGuest,
    Run,
    held,
    inb,
    leave,
    machine,
    mov_dx,
    outb,
    rss_kib,
    run,
    say,
)

from minihv import Machine, MachineConfig
from minihv.engine.kvm import engine as kvm_engine
from minihv.engine.kvm import vcpu as kvm_vcpu
from minihv.engine.kvm.kernel import Kernel
from minihv.engine.kvm.vm import Vm
from minihv.errors import HandlerFailed, KvmError
from minihv.stats import MAX_SITES

pytestmark = pytest.mark.kvm

# inc dx; out dx, al; jmp back: all 65536 ports, over and over (exit ports end it at 0xf4)
ALL_PORTS = b"\xba\xf8\x0c\x42\xee\xeb\xfc"


def test_a_guest_that_writes_all_ports_stays_bounded() -> None:
    """From 0xcf9 up and around until the debug exit port at 0xf4."""
    r = run(ALL_PORTS, irqchip="none")
    assert r.report.outcome.reason in ("exit", "reset")
    ports = b"\xba\x00\x0d\x42\xee\x81\xfa\xe0\x4f\x75\xf8"  # 0xd01..0x4fe0
    r = run(CLI + ports + leave(0), irqchip="none")  # no ticks: their handler writes to the PIC
    assert r.end == ("exit", 0)
    bios_and_exit = run(CLI + leave(0), irqchip="none").report.count("io", direction="out")
    assert r.report.count("io", direction="out") == 0x4FE0 - 0xD00 + bios_and_exit
    assert len(r.report.exits) <= MAX_SITES + 10
    assert r.report.count("io", register="(other sites)") > 0


@pytest.mark.slow
def test_a_guest_that_writes_from_hundreds_of_thousands_of_places_stays_bounded() -> None:
    """Half a mebibyte of OUT: each one is a site of its own."""
    code = (b"\xe6\x80" * (1 << 18)) + b"\xe6\xf8"
    first = run(code, format="flat64", irqchip="none", timeout=100.0)
    assert first.report.count("io", direction="out") == (1 << 18) + 1
    before = rss_kib()
    second = run(code, format="flat64", irqchip="none", timeout=100.0)
    assert second.report.total_exits == (1 << 18) + 1
    assert rss_kib() - before < 8 << 10
    assert sum(len(e.sites) for e in second.report.exits) <= MAX_SITES + 10


def test_a_guest_that_prints_for_ever_keeps_the_last_mebibyte() -> None:
    # rep outsb of 65535 bytes, over and over
    code = mov_dx(0xE9) + b"\xb9\xff\xff\x31\xf6\xf3\x6e\xeb\xf7"
    with machine(code, max_exits=40_000, timeout=60.0, irqchip="none") as m:
        m.run()
        assert 0 < len(m.console) <= 1 << 20


def test_recent_exits_and_statistics_do_not_grow_with_the_run() -> None:
    code = outb(0x80, 1) + b"\xeb\xfd"
    run(code, max_exits=2000, irqchip="none")
    tracemalloc.start()
    try:
        run(code, max_exits=2000, irqchip="none")
        small = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        run(code, max_exits=20_000, irqchip="none")
        large = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # 18 000 more exits: one object kept for each would be a mebibyte. The longer run is polled more often.
    assert large < small + 256 * 1024


@pytest.mark.parametrize("code", [bytes(2000), b"\xff" * 2000, bytes(range(256)) * 8, b"\x0f" * 2000])
@pytest.mark.parametrize("format", ["flat16", "flat32", "flat64"])
def test_garbage_ends_in_an_outcome(code: bytes, format: str) -> None:
    r = run(code, format=format, timeout=0.3)
    assert r.report.outcome.reason in (
        "triple-fault", "engine-fault", "timeout", "exit", "halted", "reset", "power-off",
    )  # fmt: skip


def test_an_emulation_failure_is_a_fault_with_its_instruction() -> None:
    """xgetbv in ring 0 fails under PVM; elsewhere it works (or raises #UD without OSXSAVE)."""
    code = b"\x31\xc9\x0f\x01\xd0\xb0\x07" + b"\xe6\xf8"
    r = run(code, format="flat64")
    if r.report.host["kvm"] == "pvm":
        assert r.report.outcome.reason in ("engine-fault", "triple-fault", "exit")
    if r.report.outcome.reason == "engine-fault":
        assert "KVM internal error" in r.report.outcome.detail
        assert r.report.autopsy


# Nothing stays behind


ENDS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "exit": (say(b"x") + leave(3), {}),
    "halted": (SLEEP, {}),
    "three cpus": (SLEEP, {"cpus": 3}),
    "timeout": (FOREVER, {"timeout": 0.05}),
    "sleeping": (STI + HLT + b"\xeb\xfd", {"timeout": 0.05}),
    "budget": (outb(0x80, 1) + b"\xeb\xfd", {"max_exits": 5}),
    "triple fault": (b"\x6a\x00\x6a\x00\x0f\x01\x1c\x24\x0f\x0b", {"format": "flat32"}),
    "reset": (outb(0x64, 0xFE) + SLEEP, {}),
    "split": (leave(0), {"irqchip": "split", "cpus": 2}),
    "none": (leave(0), {"irqchip": "none"}),
    "testdev": (leave(0), {"board": "testdev"}),
}


@pytest.mark.parametrize("name", ENDS)
def test_no_descriptor_and_no_thread_remains(name: str, no_leaks: None) -> None:
    code, config = ENDS[name]
    run(code, **config)


def test_nothing_remains_after_a_handler_raised(no_leaks: None) -> None:
    def read() -> int:
        raise ValueError

    with machine(inb(0x500) + FOREVER, cpus=2) as m, pytest.raises(HandlerFailed):
        m.on_port(0x500, read=read).run()


def test_fifty_runs_do_not_grow() -> None:
    def ten() -> int:
        for _ in range(10):
            run(say(b"hello") + leave(0), memory=16 << 20)
        return rss_kib()

    ten()
    first = ten()
    for _ in range(3):
        ten()
    assert ten() - first < 2 << 10, "KiB"


def failing(number: int) -> KvmError:
    return KvmError("made up", "KVM_MADE_UP", number)


def refuse_second_vcpu(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Vm.create_vcpu

    def create(self: Vm, index: int) -> int:
        if index:
            raise failing(12)
        return real(self, index)

    monkeypatch.setattr(Vm, "create_vcpu", create)


def refuse(name: str) -> Callable[[pytest.MonkeyPatch], None]:
    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        def method(*_: object, **__: object) -> None:
            raise failing(22)

        monkeypatch.setattr(Vm, name, method)

    return patch


def refuse_ioctl(number: str) -> Callable[[pytest.MonkeyPatch], None]:
    """The kernel refuses one ioctl."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        from minihv.engine.kvm import abi

        real = Kernel.try_ioctl

        def ioctl(self: Kernel, fd: int, request: int, *argument: Any) -> int:
            return -22 if request == getattr(abi, number) else real(self, fd, request, *argument)

        monkeypatch.setattr(Kernel, "try_ioctl", ioctl)

    return patch


def refuse_mmap(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        @staticmethod
        def mmap(fd: int, size: int) -> None:
            raise OSError(12, "no room")

    monkeypatch.setattr(kvm_vcpu, "mmap", Refusing)


BROKEN = {
    "second vcpu": refuse_second_vcpu,
    "memory": refuse("add_memory"),
    "irqchip": refuse("create_irqchip"),
    "pit": refuse("create_pit"),
    "mmap": refuse_mmap,
    **{
        number: refuse_ioctl(number)
        for number in (
            "CREATE_VM", "GET_VCPU_MMAP_SIZE", "GET_SUPPORTED_CPUID", "GET_MSR_INDEX_LIST", "SET_CPUID2",
            "SET_SREGS", "SET_REGS", "SET_TSS_ADDR", "SET_SIGNAL_MASK", "SET_VCPU_EVENTS",
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_build_that_fails_half_way_closes_everything(
    name: str, monkeypatch: pytest.MonkeyPatch, no_leaks: None
) -> None:
    with machine(leave(0), cpus=2) as m:
        with monkeypatch.context() as patch:
            BROKEN[name](patch)
            with pytest.raises((KvmError, OSError)):
                m.run()
        assert m.run().outcome.reason == "exit", "and the same machine runs when the reason is gone"


def test_an_ioctl_refused_on_the_vcpus_thread_ends_the_run_with_its_error(
    monkeypatch: pytest.MonkeyPatch, no_leaks: None
) -> None:
    refuse_ioctl("SET_SIGNAL_MASK")(monkeypatch)
    with machine(FOREVER) as m, pytest.raises(KvmError, match="KVM_SET_SIGNAL_MASK on /dev/kvm failed"):
        m.run()


def test_threads_that_cannot_start_end_the_others(monkeypatch: pytest.MonkeyPatch, no_leaks: None) -> None:
    real, started = threading.Thread.start, []

    def start(self: threading.Thread) -> None:
        if self.name == "vcpu2":
            raise RuntimeError("can't start new thread")
        started.append(self.name)
        real(self)

    with machine(FOREVER, cpus=4) as m, monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            m.run()
    assert started == ["vcpu0", "vcpu1"]


def test_a_kernel_without_statistics_still_notices_the_end(
    monkeypatch: pytest.MonkeyPatch, no_leaks: None
) -> None:
    """Linux before 5.14 has no KVM_GET_STATS_FD; before 5.18 it does not tell who sleeps."""
    from minihv.engine.kvm import abi
    from minihv.engine.kvm.statsfd import StatsFd
    from minihv.engine.kvm.system import Kvm

    real = Kvm.check
    with monkeypatch.context() as patch:
        patch.setattr(
            Kvm, "check", lambda self, cap: 0 if cap == abi.CAP_BINARY_STATS_FD else real(self, cap)
        )
        r = run(SLEEP, cpus=2)
        assert r.end == ("halted", 0)
        assert r.report.kernel_counters == {}
    monkeypatch.setattr(StatsFd, "value", lambda self, name: None)
    assert run(SLEEP, cpus=2).end == ("halted", 0)


# Several machines


def test_two_machines_at_once_do_not_mix() -> None:
    """One runs on this thread, from within a handler of the other."""
    inner: list[Run] = []
    with machine(say(b"outer") + outb(0x500, 1) + say(b"!") + leave(1)) as m:
        m.on_port(0x500, write=lambda value: inner.append(run(say(b"inner") + leave(2))))
        report = m.run()
        assert m.console == b"outer!"
    assert report.outcome.status == 1
    assert (inner[0].console, inner[0].end) == (b"inner", ("exit", 2))


def test_machines_run_on_threads_of_their_own(no_leaks: None) -> None:
    results: dict[int, Run] = {}

    def one(n: int) -> None:
        for _ in range(3):
            results[n] = run(say(bytes((0x41 + n,)) * 20) + leave(n), cpus=1 + n % 2)

    threads = [threading.Thread(target=one, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert {n: (r.console, r.end) for n, r in results.items()} == {
        n: (bytes((0x41 + n,)) * 20, ("exit", n)) for n in range(6)
    }


def test_two_endless_machines_are_stopped_apart(no_leaks: None) -> None:
    machines = [machine(FOREVER), machine(FOREVER)]
    ended: list[int] = []

    def go(n: int) -> None:
        machines[n].run()
        ended.append(n)

    threads = [threading.Thread(target=go, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    machines[1].stop()
    threads[1].join(20)
    assert ended == [1]
    machines[0].stop()
    threads[0].join(20)
    assert ended == [1, 0]


# Much memory


def test_ram_above_4_gib() -> None:
    """-m 5G: the guest maps and writes the last byte there is, and reads it back."""
    top = (4 << 30) + (5 << 30) - 0xC0000000 - 1
    r = run(build_above_4_gib(top), format="flat64", memory=5 << 30, timeout=20.0)
    assert r.end == ("exit", 0x5A)


def build_above_4_gib(top: int) -> bytes:
    """64-bit code: a page directory at 0x200000 for the gigabyte of `top`, hung into the tables in CR3."""
    gigabyte = top >> 30
    megabytes = (top & (1 << 30) - 1) >> 21
    page = (top & ~((1 << 21) - 1)) | 0x83
    return b"".join(
        (
            b"\x48\xbf" + (0x200000 + 8 * megabytes).to_bytes(8, "little"),  # mov rdi, &pde
            b"\x48\xb8" + page.to_bytes(8, "little"),  # mov rax, pde
            b"\x48\x89\x07",  # mov [rdi], rax
            b"\x0f\x20\xda",  # mov rdx, cr3
            b"\x48\x8b\x12",  # mov rdx, [rdx]: PML4E
            b"\x48\x81\xe2\x00\xf0\xff\xff",  # and rdx, ~0xfff
            b"\x48\xc7\x82" + (8 * gigabyte).to_bytes(4, "little") + b"\x03\x00\x20\x00",  # pdpte
            b"\x48\xbf" + top.to_bytes(8, "little"),  # mov rdi, top
            b"\xc6\x07\x5a",  # mov byte [rdi], 0x5a
            b"\x8a\x07",  # mov al, [rdi]
            b"\xe6\xf8\xf4",
        )
    )


def test_one_byte_behind_the_ram_is_nobodys() -> None:
    top = (4 << 30) + (5 << 30) - 0xC0000000
    r = run(build_above_4_gib(top), format="flat64", memory=5 << 30, timeout=20.0)
    assert r.end == ("exit", 0x7F)  # 0xff & 0x7f
    assert r.report.count("mmio", address=top, register="unclaimed") == 2


def test_the_smallest_machine() -> None:
    assert run(b"\xb0\x09" + LEAVE_AL, memory=1 << 20).end == ("exit", 9)


def test_many_cpus() -> None:
    with KvmGuest(HLT, cpus=16) as guest:
        assert len(guest.vcpus) == 16
    assert run(SLEEP, cpus=16, memory=16 << 20).end == ("halted", 0)


def test_more_cpus_than_this_kvm_has_is_told(monkeypatch: pytest.MonkeyPatch, no_leaks: None) -> None:
    from minihv.engine.kvm import abi
    from minihv.engine.kvm.system import Kvm
    from minihv.errors import HostError

    real = Kvm.check
    monkeypatch.setattr(Kvm, "check", lambda self, cap: 2 if cap == abi.CAP_MAX_VCPUS else real(self, cap))
    with (
        machine(SLEEP, cpus=3) as m,
        pytest.raises(HostError, match="allows 2 vCPUs, 3 were asked for; use -c 2"),
    ):
        m.run()


@pytest.mark.parametrize("capability", [name for _, name in kvm_engine.REQUIRED])
def test_a_kernel_without_a_required_capability_is_told(
    capability: str, monkeypatch: pytest.MonkeyPatch, no_leaks: None
) -> None:
    from minihv.engine.kvm.system import Kvm
    from minihv.errors import HostError

    [number] = [number for number, name in kvm_engine.REQUIRED if name == capability]
    real = Kvm.check
    monkeypatch.setattr(Kvm, "check", lambda self, cap: 0 if cap == number else real(self, cap))
    with machine(SLEEP) as m, pytest.raises(HostError, match=f"lacks {capability}"):
        m.run()
    assert capability in str(kvm_engine.probe())


def test_nothing_is_opened_before_the_run(no_leaks: None) -> None:
    before = held()
    m = Machine(MachineConfig(engine="kvm")).load("hello")
    assert held() == before
    m.close()
