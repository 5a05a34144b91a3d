"""The one place that knows where decoded instructions come from: iced-x86.

Other modules of the interpreter import the names below from here. Importing this module raises
`EngineUnavailable` where iced-x86 is not installed (it has no wheels for hosts other than x86-64).
"""

import platform

from minihv.errors import EngineUnavailable

try:
    from iced_x86 import (
        Code,
        Decoder,
        DecoderError,
        DecoderOptions,
        Encoder,
        Instruction,
        MemorySizeInfo,
        Mnemonic,
        OpKind,
        Register,
    )
except ImportError as error:  # pragma: no cover - not on hosts that run the tests
    raise EngineUnavailable(
        "the interpret engine decodes with iced-x86, which is not installed on this "
        f"{platform.machine()} host: pip install iced-x86 (wheels exist for x86-64 hosts only), "
        "or use --engine kvm"
    ) from error

__all__ = [
    "MAX_LENGTH", "Code", "Decoder", "DecoderError", "DecoderOptions", "Instruction", "MemorySizeInfo",
    "Mnemonic", "OpKind", "Register", "decoder", "encode", "general_register", "memory_bytes", "wide_far",
]  # fmt: skip

MAX_LENGTH = 15
"""Bytes of the longest instruction; a longer one is #GP (SDM Vol. 2A, 2.3.11)."""

_AL, _SPL, _R8L, _AX, _EAX, _RAX = (
    Register.AL, Register.SPL, Register.R8L, Register.AX, Register.EAX, Register.RAX,
)  # fmt: skip


def decoder(bits: int, code: bytes, ip: int, amd: bool) -> Decoder:
    """A decoder of `code`, which starts at offset `ip`, in `bits`-bit mode."""
    return Decoder(bits, code, DecoderOptions.AMD if amd else DecoderOptions.NONE, ip=ip)


_FAR_32 = frozenset((Code.JMP_M1632, Code.CALL_M1632))


def wide_far(insn: Instruction, bits: int, code: bytes) -> Instruction:
    """`insn`, decoded as AMD does from `code`, with the 64-bit offset that REX.W gives a far JMP or CALL.

    What it means where the vendor is AMD: see `far`.
    """
    if bits != 64 or insn.code not in _FAR_32:
        return insn
    return Decoder(64, code, DecoderOptions.NONE, ip=insn.ip).decode()


def encode(insn: Instruction, bits: int, ip: int) -> bytes:
    """The bytes of a decoded instruction again, redundant prefixes left out; for what is rarely asked."""
    encoder = Encoder(bits)
    encoder.encode(insn, ip)
    return encoder.take_buffer()


def _general() -> dict[int, tuple[int, int, bool]]:
    table = {}
    for n in range(4):
        table[_AL + n] = (n, 1, False)
        table[Register.AH + n] = (n, 1, True)
    for n in range(4):
        table[_SPL + n] = (4 + n, 1, False)
    for n in range(8):
        table[_R8L + n] = (8 + n, 1, False)
    for n in range(16):
        table[_AX + n] = (n, 2, False)
        table[_EAX + n] = (n, 4, False)
        table[_RAX + n] = (n, 8, False)
    return table


general_register = _general()
"""iced register -> (number in encoding order, bytes, whether it is AH..BH)."""

_SIZES: dict[int, int] = {}


def memory_bytes(memory_size: int) -> int:
    """Bytes of an iced `MemorySize`."""
    size = _SIZES.get(memory_size)
    if size is None:
        size = _SIZES[memory_size] = MemorySizeInfo(memory_size).size  # type: ignore[arg-type]
    return size
