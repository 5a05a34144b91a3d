"""One instruction in words (Intel syntax), for reports. iced-x86 is imported only when asked for."""

from typing import Any


def disassemble(code: bytes, address: int, bits: int) -> str:
    """The instruction at the start of `code`, which lies at linear `address`.

    `bits`: 16, 32 or 64. Where iced-x86 is not installed (it has no wheel for every host), or the bytes
    are no instruction, the bytes in hexadecimal.
    """
    iced = _iced()
    if iced is None or not code:
        return _hex(code)
    instruction = iced.Decoder(bits, code, ip=address).decode()
    if instruction.is_invalid:
        return f"{_hex(code)} (no valid instruction)"
    formatter = iced.Formatter(iced.FormatterSyntax.INTEL)
    formatter.hex_prefix = "0x"
    formatter.hex_suffix = ""
    formatter.uppercase_hex = False
    formatter.space_after_operand_separator = True
    formatter.branch_leading_zeros = False
    return str(formatter.format(instruction))


def length(code: bytes, bits: int) -> int:
    """Bytes of the first instruction in `code`; 0 where it is invalid, cut off, or iced is absent."""
    iced = _iced()
    if iced is None or not code:
        return 0
    instruction = iced.Decoder(bits, code).decode()
    return 0 if instruction.is_invalid else int(instruction.len)


def stores(code: bytes, bits: int) -> bool:
    """The first instruction in `code` writes memory; False where that cannot be told."""
    iced = _iced()
    if iced is None or not code:
        return False
    access = iced.OpAccess
    writing = (access.WRITE, access.COND_WRITE, access.READ_WRITE, access.READ_COND_WRITE)
    info = iced.InstructionInfoFactory().info(iced.Decoder(bits, code).decode())
    return any(memory.access in writing for memory in info.used_memory())


def _iced() -> Any:
    try:
        import iced_x86
    except ImportError:  # optional by design: callers get bytes instead of mnemonics
        return None
    return iced_x86


def _hex(code: bytes) -> str:
    return code[:15].hex(" ")
