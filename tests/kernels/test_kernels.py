"""Test kernels of our own, written from the manuals: what each checks is said at the head of its C file.

They look at the machine as independent CPU test kernels do: multiboot ELF32 images on `--board testdev` that
enter long mode, start processors and report by the serial port and the exit port.
"""

from pathlib import Path
from typing import NamedTuple

import pytest
from kernel_build import build, why_not

from minihv import Machine, MachineConfig
from minihv.engine.kvm.engine import probe
from minihv.host.console import BufferSink

WITHOUT_GCC = why_not()
WITHOUT_KVM = probe()

pytestmark = pytest.mark.skipif(WITHOUT_GCC is not None, reason=f"kernels are compiled here: {WITHOUT_GCC}")


class Kernel(NamedTuple):
    name: str
    bits: int
    cpus: int = 1
    arguments: str = ""
    slow: bool = False

    def __str__(self) -> str:
        return f"{self.name}{self.bits}" + (f"-{self.arguments}" if self.arguments else "")


KERNELS = [
    Kernel("board", 64, 2),
    Kernel("board", 32, 2),
    Kernel("exceptions", 64),
    Kernel("paging", 64, arguments="quick"),
    Kernel("paging", 64, slow=True),
    Kernel("paging32", 32),
    Kernel("debug", 64),
    Kernel("syscall", 64),
    Kernel("features", 64),
    Kernel("msr", 64),
    Kernel("msr", 32),
    Kernel("inject", 64),
    Kernel("inject", 32),
    Kernel("insns", 64, 2),
    Kernel("tasks", 32),
    Kernel("realmode", 32),
    Kernel("tsc", 64),
    Kernel("tsc", 32),
    Kernel("apic", 64, 3),
    Kernel("ioapic", 64, 4),
    Kernel("smp", 64, 4),
    Kernel("smp", 32, 3),
    Kernel("costs", 64, 2),
    Kernel("costs", 32, 2),
]

_EMULATED = "a PVM host emulates ring 0, and not all of it"
NOT_ON_KVM = {
    "board": "CPUID there is the processor's and KVM's own, AVX and KVM's signature included",
    "exceptions": f"{_EMULATED}: a push to a non-canonical address ends in a triple fault",
    "paging": f"{_EMULATED}: INT n from ring 3 is #UD",
    "paging32": f"{_EMULATED}: #GP when 2-level paging is switched on",
    "debug": f"{_EMULATED}: no data breakpoints, INT n from ring 3 is #UD",
    "syscall": f"{_EMULATED}: SYSRET without EFER.SCE is #GP",
    "features": f"{_EMULATED}: INT n from ring 3 is #UD",
    "msr": f"{_EMULATED}: reserved PAT types are taken, INT n from ring 3 is #UD",
    "inject": f"{_EMULATED}: a self IPI comes later than the next instruction",
    "insns": f"{_EMULATED}: MOVBE is #UD in ring 0",
    "tasks": f"{_EMULATED}: an NMI through a task gate ends in #GP",
    "realmode": f"{_EMULATED}: INT n beyond the limit of a real-mode table hangs",
    "tsc": f"{_EMULATED}: TSC_ADJUST does not move the TSC",
    "apic": f"{_EMULATED}: reserved bits of x2APIC MSRs are taken, interrupts come late",
    "ioapic": f"{_EMULATED}: interrupts come later than the next instruction",
    "costs": f"{_EMULATED}: VMCALL hangs",
}
"""Kernels that the kvm engine is not asked to pass: seen on a PVM host, whose kernel emulates ring 0."""


def _cases() -> list[object]:
    cases: list[object] = []
    for kernel in KERNELS:
        marks = [pytest.mark.slow] if kernel.slow else []
        cases.append(pytest.param("interpret", kernel, marks=marks, id=f"interpret-{kernel}"))
    for kernel in KERNELS:
        why = WITHOUT_KVM or NOT_ON_KVM.get(kernel.name)
        marks = [pytest.mark.kvm, pytest.mark.skipif(why is not None, reason=f"{kernel} on kvm: {why}")]
        cases.append(pytest.param("kvm", kernel, marks=marks, id=f"kvm-{kernel}"))
    return cases


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the compiled kernels are."""
    return tmp_path_factory.mktemp("kernels")


def run(engine: str, image: Path, cpus: int, arguments: str, timeout: float) -> tuple[str, str, int]:
    """(console, why the machine ended, its status)."""
    sink = BufferSink()
    config = MachineConfig(engine=engine, board="testdev", cpus=cpus, cmdline=arguments, timeout=timeout)
    with Machine(config, console=sink) as machine:
        end = machine.load(str(image)).run().outcome
    return sink.data.decode(), end.reason, end.status


@pytest.mark.parametrize(("engine", "kernel"), _cases())
def test_kernel(engine: str, kernel: Kernel, images: Path) -> None:
    image = build(kernel.name, kernel.bits, images)
    _assert_passed(*run(engine, image, kernel.cpus, kernel.arguments, 100))


def _assert_passed(console: str, reason: str, status: int) -> None:
    lines = console.splitlines()
    bad = [line for line in lines if not line.startswith(("PASS ", "-- ", "SUMMARY "))]
    failed = [line for line in bad if line.startswith(("FAIL", "UNEXPECTED"))]
    assert not failed, "\n".join(bad)
    assert (reason, status) == ("exit", 1), console[-2000:]
    assert lines[-1].startswith("SUMMARY ")
    assert sum(line.startswith("PASS ") for line in lines) >= 1


@pytest.mark.parametrize("vendor", ["GenuineIntel", "AuthenticAMD"])
@pytest.mark.parametrize("name", ["board", "exceptions", "syscall", "features", "msr", "insns", "debug"])
def test_vendors(name: str, vendor: str, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter claims the host's vendor; it must be right as the other one, too."""
    monkeypatch.setattr("minihv.engine.interpret.engine.host_vendor", lambda: vendor)
    _assert_passed(*run("interpret", build(name, 64, images), 2, "", 60))


@pytest.mark.parametrize(
    ("argument", "reason", "status"),
    [
        ("byte", "exit", 5 << 1 | 1),
        ("word", "exit", 6 << 1 | 1),
        ("dword", "exit", 7 << 1 | 1),
        ("hang", "timeout", 244),
        ("sleep", "timeout", 244),
    ],
)
@pytest.mark.parametrize("bits", [64, 32])
def test_status(argument: str, reason: str, status: int, bits: int, images: Path) -> None:
    image = build("status", bits, images)
    console, *end = run("interpret", image, 1, argument, 0.3 if reason == "timeout" else 20)
    assert end == [reason, status], console


@pytest.mark.parametrize("bits", [64, 32])
def test_triple_fault(bits: int, images: Path) -> None:
    console, *end = run("interpret", build("triple", bits, images), 1, "", 20)
    assert end == ["triple-fault", 242], console
    assert console == "PASS up to here\n"
