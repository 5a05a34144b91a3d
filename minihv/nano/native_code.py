"""The loops of guests/nano.S as user space of the host can run them: x86-64 machine code, System V ABI.

A function takes a count in RDI and gives back the time-stamp ticks of its loop in RAX. The count is kept in
R9 and the start in R10: neither SYSCALL nor CPUID nor a fault touches those.
"""

from typing import NamedTuple

_PUSH_RBX = "53"
_KEEP_COUNT = "4989f9"  # mov r9, rdi
_RDTSC = "0f3148c1e2204809d0"  # rdtsc; shl rdx, 32; or rax, rdx
_KEEP_START = "4989c2"  # mov r10, rax
_AGAIN = "49ffc90f85"  # dec r9; jnz rel32
_STOP = _RDTSC + "4c29d05bc3"  # sub rax, r10; pop rbx; ret

SKIP_HANDLER = bytes.fromhex("488382a800000002c3")
"""A handler for SA_SIGINFO: add qword ptr [rdx + 0xa8], 2; ret. Both instructions that fault have two bytes.
RDX is the ucontext, where uc_mcontext.gregs[REG_RIP] is at 40 + 8 * 16 (sys/ucontext.h)."""
RETURN = bytes.fromhex("c3")
READ_TSC = bytes.fromhex(_RDTSC + "c3")


class Loop(NamedTuple):
    """`setup` runs once, `filler` and `operation` each time; the empty loop has no operation."""

    setup: str
    filler: str
    operation: str


LOOPS: dict[str, Loop] = {
    "syscall": Loop("", "b86e000000", "0f05"),  # mov eax, 110 (getppid); syscall
    "call/ret_user": Loop("48bbAAAAAAAAAAAAAAAA", "", "ffd3"),  # mov rbx, a function; call rbx
    "cpuid": Loop("", "31c0", "0fa2"),  # xor eax, eax; cpuid
    "divzero": Loop("31c031d231c9", "", "f7f1"),  # xor eax, eax; xor edx, edx; xor ecx, ecx; div ecx
    "pgfault": Loop("48bbAAAAAAAAAAAAAAAA", "", "8a03"),  # mov rbx, a page without access; mov al, [rbx]
}
"""By the row's name; AA...: an address that only the process knows."""

ADDRESS = "AA" * 8


def function(setup: str, body: str) -> bytes:
    """The whole function around a loop body, all in hexadecimal digits."""
    back = len(body) // 2 + len(_AGAIN) // 2 + 4
    jump = (-back & 0xFFFFFFFF).to_bytes(4, "little").hex()
    return bytes.fromhex(
        _PUSH_RBX + _KEEP_COUNT + _RDTSC + _KEEP_START + setup + body + _AGAIN + jump + _STOP
    )


def functions(loop: Loop, address: int) -> tuple[bytes, bytes]:
    """The function with the operation and the one without; `address` is what the setup needs, or 0."""
    setup = loop.setup.replace(ADDRESS, address.to_bytes(8, "little").hex())
    return function(setup, loop.filler + loop.operation), function(setup, loop.filler)
