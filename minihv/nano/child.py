"""The process that runs the native loops: `python -m minihv.nano.child`, driven through its standard streams.

In a process of its own, because it catches SIGFPE and SIGSEGV and because machine code that goes wrong takes
its process along. A line "ROW COUNT" is answered by "COUNT TICKS EMPTY NOW HOST_NS", or by "! why not".
"""

import os
import sys
import time
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, PAGESIZE, PROT_EXEC, PROT_READ, mmap
from typing import Any

from minihv.nano.native_code import LOOPS, READ_TSC, RETURN, SKIP_HANDLER, functions

SIGFPE, SIGSEGV, SA_SIGINFO = 8, 11, 4
MAP_32BIT, PROT_NONE = 0x40, 0
_CDEF = """
struct action { void *handler; unsigned long mask[16]; int flags; void *restorer; };
int sigaction(int number, const struct action *new, struct action *old);
"""
"""glibc's and musl's struct sigaction on x86-64 (bits/sigaction.h)."""


class Code:
    """Machine code of this process. Pages are filled through a file, so that none is ever writable and
    executable at once: hardened kernels refuse that."""

    def __init__(self) -> None:
        from cffi import FFI

        self.ffi: Any = FFI()
        self.ffi.cdef(_CDEF)
        self._pages: list[Any] = []

    def add(self, code: bytes, below_4g: bool = False) -> int:
        """The address where `code` can be called; `below_4g`: in reach of 32-bit offsets. Raises OSError."""
        fd = os.memfd_create("minihv-code", os.MFD_CLOEXEC)
        try:
            os.write(fd, code.ljust(-(-len(code) // PAGESIZE) * PAGESIZE, b"\xcc"))
            where = MAP_32BIT if below_4g else 0
            page = mmap(fd, 0, MAP_PRIVATE | where, PROT_READ | PROT_EXEC)
        finally:
            os.close(fd)
        return self._keep(page)

    def page_without_access(self) -> int:
        """The address of a page that faults on every access."""
        return self._keep(mmap(-1, PAGESIZE, MAP_PRIVATE | MAP_ANONYMOUS, PROT_NONE))

    def _keep(self, page: mmap) -> int:
        view = self.ffi.from_buffer(page)
        self._pages += (page, view)
        return int(self.ffi.cast("uintptr_t", view))

    def function(self, code: bytes) -> Any:
        """Callable: unsigned 64-bit in and out."""
        return self.ffi.cast("uint64_t (*)(uint64_t)", self.add(code))

    def on_signal(self, number: int, handler: int) -> None:
        """Let machine code at `handler` take the signal, with SA_SIGINFO."""
        action = self.ffi.new("struct action *", {"flags": SA_SIGINFO})
        action.handler = self.ffi.cast("void *", handler)
        if self.ffi.dlopen(None).sigaction(number, action, self.ffi.NULL):
            raise OSError(self.ffi.errno, os.strerror(self.ffi.errno))


def serve() -> None:
    """Answer lines until standard input ends."""
    code = Code()
    handler = code.add(SKIP_HANDLER)
    for number in (SIGFPE, SIGSEGV):
        code.on_signal(number, handler)
    addresses = {"call/ret_user": code.add(RETURN), "pgfault": code.page_without_access()}
    tsc = code.function(READ_TSC)
    ready = {
        name: tuple(code.function(c) for c in functions(loop, addresses.get(name, 0)))
        for name, loop in LOOPS.items()
    }
    for line in sys.stdin:
        name, count = line.split()
        full, empty = ready[name]
        times = full(int(count)), empty(int(count))
        print(count, *times, tsc(0), time.perf_counter_ns(), flush=True)


if __name__ == "__main__":
    try:
        serve()
    except OSError as error:
        print(f"! the host does not let user space run code of its own: {error.strerror}", flush=True)
