"""The real-mode BIOS at work, on every engine that works here: bios_calls.S asks for each service."""

from pathlib import Path
from typing import Any

import pytest

from minihv.engine.select import ENGINES, survey
from minihv.machine.machine import Machine
from minihv.report.model import Report

SECTOR = Path(__file__).with_name("bios_calls.img").read_bytes()
TEXTS = b"".join(text.ljust(512, b"\0") for text in (b"two ", b"three ", b"four "))
FLOPPY = 2880 * 512


@pytest.fixture(params=[*ENGINES])
def engine(request: pytest.FixtureRequest) -> str:
    reason = survey()[request.param]
    if reason is not None:
        pytest.skip(f"engine {request.param} does not work here: {reason}")
    return str(request.param)


def run(engine: str, image: bytes, keys: bytes = b"", **config: Any) -> tuple[Report, str]:
    with Machine(engine=engine, serial_input=keys, timeout=60.0, **config) as machine:
        machine.load(image, "guest.img")
        report = machine.run()
        return report, machine.console.decode()


@pytest.mark.parametrize(
    ("size", "drive", "equipment", "geometry"),
    [(0, "80", "0222", "003F 0F01"), (FLOPPY, "00", "0223", "4F12 0101")],
)
def test_services(engine: str, size: int, drive: str, equipment: str, geometry: str) -> None:
    report, console = run(engine, (SECTOR + TEXTS).ljust(size, b"\0"), b"a")
    memory = "027F FC00 3C00 0300 0000 0009 0001 0009 0006 0002 0010 03F0 0001"
    assert console == (
        f"{drive} {equipment} {memory} {geometry} two AA55 three four 0400 0061 0061 0102 "
        "bios16: the guest raised exception 00 0000:7cfa\n"
    )
    assert report.outcome.status == 1


def test_newline_from_the_host_is_enter(engine: str) -> None:
    # xor ah, ah; int 16h; out 0xf8, al
    code = b"\x30\xe4\xcd\x16\xe6\xf8\xf4"
    report, _ = run(engine, code, b"\n", format="flat16")
    assert report.outcome.status == 0x0D


@pytest.mark.parametrize(
    ("code", "vector"), [(b"\x0f\x0b", 6), (b"\x66\xa1\xfe\xff", 13)], ids=["#UD", "#GP beyond the segment"]
)
def test_exceptions_end_the_machine(engine: str, code: bytes, vector: int) -> None:
    report, console = run(engine, code, format="flat16")
    assert console == f"bios16: the guest raised exception {vector:02x} 0000:7c00\n"
    assert report.outcome.status == vector << 1 | 1


def test_reset_vector_boots_again_from_disk(engine: str) -> None:
    # The first time [0x600] is 0: mark it, spoil the sector's first byte, jump to F000:FFF0.
    code = bytes.fromhex("803e000601740f c606000601 c606007cf4 eaf0ff00f0 b02a e6f8 f4")
    report, _ = run(engine, code.ljust(510, b"\0") + b"\x55\xaa", format="bootsector")
    assert report.outcome.status == 42
