"""--trace: one JSON line for each exit, in the order in which they were handled."""

import json
from pathlib import Path

from minihv.errors import HostError
from minihv.exits import Exit
from minihv.machine.loop import Observer
from minihv.machine.recorders import Recorder
from minihv.report.exitwords import trace_line
from minihv.stats import SiteInfo


class Trace(Recorder):
    """The trace file of one run. Raises HostError where the file refuses."""

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            self._file = Path(path).open("w", encoding="utf-8")  # noqa: SIM115 - closed by __exit__
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> HostError:
        return HostError(f"{self._path}: cannot be written: {error.strerror}; choose another trace file")

    def write(self, vcpu: int, exit: Exit, info: SiteInfo, left_ns: int, elapsed_ns: int) -> None:
        """Add a line; arguments as for `minihv.machine.loop.Observer`."""
        try:
            self._file.write(json.dumps(trace_line(vcpu, exit, info, left_ns, elapsed_ns)) + "\n")
        except OSError as error:
            raise self._refused(error) from error

    def observer(self, index: int) -> Observer:
        """The same for all vCPUs: a line is written in one call."""
        return self.write

    def close(self) -> None:
        try:
            self._file.close()
        except OSError as error:
            raise self._refused(error) from error
