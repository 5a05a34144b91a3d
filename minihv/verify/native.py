"""The host's own processor as a judge without KVM: the harness in a process of its own, guarded by signals.

It also runs 32-bit code, which KVM on PVM hosts emulates, and sees every fault as the processor raised it.
A wild store of a tested instruction hits that process and nobody else.
"""

import os
import platform
import select
import signal
import struct
import subprocess
import sys
from typing import IO

from minihv.errors import HostError
from minihv.host.ram import HostRam
from minihv.verify import layout as at
from minihv.verify import native_code as code
from minihv.verify import stubs
from minihv.verify.image import PAGES, USER, WRITE

BASE = at.HARNESS + 0x10000
_STACK, _STACK_BYTES = BASE + 0x1000, 0x10000
_PROT_READ, _PROT_WRITE, _PROT_EXEC = 1, 2, 4
_SA_FLAGS = 4 | 0x04000000 | 0x08000000 | 0x40000000
"""SA_SIGINFO, SA_RESTORER, SA_ONSTACK, SA_NODEFER."""
_SIGNALS = (signal.SIGILL, signal.SIGTRAP, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV)


def why_not_native() -> str | None:
    """Why this host cannot run it; None where it can."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return (
            f"the native harness is an x86-64 Linux process, this is {sys.platform} on {platform.machine()}"
        )
    return None


class NativeProcess:
    """`ram` holds the harness's memory, GPA = offset. Raises HostError where no process can be started."""

    def __init__(self, ram: HostRam) -> None:
        reason = why_not_native()
        if reason is not None:
            raise HostError(reason)
        ram.view[at.GPA_HARNESS : at.GPA_HARNESS + len(stubs.CODE)] = stubs.CODE
        ram.view[at.GPA_READ_ONLY : at.GPA_READ_ONLY + 0x1000] = bytes(range(256)) * 16
        image = os.memfd_create("minihv-native", 0)  # stays open across exec: it is what is executed
        try:
            os.write(image, _elf(ram.fd))
            self._process = subprocess.Popen(
                [f"/proc/self/fd/{image}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                pass_fds=(image, ram.fd), bufsize=0, env={},
            )  # fmt: skip
        except OSError as error:
            raise HostError(f"the native harness does not start: {error}") from error
        finally:
            os.close(image)
        self._await(10.0)
        with open(f"/proc/{self._process.pid}/maps", encoding="ascii", errors="replace") as maps:
            self.has_low_pages = any(line.startswith(f"{at.LOW:08x}-") for line in maps)
        """Linux reserves the first 64 KiB (vm.mmap_min_addr) for those that may do everything."""

    def enter(self, seconds: float) -> str | None:
        """Run the batch that is in memory; None when it came to its end, else what happened."""
        try:
            _pipe(self._process.stdin).write(b"g")
        except BrokenPipeError:
            return self._death()
        try:
            self._await(seconds)
        except HostError as error:
            return str(error)
        return None

    def _await(self, seconds: float) -> None:
        pipe = _pipe(self._process.stdout)
        if not select.select([pipe], [], [], seconds)[0]:
            raise HostError(f"the native harness did not answer within {seconds:g} s")
        if not pipe.read(1):
            raise HostError(self._death())

    def _death(self) -> str:
        return f"the native harness ended with {self._process.wait(5)}"

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            _pipe(pipe).close()


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


def _elf(memory_fd: int) -> bytes:
    """A static ELF64 executable (System V ABI, chapter 4) with one segment, everything in it."""
    program = bytearray(code.CODE.ljust(code.TABLE, b"\0"))
    struct.pack_into("<QQQ", program, code.ALT_STACK, _STACK, 0, _STACK_BYTES)
    struct.pack_into("<QQQQ", program, code.ACTION, _text(code.HANDLER), _SA_FLAGS, _text(code.RESTORER), 0)
    struct.pack_into("<5B", program, code.SIGNALS, *_SIGNALS)
    struct.pack_into("<Q", program, code.FD, memory_fd)
    for linear, gpa, pages, rights in PAGES:
        if linear & ~0xFFF in (at.KERNEL_STACK & ~0xFFF, at.RING0):
            continue
        protection = 0
        if rights & USER:
            protection = _PROT_READ | _PROT_EXEC | (_PROT_WRITE if rights & WRITE else 0)
        program += struct.pack("<4Q", linear, pages << 12, protection, gpa)
    program += bytes(32)
    header = struct.pack(
        "<4s5B7xHHIQQQIHHHHHH", b"\x7fELF", 2, 1, 1, 0, 0, 2, 62, 1, _text(0), 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    size = 64 + 56 + len(program)
    assert size <= 0x1000
    load = struct.pack("<IIQQQQQQ", 1, 7, 0, BASE, BASE, size, 0x1000 + _STACK_BYTES, 0x1000)
    return header + load + bytes(program)


def _text(offset: int) -> int:
    return BASE + 64 + 56 + offset
