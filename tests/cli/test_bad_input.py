"""Whatever is wrong with a command line or an image: one sentence that says what was found, and a status."""

import shlex
from pathlib import Path
from typing import NamedTuple

import pytest
from bad_files import make_bad_files
from cli_support import CANNOT_START, USAGE, Typed, assert_one_sentence


class Bad(NamedTuple):
    """What is typed (in the folder of bad files), the status, and what the sentence must tell."""

    line: str
    status: int
    tells: tuple[str, ...]


def _rows(status: int, table: str) -> list[Bad]:
    """One row a line: what is typed, and after each | something that the sentence must contain."""
    rows = []
    for text in filter(None, map(str.strip, table.splitlines())):
        line, *tells = (part.strip() for part in text.split("|"))
        assert tells, f"say what {line!r} must tell"
        rows.append(Bad(line, status, tuple(tells)))
    return rows


ARGUMENTS = _rows(
    USAGE,
    """
    run                                | expected a guest | found none | `minihv guests`
    run hello add                      | unexpected extra argument (add) | minihv run --help
    run -k hello add                   | expected one guest | 'hello' | 'add'
    frobnicate                         | 'frobnicate' | minihv --help
    --frobnicate                       | '--frobnicate'
    run --frobnicate hello             | '--frobnicate' | minihv run --help
    run hello -m                       | '-m' requires an argument | minihv run --help
    run hello --stats=yes              | '--stats' does not take a value | minihv run --help
    guests hello                       | (hello) | minihv guests --help
    doctor now                         | (now) | minihv doctor --help
    run hello --engine qemu            | 'qemu' | 'auto' | 'kvm' | 'interpret'
    run hello --board pc               | 'pc' | 'default', 'testdev'
    run hello --irqchip soft           | 'soft' | 'kernel', 'split', 'none'
    run hello --display x11            | 'x11' | 'none', 'text', 'live'
    run hello --clock sundial          | 'sundial' | 'real'
    run good.elf --format exe          | 'exe' | flat16 | multiboot
    run hello --serial tcp:1234        | 'tcp:1234' | stdio, null, buffer or file:PATH
    run hello --serial file:           | expected a path | found none
    run hello -m 64X                   | a size such as 64M or 1G | '64X'
    run hello -m ''                    | a size such as 64M or 1G | ''
    run hello -m -64M                  | a size such as 64M or 1G | '-64M'
    run hello -m 1.5G                  | a size such as 64M or 1G | '1.5G'
    run hello -m 0                     | between 1M and 512G | found 0 bytes
    run hello -m 512K                  | between 1M and 512G | found 524288 bytes
    run hello -m 513G                  | between 1M and 512G | found 550829555712 bytes
    run hello -m 1048577               | whole 4 KiB pages | found 1048577 bytes
    run hello -c 0                     | 1 to 255 CPUs | found 0
    run hello -c 999                   | 1 to 255 CPUs | found 999
    run hello -c two                   | 'two'
    run hello --timeout 0              | above 0 | found 0
    run hello --timeout -1             | above 0 | found -1
    run hello --timeout nan            | above 0 | found nan
    run hello --timeout 1e300          | below 1e9 | found 1e+300
    run hello --timeout soon           | 'soon'
    run hello --max-exits 0            | 1 or more | found 0
    run hello --max-exits many         | 'many'
    run code.bin --format flat64 --entry xyz | a number such as | 'xyz'
    run code.bin --format flat64 --entry -1 | guest-physical address | entry | -0x1
    run code.bin --format flat64 --load-address 0x10000000000000 | load_address | 0x10000000000000
    run smp --irqchip none -c 2        | expected one CPU | found 2 | LAPIC
    run hello --firmware rom64k        | either a guest or --firmware | 'hello' | 'rom64k'
    run --firmware rom64k -i module    | a firmware ROM alone | found modules
    run --firmware rom64k --format elf64 | a firmware ROM alone | found format
    run --firmware rom64k -p quiet --entry 4 | a firmware ROM alone | found entry and cmdline
    run hello -p quiet                 | hello64.elf | elf64 cannot take a command line | leave it out
    run hello -i module                | hello64.elf | elf64 cannot take modules | leave them out
    run good.mb --entry 0x100000       | good.mb | multiboot cannot take an entry address
    run good.mb --load-address 0x100000 | good.mb | multiboot cannot take a load address
    """,
)

FILES = _rows(
    CANNOT_START,
    """
    run ''                             | neither a file nor a guest named ''
    run nowhere                        | neither a file nor a guest named 'nowhere' | `minihv guests`
    run ./hello                        | neither a file nor a guest named './hello'
    run good.elf/inside                | neither a file nor a guest named 'good.elf/inside'
    run loop                           | named 'loop'
    run dangling                       | named 'dangling'
    run folder                         | found the folder folder | name a file in it
    run .                              | found the folder .
    run pipe                           | found pipe, which is no regular file | copy it
    run /dev/zero                      | found /dev/zero, which is no regular file
    run /proc/self/mem                 | /proc/self/mem: cannot be read: Input/output error
    run gigabytes.elf                  | at most 1 GiB | found 2147483648 bytes
    run multiboot -i nowhere           | a module | no file named 'nowhere'
    run multiboot -i folder            | a module | found the folder folder
    run multiboot -i pipe              | a module | found pipe, which is no regular file
    run multiboot -i gigabytes         | a module of at most 1 GiB | found 2147483648 bytes
    run multiboot -i empty             | empty: | a module with contents | an empty file
    run multiboot -i module100m        | module100m needs 0x6400000 bytes | more memory
    run multiboot -i /proc/self/mem    | /proc/self/mem: cannot be read
    run --firmware nowhere             | a firmware ROM | no file named 'nowhere'
    run --firmware hello               | a firmware ROM | no file named 'hello'
    run --firmware folder              | a firmware ROM | found the folder folder
    run --firmware empty               | empty: | 64 KiB to 16 MiB | found 0 bytes
    run --firmware rom100              | rom100: | 64 KiB to 16 MiB | found 100 bytes
    run --firmware rom96k              | rom96k: | a multiple of 64 KiB | found 98304 bytes
    run --firmware rom17m              | rom17m: | 64 KiB to 16 MiB | found 17825792 bytes
    run hello --trace nowhere/trace    | nowhere/trace: | No such file or directory
    run hello --trace folder           | folder: | Is a directory
    run hello --stats-json nowhere/report | nowhere/report: | No such file or directory
    run hello --stats-json folder      | folder: | Is a directory
    run hello --serial file:nowhere/log | nowhere/log: | No such file or directory
    run hello --serial file:folder     | folder: | Is a directory
    """,
)

IMAGES = _rows(
    CANNOT_START,
    """
    run empty                          | empty: expected a guest image, found an empty file
    run notes.txt                      | notes.txt: expected an ELF | begins 44 65 61 72 | --format flat16
    run picture.png                    | picture.png: expected an ELF file | begins 89 50 4e 47
    run script.sh                      | script.sh: expected an ELF file | begins 23 21 2f
    run words                          | words: expected an ELF file | begins 01 00 00 00
    run code.bin                       | code.bin: | does not say which mode | flat16, flat32 or flat64
    run bzImage                        | bzImage: | Linux bzImage | vmlinux
    run sector.bin                     | sector.bin: looks like a boot sector | --format bootsector
    run short.img                      | short.img: expected | begins fa f4
    run unsigned.img                   | unsigned.img: expected | begins 00 00
    run short.img --format bootsector  | short.img: a boot sector takes 0x200 bytes | ends at 0x12c
    run unsigned.img --format bootsector | unsigned.img: | 55 aa at file offset 0x1fe | found 00 00
    run sector.bin --format elf64      | sector.bin: expected the ELF magic | found fa f4 00 00
    run ident.elf                      | ident.elf: | takes 0x10 bytes | ends at 0xa
    run header.elf                     | header.elf: the ELF header takes 0x30 bytes | ends at 0x28
    run programs.elf                   | programs.elf: program header 0 | ends at 0x46
    run segment.elf                    | segment.elf: segment 0 | takes 0xc80 bytes | ends at 0x3e8
    run class.elf                      | class.elf: expected ELF class 1 or 2 | found 7
    run bigendian.elf                  | bigendian.elf: expected a little-endian | found 2
    run object.elf                     | object.elf: expected an executable | relocatable object
    run arm.elf                        | arm.elf: expected machine 62 (x86-64) | found 183 (AArch64)
    run phnum.elf                      | phnum.elf: expected at most 256 | found 65535
    run phentsize.elf                  | phentsize.elf: | of 56 bytes | found 57
    run nothing.elf                    | nothing.elf: has no loadable segment | at least one
    run zero.elf                       | zero.elf: has no loadable segment
    run program.elf                    | program.elf: segment 1 | dynamic linker | statically linked
    run shrinks.elf                    | shrinks.elf: segment 0 | 0x20 bytes in the file | 0x4 in memory
    run wraps.elf                      | wraps.elf: segment 0 | wraps around | 0xfffffffffffffff0
    run entry.elf                      | entry.elf: | 0x100000..0x10001f | found 0x5000000
    run overlap.elf                    | overlap.elf: segment 1 | overlaps segment 0
    run video.elf                      | video.elf: segment 0 | covers video memory at 0xa0000..0xbffff
    run lapic.elf                      | lapic.elf: segment 0 | covers LAPIC at 0xfee00000
    run high.elf                       | high.elf: segment 0 | 0x40000000 | does not fit into guest RAM
    run huge.elf                       | huge.elf: segment 0 | needs 0x10000000000 | there are 0x4000000
    run hello -m 1M                    | hello64.elf: segment 0 | does not fit into guest RAM | more memory
    run checksum.mb                    | checksum.mb: | wrong checksum: expected 0xe4524ffe | found 0x3039
    run features.mb                    | features.mb: | requires features 0x10 | known: 0x7
    run noaddress.mb                   | noaddress.mb: | no address fields | expected an ELF file
    run order.mb                       | order.mb: | load end 0x90000 | ascending order
    run below.mb                       | below.mb: | at 0x100000 and the load address at 0x200000
    run cut.mb                         | cut.mb: | takes 0x14 bytes | ends at 0xc
    run notes.txt --format multiboot   | notes.txt: expected a multiboot header | found none
    run note.elf                       | note.elf: | claims 4 + 2147483647 bytes
    run good.elf --format pvh          | good.elf: | owner Xen and type 18 | found none
    run good.elf --format elf32        | good.elf: expected a 32-bit ELF file, found a 64-bit one
    run good.elf --entry 0x10          | good.elf: | 0x100000..0x10001f | found 0x10
    run empty --format flat32          | empty: expected a flat image, found an empty file
    run code.bin --format flat64 --entry 5 | code.bin: | 0x100000..0x10001f | found 0x5
    run code.bin --format flat64 --load-address 0x8000000 | code.bin: | at 0x8000000 | not fit into guest RAM
    run code.bin --format flat64 --load-address 0xa0000 | code.bin: | covers video memory
    run code.bin --format flat16 --load-address 0x200000 | code.bin: | below 1 MiB, found 0x200000
    run module100m --format flat32     | module100m: | needs 0x6400000 bytes, there are 0x4000000
    """,
)


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the rows are typed."""
    folder = tmp_path_factory.mktemp("bad")
    make_bad_files(folder)
    return folder


@pytest.mark.parametrize("bad", ARGUMENTS + FILES + IMAGES, ids=lambda bad: bad.line)
def test_one_sentence(bad: Bad, bad_files: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bad_files)
    assert_one_sentence(typed(*shlex.split(bad.line)), bad.status, bad.tells)


def test_there_are_many() -> None:
    assert len({bad.line for bad in ARGUMENTS + FILES + IMAGES}) >= 120


def test_the_bad_files_are_bad_for_one_reason_each(
    bad_files: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The good image that the others are bent from is taken: it is stopped only by what comes later."""
    monkeypatch.chdir(bad_files)
    for name in ("good.elf", "good.mb"):
        done = typed("run", name, "--trace", "nowhere/trace")
        assert "nowhere/trace" in done.err


def test_a_name_that_no_file_can_have(typed: Typed) -> None:
    done = typed("run", "x" * 5000)
    assert_one_sentence(done, CANNOT_START, ("neither a file nor a guest",))


def test_a_name_with_nul(typed: Typed) -> None:
    assert_one_sentence(typed("run", "a\0b"), CANNOT_START, ("'a\\x00b'",))


def test_too_many_modules(typed: Typed, bad_files: Path) -> None:
    done = typed("run", "multiboot", *["-i", str(bad_files / "module")] * 65)
    assert_one_sentence(done, CANNOT_START, ("at most 64 modules", "found 65"))


@pytest.mark.parametrize("guest", ["multiboot", "pvh"])
def test_a_command_line_too_long(typed: Typed, guest: str) -> None:
    done = typed("run", guest, "-p", "word " * 1000)
    assert_one_sentence(done, CANNOT_START, ("at most 4095 bytes", "found 5", "beginning '"))


def test_a_command_line_with_nul(typed: Typed) -> None:
    assert_one_sentence(typed("run", "multiboot", "-p", "a\0b"), USAGE, ("without NUL",))


@pytest.mark.parametrize("cut", [1, 4, 5, 16, 17, 63, 64, 65, 119, 120, 4095])
def test_a_bundled_image_truncated_anywhere(typed: Typed, tmp_path: Path, cut: int) -> None:
    """Short of its magic it is unknown; behind it, the sentence says where the file ends."""
    from minihv.machine.images import IMAGES

    path = tmp_path / "cut.elf"
    path.write_bytes((Path(IMAGES) / "hello64.elf").read_bytes()[:cut])
    done = typed("run", path)
    tells = ("expected an ELF file",) if cut < 4 else ("truncated", f"{cut:#x}")
    assert_one_sentence(done, CANNOT_START, (str(path), *tells))
