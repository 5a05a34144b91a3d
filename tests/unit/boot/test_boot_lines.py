"""Source lines from DWARF: right where a compiler wrote them, silent where a file is bent."""

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from minihv.boot import lines
from minihv.boot.lines import LineTable
from minihv.boot.symbols import SymbolTable

SOURCE = """\
static void out(unsigned short port, unsigned char value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

void _start(void)
{
    out(0x3f8, 'x');
    for (;;)
        __asm__ volatile("hlt");
}
"""


@pytest.fixture(scope="module", params=["-gdwarf-4", "-gdwarf-5"])
def image(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc to make an image with DWARF lines: not installed")
    folder = tmp_path_factory.mktemp("dwarf")
    (folder / "kernel.c").write_text(SOURCE)
    command = ["gcc", request.param, "-O0", "-ffreestanding", "-fno-pic", "-no-pie", "-nostdlib",
               "-fcf-protection=none", "-Wl,-Ttext=0x100000,-n,--build-id=none",
               "kernel.c", "-o", "k.elf"]  # fmt: skip
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return Path(folder / "k.elf").read_bytes()


def start_of(image: bytes, symbol: str) -> int:
    table = SymbolTable.from_elf(image)
    for address in range(0x100000, 0x100100):
        if table.lookup(address) == (symbol, 0):
            return address
    raise AssertionError(f"no {symbol}")


def test_addresses_have_their_lines(image: bytes) -> None:
    table = LineTable.from_elf(image)
    assert len(table) >= 6
    assert table.lookup(start_of(image, "out")) == "kernel.c:2"
    start = start_of(image, "_start")
    assert table.lookup(start) == "kernel.c:7"
    told = {table.lookup(address) for address in range(start, start + 40)}
    assert {"kernel.c:8", "kernel.c:10"} <= told
    assert table.lookup(0x100000 - 1) == ""
    assert table.lookup(0x900000) == "", "the end of a sequence ends what is known"


def test_files_without_lines_have_none() -> None:
    for data in (b"", b"MZ", b"\x7fELF", b"\x7fELF" + bytes(100), b"\x7fELF.debug_line\0" + bytes(200)):
        assert len(LineTable.from_elf(data)) == 0


def test_a_bent_file_has_fewer_lines_or_none_but_never_an_error(image: bytes) -> None:
    chance = random.Random(7)
    for _ in range(60):
        bent = bytearray(image)
        for _ in range(chance.randrange(1, 30)):
            bent[chance.randrange(len(bent))] = chance.randrange(256)
        table = LineTable.from_elf(bytes(bent[: chance.randrange(64, len(bent) + 1)]))
        assert isinstance(table.lookup(0x100000), str)


def test_too_much_is_not_read(image: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_ENTRIES", 3)
    assert len(LineTable.from_elf(image)) == 3
    monkeypatch.setattr(lines, "MAX_DEBUG", 10)
    assert len(LineTable.from_elf(image)) == 0
