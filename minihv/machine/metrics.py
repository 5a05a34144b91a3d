"""--metrics: counters and histograms for Prometheus, served on a loopback port or written at the end."""

import os
from typing import TYPE_CHECKING

from minihv.errors import HostError, UsageError
from minihv.machine.build import Parts
from minihv.machine.recorders import Recorder
from minihv.report.model import Report
from minihv.report.prometheus import ExitRow, VcpuRow, add_up, prometheus

if TYPE_CHECKING:
    from minihv.machine.metrics_server import MetricsServer


def snapshot(parts: Parts, guest: str) -> str:
    """The exposition of a machine, running or not. From any thread: counters only grow, and each is read
    in one step."""
    engine = parts.engine
    assert engine is not None
    facts = engine.describe()
    info = {"guest": guest, "engine": engine.name, "kvm": facts.get("kvm", "")}
    vcpus, exits = [], []
    for loop in parts.loops:
        stats = loop.stats
        vcpus.append(VcpuRow(stats.index, stats.guest_ns, stats.kicks, loop.instructions))
        for counter in list(stats.counters):
            exits.append(ExitRow(stats.index, counter.info.name, counter.sum_ns, list(counter.histogram)))
    return prometheus(info, vcpus, add_up(exits), parts.counters())


class Metrics(Recorder):
    """Serves the metrics while the machine runs, or writes them when it has ended."""

    def __init__(self, where: str, guest: str) -> None:
        """`where` is a port (digits) or a file. Raises UsageError or HostError."""
        self._guest = guest
        self._parts: Parts | None = None
        self._server: MetricsServer | None = None
        self._path = where
        if where.isascii() and where.isdecimal():
            if not 1 <= int(where[:9]) <= 65535:
                raise UsageError(f"expected a port of 1 to 65535 or a file for --metrics, found {where!r}")
            from minihv.machine import metrics_server

            self._server = metrics_server.MetricsServer(int(where), self._text)
        else:
            self._check_writable()

    def _check_writable(self) -> None:
        try:
            os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666))
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> HostError:
        return HostError(f"{self._path}: cannot be written: {error.strerror}; choose another file")

    def _text(self) -> str:
        parts = self._parts
        return "" if parts is None else snapshot(parts, self._guest)

    def prepare(self, parts: Parts) -> None:
        self._parts = parts
        if self._server is not None:
            self._server.start()

    def end(self, report: Report, now: int) -> Report:
        if self._server is not None:
            self.close()
            return report
        try:
            with open(self._path, "w", encoding="utf-8") as file:
                file.write(self._text())
        except OSError as error:
            raise self._refused(error) from error
        return report

    def close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
