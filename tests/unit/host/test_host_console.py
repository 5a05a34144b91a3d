"""Sinks and sources, over real pipes and files."""

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from minihv.errors import HostError
from minihv.host import console
from minihv.host.console import BufferSink, FileSink, NullSink, StreamSink, TeeSink
from minihv.host.sources import BUFFER_LIMIT, BufferSource, FdSource, FileSource


class Pipe:
    """Non-blocking ends `r` and `w`, each closed once."""

    def __init__(self) -> None:
        self.r, self.w = os.pipe()
        self._open = {self.r, self.w}
        for fd in self._open:
            os.set_blocking(fd, False)

    def close(self, fd: int) -> None:
        self._open.remove(fd)
        os.close(fd)

    def close_rest(self) -> None:
        for fd in list(self._open):
            self.close(fd)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close_rest()


def ended(source: FdSource | FileSource) -> bool:
    return source.eof


def drain(fd: int) -> bytes:
    try:
        return os.read(fd, 1 << 20)
    except BlockingIOError:
        return b""


def test_stream_sink_sends_at_a_newline(pipe: Pipe) -> None:
    sink = StreamSink(pipe.w)
    for byte in b"hello":
        sink.write(bytes((byte,)))
    assert drain(pipe.r) == b""
    sink.write(b"\n")
    assert drain(pipe.r) == b"hello\n"


def test_stream_sink_sends_on_flush_and_close(pipe: Pipe) -> None:
    sink = StreamSink(pipe.w)
    sink.write(b"login: ")
    assert drain(pipe.r) == b""
    sink.flush()
    assert drain(pipe.r) == b"login: "
    sink.write(b"x")
    sink.close()
    assert drain(pipe.r) == b"x"


def test_stream_sink_sends_when_4_kib_wait(pipe: Pipe) -> None:
    sink = StreamSink(pipe.w)
    for _ in range(4095):
        sink.write(b"a")
    assert drain(pipe.r) == b""
    sink.write(b"a")
    assert drain(pipe.r) == b"a" * 4096


@pytest.mark.parametrize("data", [b"a\nb", b"z" * 100])
def test_stream_sink_sends_long_writes_at_once(pipe: Pipe, data: bytes) -> None:
    StreamSink(pipe.w).write(data)
    assert drain(pipe.r) == data


def test_partial_writes_and_a_full_pipe_lose_nothing(pipe: Pipe) -> None:
    """The write end is non-blocking and much smaller than the text: EAGAIN and short writes for sure."""
    text = bytes(n % 256 for n in range(1 << 20))
    os.set_blocking(pipe.r, True)
    got = bytearray()

    def read_all() -> None:
        while len(got) < len(text):
            got.extend(os.read(pipe.r, 5000))

    reader = threading.Thread(target=read_all)
    sink = StreamSink(pipe.w)
    reader.start()
    sink.write(text)
    reader.join()
    assert got == text
    assert sink.broken is None


def test_a_broken_pipe_is_told_once_and_never_raised(pipe: Pipe) -> None:
    told: list[OSError] = []
    sink = StreamSink(pipe.w, told.append)
    pipe.close(pipe.r)
    for _ in range(3):
        sink.write(b"into the void\n")
    sink.close()
    assert len(told) == 1
    assert isinstance(sink.broken, BrokenPipeError)


def test_a_sink_without_callback_remembers_the_error(pipe: Pipe) -> None:
    sink = StreamSink(pipe.r)  # the wrong end
    sink.write(b"\n")
    assert sink.broken is not None
    assert sink.broken.errno == errno.EBADF


def test_stream_sink_keeps_each_threads_order(pipe: Pipe) -> None:
    sink = StreamSink(pipe.w)

    def write(letter: bytes) -> None:
        for _ in range(2000):
            sink.write(letter)
        sink.write(b"\n")

    threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sink.flush()
    got = drain(pipe.r)
    assert (got.count(b"a"), got.count(b"b"), got.count(b"\n")) == (2000, 2000, 2)


def test_file_sink_writes_a_file(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    path.write_bytes(b"old and longer than the new text")
    sink = FileSink(str(path))
    sink.write(b"new")
    sink.close()
    sink.close()
    assert path.read_bytes() == b"new"


def test_file_sink_refuses_in_words(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"cannot write console output to .*: Is a directory"):
        FileSink(str(tmp_path))


def test_a_full_disk_does_not_reach_the_device() -> None:
    told: list[OSError] = []
    sink = FileSink("/dev/full", told.append)
    sink.write(b"\n")
    sink.write(b"\n")
    sink.close()
    assert [error.errno for error in told] == [errno.ENOSPC]


def test_buffer_sink_keeps_the_last_bytes() -> None:
    sink = BufferSink(limit=10)
    sink.write(b"0123456")
    assert (sink.data, sink.dropped) == (b"0123456", 0)
    sink.write(b"789ab")
    assert (sink.data, sink.dropped) == (b"23456789ab", 2)
    sink.write(b"x" * 1_000_000)
    assert (sink.data, sink.dropped) == (b"x" * 10, 1_000_002)
    for _ in range(200_000):
        sink.write(b"y")
    assert (sink.data, sink.dropped) == (b"y" * 10, 1_200_002)


def test_buffer_sink_needs_room() -> None:
    with pytest.raises(ValueError, match="at least 1 byte"):
        BufferSink(limit=0)


def test_tee_and_null(pipe: Pipe) -> None:
    buffer = BufferSink()
    tee = TeeSink(NullSink(), TeeSink(buffer), StreamSink(pipe.w))
    tee.write(b"x")
    assert buffer.data == b"x"
    assert drain(pipe.r) == b""
    tee.flush()
    assert drain(pipe.r) == b"x"
    tee.write(b"y")
    tee.close()
    assert drain(pipe.r) == b"y"


def test_buffer_source_gives_in_order_and_takes_more() -> None:
    source = BufferSource(b"abc")
    assert source.take(2) == b"ab"
    assert source.feed(b"de") == 2
    assert source.take(100) == b"cde"
    assert source.take(1) == b""
    assert source.eof
    assert source.feed(bytes(BUFFER_LIMIT + 1)) == BUFFER_LIMIT


def test_fd_source_never_blocks_and_remembers_the_end(pipe: Pipe) -> None:
    os.set_blocking(pipe.r, True)
    source = FdSource(pipe.r)
    assert source.take(10) == b""
    os.write(pipe.w, b"abcdef")
    assert source.take(4) == b"abcd"
    assert source.take(0) == b""
    assert source.take(4) == b"ef"
    assert not ended(source)
    pipe.close(pipe.w)
    assert source.take(4) == b""
    assert ended(source)
    assert source.take(4) == b""


def test_fd_source_takes_a_hang_up_for_the_end() -> None:
    master, slave = os.openpty()
    source = FdSource(master)
    os.close(slave)
    assert source.take(1) == b""  # EIO
    assert ended(source)
    os.close(master)


def test_file_source_reads_as_it_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "input"
    path.write_bytes(b"line\nmore")
    source = FileSource(str(path))
    assert source.take(5) == b"line\n"
    assert os.lseek(source.fd, 0, os.SEEK_CUR) == 5
    assert source.take(100) == b"more"
    assert not ended(source)
    assert source.take(100) == b""
    assert ended(source)
    source.close()
    source.close()
    assert source.take(1) == b""


def test_file_source_refuses_in_words(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"cannot read console input from .*: No such file"):
        FileSource(str(tmp_path / "nothing"))


def test_file_source_of_a_directory_is_empty(tmp_path: Path) -> None:
    source = FileSource(str(tmp_path))
    assert source.take(1) == b""
    assert ended(source)
    source.close()


def test_file_source_of_a_fifo_does_not_wait_for_the_writer(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    source = FileSource(str(path))
    writer = os.open(path, os.O_WRONLY)
    assert source.take(1) == b""  # silent, not ended
    assert not ended(source)
    os.write(writer, b"x")
    assert source.take(1) == b"x"
    os.close(writer)
    source.close()


def fill(fd: int) -> int:
    """Write to a non-blocking pipe until it takes no more; how many bytes that were."""
    total = 0
    while True:
        try:
            total += os.write(fd, bytes(4096))
        except BlockingIOError:
            return total


def test_flush_some_sends_what_there_is_room_for_and_keeps_the_rest_in_order(pipe: Pipe) -> None:
    room = fill(pipe.w)
    sink = StreamSink(pipe.w)
    for byte in b"prompt":
        sink.write(bytes((byte,)))
    sink.flush_some()  # full: comes back all the same
    sink.write(b"> ")
    assert len(drain(pipe.r)) == room
    sink.flush_some()
    assert drain(pipe.r) == b"prompt> "


def test_flush_some_does_not_wait_for_a_thread_that_waits_for_the_consumer(pipe: Pipe) -> None:
    room = fill(pipe.w)
    sink = StreamSink(pipe.w)
    writer = threading.Thread(target=sink.write, args=(b"stuck\n",))
    writer.start()
    sink.write(b"more")
    sink.flush_some()
    assert len(drain(pipe.r)) == room
    writer.join()
    sink.flush()
    assert drain(pipe.r) == b"stuck\nmore"


def test_in_a_hurry_a_consumer_that_takes_nothing_is_given_up(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "GRACE_SECONDS", 0.0)
    room = fill(pipe.w)
    sink = StreamSink(pipe.w)
    writer = threading.Thread(target=sink.write, args=(b"nobody reads this\n",))
    writer.start()
    sink.hurry()
    writer.join()
    sink.close()
    assert sink.broken is None
    assert len(drain(pipe.r)) == room


def test_in_a_hurry_what_there_is_room_for_is_sent_all_the_same(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "GRACE_SECONDS", 0.0)
    sink = StreamSink(pipe.w)
    sink.write(b"last words")
    sink.hurry()
    sink.close()
    assert drain(pipe.r) == b"last words"


def test_a_fifo_that_nobody_reads_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(HostError, match=r"cannot write console output to .*fifo: No such device"):
        FileSink(str(tmp_path / "fifo"))
