"""The process that executes the instructions natively: `python -m minihv.sensitive.child`.

In a process of its own, because what they do to it nobody can promise. Standard input: code and offsets as
one JSON object; standard output: a line for each instruction, "NAME VECTOR-or-minus VALUE".
"""

import json
import sys

from minihv.nano.child import Code

SIGNALS = (4, 5, 7, 8, 11)
"""SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV: what exceptions become."""
KERNEL_CODE, KERNEL_DATA = 0x10, 0x18
"""Linux's own selectors (arch/x86/include/asm/segment.h)."""
BYTES_SEEN = 64
NO_TRAP = (1 << 64) - 1


def main() -> None:
    """Execute every instruction once."""
    job = json.load(sys.stdin)
    code = Code()
    base = code.add(bytes.fromhex(job["code"]), below_4g=True)
    offsets = job["offsets"]
    for number in SIGNALS:
        code.on_signal(number, base + offsets["on_signal"])
    ffi = code.ffi
    attempt = ffi.cast("void (*)(void *, uint64_t, uint64_t, void *)", base + offsets["attempt"])
    seen = ffi.new("uint64_t[]", BYTES_SEEN // 8)
    for symbol, offset in offsets.items():
        name = symbol.removeprefix("try_")
        if name != symbol:
            attempt(seen, KERNEL_CODE, KERNEL_DATA, ffi.cast("void *", base + offset))
            value, vector = int(seen[0]), int(seen[1])
            print(name, "-" if vector == NO_TRAP else vector, value, flush=True)


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        print("!", "-", error.strerror, flush=True)
