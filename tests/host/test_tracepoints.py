"""The kernel's own exits, where tracefs and perf events can be had; else why not, in a sentence."""

import os
from collections.abc import Iterator

import pytest
from support import HLT, leave, loop_cx, machine, outb

from minihv.errors import HostError
from minihv.host import tracepoints
from minihv.host.tracepoints import ThreadEvents, TraceFs, Tracepoint

pytestmark = pytest.mark.kvm


@pytest.fixture
def user_exit() -> Iterator[Tracepoint]:
    try:
        with TraceFs() as files:
            yield files.tracepoint("kvm", "kvm_userspace_exit")
    except HostError as error:
        pytest.skip(f"needs tracefs: {error}")


def test_tracefs_is_read_without_mounting_it_anywhere(user_exit: Tracepoint) -> None:
    with open("/proc/self/mounts") as mounts:
        before = mounts.read()
    with TraceFs() as files:
        event = files.tracepoint("kvm", "kvm_exit")
        with pytest.raises(HostError, match="does not let us read events/kvm/no_such"):
            files.tracepoint("kvm", "no_such")
    with open("/proc/self/mounts") as mounts:
        assert mounts.read() == before
    assert event.number > 0
    assert event.fields["exit_reason"][1] == 4
    assert event.fields["guest_rip"][1] == 8
    assert "EXTERNAL_INTERRUPT" in event.print_format
    assert user_exit.fields["errno"][1] == 4


def test_a_threads_events_are_counted_and_read(user_exit: Tracepoint, no_leaks: None) -> None:
    try:
        events = ThreadEvents((user_exit,))
    except HostError as error:
        pytest.skip(f"needs perf events: {error}")
    try:
        assert list(events.take()) == []
        assert events.counts() == [0], "this thread runs no guest"
    finally:
        events.close()
        events.close()


def test_a_runs_report_has_them(user_exit: Tracepoint, no_leaks: None) -> None:
    code = loop_cx(300, outb(0x80, 5)) + leave(0)
    with machine(code, kernel_exits=True) as m:
        report = m.run()
    kernel = report.kernel_exits
    assert kernel is not None
    if kernel.note:
        pytest.skip(f"needs perf events: {kernel.note}")
    assert report.count("io") == 301
    to_user = sum(reason.to_user for reason in kernel.reasons)
    assert to_user >= 301
    assert kernel.recorded + kernel.lost <= kernel.total + 1
    assert kernel.recorded == sum(reason.count for reason in kernel.reasons)
    assert kernel.lost == 0
    [out] = [r for r in kernel.reasons if r.to_user >= 301]
    assert out.name in ("emulated out", "VMX IO_INSTRUCTION", "SVM io")
    assert {site.address for site in out.sites} & set(range(0x7C00, 0x7C00 + len(code)))


def test_without_permission_the_report_says_what_would_show_more(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(number: int, *arguments: object) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(tracepoints, "MOUNTED", ())
    monkeypatch.setattr(tracepoints, "_system_call", refuse)
    with machine(outb(0x80, 1) + leave(0) + HLT, kernel_exits=True) as m:
        kernel = m.run().kernel_exits
    assert kernel is not None
    assert (kernel.total, kernel.reasons) == (0, ())
    assert kernel.note.startswith("tracefs is not mounted, and mounting it privately was refused")
    assert "run as root (CAP_SYS_ADMIN)" in kernel.note
    assert "counters of the stats descriptor" in kernel.note


def test_where_perf_events_are_refused_it_is_said_too(
    user_exit: Tracepoint, monkeypatch: pytest.MonkeyPatch, no_leaks: None
) -> None:
    real = tracepoints._system_call

    def refuse(number: int, *arguments: object) -> int:
        if number == 298:
            raise PermissionError(13, os.strerror(13))
        return real(number, *arguments)

    monkeypatch.setattr(tracepoints, "_system_call", refuse)
    with machine(leave(0), kernel_exits=True) as m:
        kernel = m.run().kernel_exits
    assert kernel is not None
    assert "perf_event_open of a tracepoint was refused (Permission denied)" in kernel.note
    assert "perf_event_paranoid" in kernel.note
