"""Instructions that KVM's ring-0 emulator gives up on, or hangs in, go through the interpreter one by one.

On VT-x and AMD-V the processor executes them itself; then the guest must do the same without any rescue.
"""

import struct

import pytest

from minihv import Machine, Report
from minihv.engine.kvm.kind import kvm_kind

pytestmark = pytest.mark.kvm

CODE, HANDLER, IDTR, IDT, DATA = 0x100000, 0x100400, 0x100500, 0x101000, 0x102000
PVM = kvm_kind() == "pvm"


def put(byte: int) -> bytes:
    """mov al, byte; out 0xe9, al"""
    return bytes((0xB0, byte, 0xE6, 0xE9))


def image(instruction: bytes) -> bytes:
    """A flat64 guest: prints a, executes `instruction`, prints z; any interrupt prints H and returns."""
    code = b"\x0f\x01\x1c\x25" + struct.pack("<I", IDTR) + put(ord("a")) + instruction + put(ord("z"))
    code += b"\xb0\x00\xe6\xf8\xf4"
    gate = struct.pack("<HHHHII", HANDLER & 0xFFFF, 8, 0x8E00, HANDLER >> 16, 0, 0)
    parts = {
        CODE: code,
        HANDLER: b"\x50" + put(ord("H")) + b"\x58\x48\xcf",  # push rax ... pop rax; iretq
        IDTR: struct.pack("<HQ", 0xFFF, IDT),
        IDT: gate * 256,
        DATA: struct.pack("<QQ", 1, 2),
    }
    blob = bytearray(DATA + 16 - CODE)
    for address, data in parts.items():
        blob[address - CODE : address - CODE + len(data)] = data
    return bytes(blob)


def run(instruction: bytes, rescue: bool = True) -> tuple[str, Report]:
    machine = Machine(engine="kvm", format="flat64", timeout=20.0, rescue=rescue)
    report = machine.load(image(instruction)).run()
    return machine.console.decode(), report


CASES = {
    "int n": (b"\xcd\x30", "aHz", "int 0x30"),
    "int3": (b"\xcc", "aHz", "int3"),
    # mov rax, cr4; or eax, OSXSAVE; mov cr4, rax; xor ecx, ecx; xgetbv
    "xgetbv": (bytes.fromhex("0f20e0 0d00000400 0f22e0 31c9 0f01d0"), "az", "xgetbv"),
    "clac": (b"\x0f\x01\xca", "az", "clac"),
    "stac": (b"\x0f\x01\xcb", "az", "stac"),
    # mov edi, DATA; mov eax, 1; mov edx, 2; mov ebx, '7'; mov ecx, 8; lock cmpxchg16b [rdi]; out 0xe9, [rdi]
    "cmpxchg16b": (
        b"\xbf" + struct.pack("<I", DATA)
        + bytes.fromhex("b801000000 ba02000000 bb37000000 b908000000 f0480fc70f 8a07 e6e9"),
        "a7z",
        "lock cmpxchg16b [rdi]",
    ),
    # mov eax, 2; mov edi, DATA; invpcid rax, [rdi] (all contexts)
    "invpcid": (
        bytes.fromhex("b802000000 bf") + struct.pack("<I", DATA) + bytes.fromhex("660f388207"),
        "az",
        "invpcid rax, [rdi]",
    ),
    "vmcall": (b"\x31\xc0\x0f\x01\xc1", "az", "vmcall"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_guest_goes_on_behind_it(name: str) -> None:
    instruction, console, words = CASES[name]
    seen, report = run(instruction)
    assert (seen, report.outcome.reason, report.outcome.status) == (console, "exit", 0)
    assert report.count("rescued") == report.count("rescued", register=words)
    assert report.count("rescued") == (1 if PVM else 0)


@pytest.mark.skipif(not PVM, reason=f"only PVM gives up on these instructions; this KVM is {kvm_kind()}")
@pytest.mark.parametrize("name", CASES)
def test_without_rescue_the_raw_error_is_shown(name: str) -> None:
    seen, report = run(CASES[name][0], rescue=False)
    assert seen == "a"
    assert (report.outcome.reason, report.outcome.status) == ("engine-fault", 242)
    assert report.count("rescued") == 0
    assert report.count("fault") == 1
    assert "RIP" in report.autopsy


@pytest.mark.skipif(not PVM, reason=f"only PVM needs the rescue; this KVM is {kvm_kind()}")
def test_a_rescued_instruction_that_kills_the_guest_is_a_triple_fault() -> None:
    # lidt of an empty table (the zeros behind DATA), then int n: no gate for it, nor for what follows
    _, report = run(b"\x0f\x01\x1c\x25" + struct.pack("<I", DATA + 0x100) + b"\xcd\x30")
    assert (report.outcome.reason, report.outcome.status) == ("triple-fault", 242)


@pytest.mark.skipif(not PVM, reason=f"only PVM needs the rescue; this KVM is {kvm_kind()}")
def test_many_rescues_in_a_row() -> None:
    # mov ebx, 300; again: int 0x30; dec ebx; jnz again
    seen, report = run(bytes.fromhex("bb2c010000 cd30 ffcb 75fa"))
    assert seen == "a" + "H" * 300 + "z"
    assert report.count("rescued", register="int 0x30") == 300
