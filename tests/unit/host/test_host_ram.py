"""Guest RAM: memfd, views, release, refusal."""

import mmap
import os

import pytest

from minihv.errors import HostError
from minihv.host.ram import HostRam


def test_ram_is_zero_and_writable() -> None:
    with HostRam(1 << 20) as ram:
        assert len(ram.view) == ram.size == 1 << 20
        assert not any(ram.view[:: mmap.PAGESIZE])
        ram.view[5:8] = b"abc"
        assert bytes(ram.piece(4, 5)) == b"\0abc\0"


def test_the_descriptor_names_the_same_memory() -> None:
    with HostRam(8192) as ram, mmap.mmap(ram.fd, 8192) as other:
        ram.view[8191] = 0x5A
        assert other[8191] == 0x5A
        assert not os.get_inheritable(ram.fd)


def test_pages_are_not_touched_in_advance() -> None:
    with HostRam(1 << 30) as ram:
        assert os.fstat(ram.fd).st_blocks == 0
        ram.view[1 << 29] = 1
        assert 0 < os.fstat(ram.fd).st_blocks * 512 <= 4 << 20  # a huge page at most


def test_close_releases_pieces_and_may_be_repeated() -> None:
    ram = HostRam(8192)
    fd, piece = ram.fd, ram.piece(0, 4096)
    assert ram.close()
    assert ram.close()
    with pytest.raises(ValueError, match="released"):
        piece[0]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    assert ram.fd == -1


def test_close_with_a_view_that_somebody_keeps() -> None:
    ram = HostRam(4096)
    kept = ram.view[0:16]
    assert not ram.close()
    kept[0] = 7  # still memory: the mapping lives as long as the view
    assert kept[0] == 7
    kept.release()


@pytest.mark.parametrize("size", [0, -4096, 1 << 62, 1 << 70])
def test_impossible_sizes_are_refused_in_words(size: int) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(HostError, match="bytes of guest RAM were asked for"):
        HostRam(size)
    assert len(os.listdir("/proc/self/fd")) == before


def test_without_memfd_the_memory_is_anonymous(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    with HostRam(4096) as ram:
        assert ram.fd == -1
        ram.view[0] = 1
        assert ram.view[0] == 1


@pytest.mark.parametrize(("offset", "size"), [(-1, 1), (0, -1), (0, 4097), (4096, 1)])
def test_pieces_lie_inside(offset: int, size: int) -> None:
    with HostRam(4096) as ram, pytest.raises(ValueError, match="does not lie"):
        ram.piece(offset, size)
