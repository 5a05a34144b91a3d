"""Recorders without a guest: what they keep, how little, and that they end."""

import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minihv import exits as x
from minihv.errors import HostError, UsageError
from minihv.host.tracepoints import Tracepoint
from minihv.machine.history import BUCKETS, FIRST_SHIFT, Track, add_up
from minihv.machine.kernel_exits import (
    MAX_PLACES,
    EmulatedNames,
    ExitNames,
    Reader,
    mnemonic,
    symbol_tables,
)
from minihv.machine.metrics import Metrics
from minihv.machine.metrics_server import MetricsServer
from minihv.machine.recorders import Recorder, call_all, join
from minihv.machine.timeline import Ring
from minihv.report.model import KernelSite
from minihv.stats import SiteInfo

EXIT = x.Shutdown(0)
IO, HLT = SiteInfo("io", "out", 0x3F8, 1, "serial.THR"), SiteInfo("hlt")


# Several observers


def test_observers_are_called_in_their_order_on_their_vcpu() -> None:
    seen: list[tuple[str, int]] = []

    def maker(name: str, only: int | None = None) -> Callable[[int], object]:
        def make(index: int) -> object:
            if only is not None and index != only:
                return None
            return lambda vcpu, exit, info, left, elapsed: seen.append((name, left))

        return make

    made = join([maker("a"), maker("b", 1), maker("c"), maker("d", 1)])  # type: ignore[list-item]
    assert made is not None
    for index in (0, 1):
        observe = made(index)
        assert observe is not None
        observe(index, EXIT, IO, index, 5)
    assert seen == [("a", 0), ("c", 0), ("a", 1), ("b", 1), ("c", 1), ("d", 1)]


def test_a_run_without_observers_has_none_at_all() -> None:
    assert join([]) is None
    nobody = join([lambda index: None])
    assert nobody is not None
    assert nobody(0) is None
    alone = Track().add
    assert call_all([alone]) == alone
    assert Recorder().observer(0) is None


# History


@given(st.lists(st.tuples(st.integers(0, 1 << 44), st.booleans()), max_size=60))
def test_no_exit_is_lost_however_long_a_run_gets(times: list[tuple[int, bool]]) -> None:
    track = Track()
    track.origin = 1000
    for at, is_io in times:
        track.add(0, EXIT, IO if is_io else HLT, 1000 + at, 5)
    line = add_up([track], max((at for at, _ in times), default=0) + 1)
    assert sum(line.exits.get("io", ())) == sum(is_io for _, is_io in times)
    assert sum(map(sum, line.exits.values())) == len(times)
    assert all(len(row) <= BUCKETS for row in line.exits.values())
    for at, is_io in times:
        assert line.exits["io" if is_io else "hlt"][at // line.bucket_ns] > 0, (
            "it is in the bucket of its time"
        )


def test_vcpus_are_laid_over_each_other_at_the_coarser_scale() -> None:
    short, long = Track(), Track()
    short.add(0, EXIT, IO, 3 << FIRST_SHIFT, 1)
    long.add(1, EXIT, IO, 3 << FIRST_SHIFT, 1)
    long.add(1, EXIT, HLT, BUCKETS << FIRST_SHIFT, 1)
    line = add_up([short, long], (BUCKETS + 1) << FIRST_SHIFT)
    assert line.bucket_ns == 2 << FIRST_SHIFT
    assert line.exits["io"][1] == 2
    assert line.exits["hlt"][BUCKETS // 2] == 1
    assert list(line.exits) == ["io", "hlt"], "the most frequent first"
    assert add_up([Track()], 0).exits == {}


def test_a_timeline_reaches_to_the_end_of_a_run_that_fell_silent() -> None:
    track = Track()
    track.add(0, EXIT, IO, 1, 1)
    line = add_up([track], 1_000_000_000)
    row = line.exits["io"]
    assert (sum(row), row[0]) == (1, 1)
    assert len(row) <= BUCKETS
    assert 1_000_000_000 <= line.bucket_ns * len(row) < 1_000_000_000 + line.bucket_ns


def test_an_exit_before_the_start_counts_for_the_first_bucket() -> None:
    track = Track()
    track.origin = 1 << 40
    track.add(0, EXIT, IO, 5, 1)
    assert track.rows["io"][0] == 1


# The timeline's ring


def test_a_ring_keeps_the_last_exits_and_counts_the_others() -> None:
    ring = Ring(4)
    assert (list(ring.exits()), ring.dropped) == ([], 0)
    for n in range(4):
        ring.add(0, EXIT, IO, n, n * 10)
    assert (list(ring.exits()), ring.dropped) == ([(n, n * 10, IO) for n in range(4)], 0)
    for n in range(4, 11):
        ring.add(0, EXIT, HLT, n, n * 10)
    assert list(ring.exits()) == [(n, n * 10, HLT) for n in range(7, 11)]
    assert ring.dropped == 7


# Metrics


@contextmanager
def serving(text: Callable[[], str]) -> Iterator[tuple[MetricsServer, int]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = MetricsServer(port, text)
    server.start()
    try:
        yield server, port
    finally:
        server.close()


def ask(port: int, path: str = "/metrics", host: str = "127.0.0.1") -> tuple[int, str, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Host": host})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


def test_the_server_answers_and_leaves_nothing_behind(no_leaks: None) -> None:
    with serving(lambda: "minihv_info 1\n") as (_, port):
        assert ask(port) == (200, "text/plain; version=0.0.4; charset=utf-8", "minihv_info 1\n")
        assert ask(port, "/other")[0] == 404
        assert ask(port, host="evil.example")[0] == 403
        assert ask(port, host=f"localhost:{port}")[0] == 200
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_an_engine_that_is_being_exchanged_is_no_traceback(no_leaks: None) -> None:
    def closed() -> str:
        raise OSError(9, "Bad file descriptor")

    with serving(closed) as (_, port):
        status, _, text = ask(port)
    assert (status, text) == (503, "not just now: [Errno 9] Bad file descriptor\n")


def test_a_client_that_says_nothing_does_not_hold_up_the_end(no_leaks: None) -> None:
    with serving(lambda: "") as (server, port):  # noqa: SIM117  # the client goes first
        with socket.create_connection(("127.0.0.1", port), timeout=10) as silent:
            silent.sendall(b"GET ")
            deadline = time.monotonic() + 10
            while server._server._current is None and time.monotonic() < deadline:
                threading.Event().wait(0.005)
            assert server._server._current is not None
            began = time.monotonic()
            server.close()
            assert time.monotonic() - began < 2.5, "it waited for a client"


def test_a_port_that_is_taken_is_refused(no_leaks: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(HostError, match=f"port {port} of 127.0.0.1 cannot be used for metrics"):
            Metrics(str(port), "g")


def test_a_bad_place_for_metrics_is_refused(tmp_path: Path) -> None:
    for port in ("0", "65536", "9" * 40):
        with pytest.raises(UsageError, match="port of 1 to 65535"):
            Metrics(port, "g")
    with pytest.raises(HostError, match="cannot be written"):
        Metrics(str(tmp_path / "no" / "file"), "g")


# The kernel's own exits

TABLES = (
    '"reason %s", (REC->isa == 1) ? __print_symbolic(REC->exit_reason & 0xffff, { 0, "EXCEPTION_NMI" }, '
    '{ 30, "IO_INSTRUCTION" }, { (1 + 1), "odd" }) : __print_symbolic(REC->exit_reason, { 0x07b, "io" }, '
    '{ -1, "invalid_guest_state" }), REC->guest_rip'
)
EXIT_EVENT = Tracepoint(103, {"exit_reason": (8, 4), "guest_rip": (16, 8), "isa": (24, 4)}, TABLES)
USER_EVENT = Tracepoint(42, {"reason": (8, 4), "errno": (12, 4)}, "")
EMULATE_EVENT = Tracepoint(
    85, {"rip": (8, 8), "csbase": (16, 4), "len": (20, 1), "insn": (21, 15), "flags": (36, 1)}, ""
)


def exit_record(reason: int, rip: int, isa: int) -> bytes:
    fields = reason.to_bytes(8, "little") + rip.to_bytes(8, "little") + isa.to_bytes(4, "little")
    return (103).to_bytes(8, "little") + fields


def user_record(errno: int = 0) -> bytes:
    return (42).to_bytes(8, "little") + (2).to_bytes(4, "little") + errno.to_bytes(4, "little", signed=True)


def test_the_kernels_tables_name_its_reasons() -> None:
    assert symbol_tables(TABLES) == {
        1: {0: "EXCEPTION_NMI", 30: "IO_INSTRUCTION"}, 0: {0x7B: "io", 0xFFFFFFFF: "invalid_guest_state"},
    }  # fmt: skip
    name = ExitNames(EXIT_EVENT)
    assert name(exit_record(30, 0, 1)) == "VMX IO_INSTRUCTION"
    assert name(exit_record(0x80000000 | 30, 0, 1)) == "VMX IO_INSTRUCTION", (
        "flags are above the basic reason"
    )
    assert name(exit_record(0x7B, 0, 2)) == "SVM io"
    assert name(exit_record(0xFFFFFFFF, 0, 2)) == "SVM invalid_guest_state"
    assert name(exit_record(99, 0, 1)) == "VMX 0x63"
    assert name(exit_record(0x7B, 0, 9)) == "isa 9 io"
    assert symbol_tables("nothing of the kind") == {}


def test_exits_are_counted_by_reason_and_place_and_merged_with_those_that_came_to_user_space() -> None:
    reader = Reader(EXIT_EVENT, USER_EVENT, ExitNames(EXIT_EVENT), "guest_rip")
    last = ""
    for record in (
        user_record(), exit_record(30, 0x10, 1), user_record(), user_record(), exit_record(30, 0x20, 1),
        exit_record(0, 0x20, 1), user_record(-4), exit_record(30, 0x10, 1), user_record(),
        b"\x07\x00" + bytes(40),
    ):  # fmt: skip
        last = reader.feed(record, last)
    io, nmi = reader.reasons()
    assert (io.name, io.count, io.to_user) == ("VMX IO_INSTRUCTION", 3, 2)
    assert io.sites == (KernelSite(0x10, "", 2), KernelSite(0x20, "", 1))
    assert (nmi.name, nmi.count, nmi.to_user) == ("VMX EXCEPTION_NMI", 1, 0)
    assert reader.recorded == 4


def test_places_are_bounded() -> None:
    reader = Reader(EXIT_EVENT, USER_EVENT, ExitNames(EXIT_EVENT), "guest_rip")
    for rip in range(MAX_PLACES + 50):
        reader.feed(exit_record(30, rip + 1, 1), "")
    assert len(reader.places) == MAX_PLACES + 1
    [reason] = reader.reasons()
    assert (reason.count, reason.sites[0]) == (MAX_PLACES + 50, KernelSite(0, "", 50))


def test_emulated_instructions_go_by_their_mnemonics() -> None:
    record = (85).to_bytes(8, "little") + (0x12).to_bytes(8, "little") + (0x1000).to_bytes(4, "little")
    record += b"\x01" + b"\xee".ljust(15, b"\x90") + b"\x08"
    reader = Reader(EMULATE_EVENT, USER_EVENT, EmulatedNames(EMULATE_EVENT), "rip")
    assert reader.feed(record, "") == "emulated out"
    assert reader.reasons()[0].sites == (KernelSite(0x1012, "", 1),)
    assert mnemonic(b"\xf3\x6e", 8) == "outsb"
    assert mnemonic(b"\xb8\x01\x00\x00\x00", 5) == "mov"


# How they are opened


def test_only_what_is_wanted_is_opened(tmp_path: Path) -> None:
    from minihv.boot.load import load
    from minihv.boot.plan import LoadRequest
    from minihv.machine.build import board_facts
    from minihv.machine.config import MachineConfig
    from minihv.machine.recorders import open_recorders

    config = MachineConfig(format="flat64", history=True, timeline=str(tmp_path / "t.json"))
    plan = load(LoadRequest(name="x", data=b"\xf4", format="flat64"), board_facts(config))
    with ExitStack() as stack:
        kinds = [type(r).__name__ for r in open_recorders(config, "x", plan, stack)]
    assert kinds == ["History", "TimelineFile"]
    with ExitStack() as stack, pytest.raises(HostError, match="cannot be written"):
        open_recorders(config.replace(timeline=str(tmp_path / "no" / "t")), "x", plan, stack)
