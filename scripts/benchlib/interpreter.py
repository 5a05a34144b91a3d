"""Guest instructions a second of the interpreter, beside Unicorn without hooks (QEMU's translator)."""

import mmap
import time
from collections.abc import Callable
from typing import Any

from benchlib.process import BenchError
from benchlib.result import Claim, Result
from benchlib.sample import Series, interleave, ratio, series

CODE, DATA, STACK, MEMORY = 0x10000, 0x20000, 0x40000, 1 << 20
LOOP = 10**7
"""Iterations of the bare Python loop that tells how fast this host runs Python."""
MIN_MIPS, REFERENCE_SECONDS = 1.0, 0.35
"""At least so much on the integer loop where that bare loop takes so long."""

# 32-bit flat code with ECX = the count; each ends with HLT.
KERNELS: dict[str, tuple[bytes, int]] = {
    # again: add eax, 3; xor ebx, eax; dec ecx; jnz again
    "integer loop": (bytes.fromhex("83c003 31c3 49 75f8 f4"), 1_000_000),
    # again: mov edx, ecx; and edx, 3ffh; mov eax, [esi+edx*4]; inc eax; mov [esi+edx*4], eax; dec ecx
    # jnz again
    "memory loop": (bytes.fromhex("89ca 81e2ff030000 8b0496 40 890496 49 75ee f4"), 300_000),
    # again: call f; dec ecx; jnz again; hlt; f: inc eax; ret
    "calls": (bytes.fromhex("e804000000 49 75f8 f4 40 c3"), 300_000),
    # again: pushfd; cli; mov eax, cr0; mov edx, cr3; sti; popfd; dec ecx; jnz again
    "system": (bytes.fromhex("9c fa 0f20c0 0f20da fb 9d 49 75f3 f4"), 60_000),
}


def measure(rounds: int, explain: bool) -> Result:
    """See --help. There is nothing more to explain."""
    result = Result("interpreter", "instructions a second, beside Unicorn without hooks")
    python = series(
        "python -c 'for i in range(10**7): pass'", "s", interleave(rounds, {"p": _bare})["p"], 1e-9
    )
    result.series.append(python)
    runners: dict[str, Callable[[bytes, int], tuple[int, int]]] = {"minihv": _interpret}
    try:
        import unicorn
    except ImportError:
        result.missing.append("unicorn is not installed (pip install unicorn): no ratio")
    else:
        runners["unicorn"] = lambda code, count: _unicorn(unicorn, code, count)
    for name, (code, count) in KERNELS.items():
        executed, _ = _interpret(code, count)
        taken = interleave(rounds, {who: _timed(run, code, count) for who, run in runners.items()})
        speeds = {who: _mips(f"{name}: {who}", executed, times) for who, times in taken.items()}
        result.series.extend(speeds.values())
        if "unicorn" in speeds:
            result.series.append(ratio(f"{name}: minihv / unicorn", speeds["minihv"], speeds["unicorn"]))
        if name == "integer loop":
            scaled = speeds["minihv"].median * python.median / REFERENCE_SECONDS
            what = f"1 MIPS over the integer loop's, scaled to a host of {REFERENCE_SECONDS} s"
            result.claims.append(Claim(what, 1 / scaled, "of it", 1 / MIN_MIPS))
    return result


def _bare() -> int:
    started = time.perf_counter_ns()
    for _ in range(LOOP):
        pass
    return time.perf_counter_ns() - started


def _timed(run: Callable[[bytes, int], tuple[int, int]], code: bytes, count: int) -> Callable[[], int]:
    return lambda: run(code, count)[1]


def _mips(label: str, instructions: int, times: "list[int]") -> Series:
    return Series(label, "MIPS", tuple(instructions * 1e3 / ns for ns in times))


def _interpret(code: bytes, count: int) -> tuple[int, int]:
    """(instructions, ns) of a fresh interpreter on `code`, decoding included."""
    from minihv.engine.interpret.engine import InterpretEngine
    from minihv.exits import Halt
    from minihv.memory import GuestMemory, Region

    with mmap.mmap(-1, MEMORY) as store:
        memory = GuestMemory([Region(0, MEMORY, memoryview(store), False, "ram")])
        memory.write(CODE, code)
        engine = InterpretEngine(memory)
        vcpu = engine.create_vcpu(0)
        vcpu.set_state(_flat32(count))
        started = time.perf_counter_ns()
        exit = vcpu.run()
        elapsed = time.perf_counter_ns() - started
        executed = vcpu.instructions
        engine.close()
        memory.release()
    if not isinstance(exit, Halt):
        raise BenchError(f"expected the kernel to end in HLT, found {exit}")
    return executed, elapsed


def _flat32(count: int) -> Any:
    from minihv.x86.state import CpuState, Segment

    state = CpuState(rip=CODE, cr0=0x11)
    state.cs = Segment(8, 0, 0xFFFFFFFF, 0xC09B)
    for name in ("ds", "es", "ss", "fs", "gs"):
        setattr(state, name, Segment(16, 0, 0xFFFFFFFF, 0xC093))
    state.gpr[1], state.gpr[4], state.gpr[6] = count, STACK, DATA
    return state


def _unicorn(unicorn: Any, code: bytes, count: int) -> tuple[int, int]:
    """(0, ns) of a fresh Unicorn on `code`, translation included."""
    from unicorn import x86_const as reg

    machine = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_32)
    machine.mem_map(0, MEMORY)
    machine.mem_write(CODE, code)
    for register, value in (
        (reg.UC_X86_REG_ECX, count),
        (reg.UC_X86_REG_ESP, STACK),
        (reg.UC_X86_REG_ESI, DATA),
    ):
        machine.reg_write(register, value)
    started = time.perf_counter_ns()
    machine.emu_start(CODE, CODE + code.index(b"\xf4"))
    elapsed = time.perf_counter_ns() - started
    if machine.reg_read(reg.UC_X86_REG_ECX):
        raise BenchError("expected Unicorn to run the kernel to its end, it stopped before")
    return 0, elapsed
