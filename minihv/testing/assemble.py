"""Assembler text -> a flat guest, by keystone where it is installed, else by GNU as."""

import os
import shutil
import subprocess
import tempfile
import warnings
from typing import Any

from minihv.errors import MinihvError

ORIGINS = {16: 0x7C00, 32: 0x100000, 64: 0x100000}
"""Where flat images of each mode are loaded and entered (`minihv.boot.flat`)."""
TOOLS = ("as", "ld")
HOW = "pip install 'minihv[asm]' (keystone), or install GNU binutils (Debian, Ubuntu: apt install binutils)"


class NoAssembler(MinihvError):
    """Neither keystone nor GNU as and ld are here; the message says how to get one."""


class AssemblyError(MinihvError):
    """The assembler refused the text; the message is its own."""


class Program(bytes):
    """Machine code that knows its mode: `bits` is 16, 32 or 64, `origin` the GPA where it is loaded."""

    bits: int
    origin: int

    def __new__(cls, code: bytes, bits: int, origin: int) -> "Program":
        self = super().__new__(cls, code)
        self.bits = bits
        self.origin = origin
        return self

    @property
    def config(self) -> dict[str, Any]:
        """Fields of MachineConfig with which it runs as it was assembled."""
        return {"format": f"flat{self.bits}", "load_address": self.origin}


def why_no_assembler() -> str | None:
    """Why `assemble` cannot work here and how to mend that; None where it can."""
    if _keystone() is not None or not _missing_tools():
        return None
    return f"no assembler: keystone is not installed, nor are {', '.join(_missing_tools())}; {HOW}"


def assemble(text: str, bits: int = 64, origin: int | None = None) -> Program:
    """Intel syntax, one instruction a line (or separated by `;`). Raises NoAssembler, AssemblyError."""
    if bits not in ORIGINS:
        raise AssemblyError(f"expected 16, 32 or 64 bits, found {bits}")
    where = ORIGINS[bits] if origin is None else origin
    keystone = _keystone()
    if keystone is not None:
        return Program(_by_keystone(keystone, text, bits, where), bits, where)
    if reason := why_no_assembler():
        raise NoAssembler(reason)
    return Program(_by_gnu(text, bits, where), bits, where)


def _keystone() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports pkg_resources, which warns; a test run may forbid that
        try:
            import keystone
        except ImportError:  # optional by design: GNU as is asked next
            return None
    return keystone


def _missing_tools() -> list[str]:
    return [tool for tool in TOOLS if shutil.which(tool) is None]


def _by_keystone(keystone: Any, text: str, bits: int, origin: int) -> bytes:
    mode = {16: keystone.KS_MODE_16, 32: keystone.KS_MODE_32, 64: keystone.KS_MODE_64}[bits]
    try:
        code, _ = keystone.Ks(keystone.KS_ARCH_X86, mode).asm(text, addr=origin, as_bytes=True)
    except keystone.KsError as error:
        count = error.get_asm_count()
        raise AssemblyError(f"keystone refused statement {(count or 0) + 1} of {text!r}: {error}") from error
    return bytes(code or b"")


def _by_gnu(text: str, bits: int, origin: int) -> bytes:
    """GNU as and ld: `;` separates statements there, too, and `#` begins a comment."""
    source = f".intel_syntax noprefix\n.code{bits}\n.globl _start\n_start:\n{text}\n"
    with tempfile.TemporaryDirectory(prefix="minihv-asm-") as folder:
        obj, out = os.path.join(folder, "code.o"), os.path.join(folder, "code.bin")
        _tool(["as", "--64", "-o", obj, "-"], source, text)
        _tool(
            ["ld", "-m", "elf_x86_64", "--oformat", "binary", f"-Ttext={origin:#x}", "-o", out, obj], "", text
        )
        with open(out, "rb") as file:
            return file.read()


def _tool(command: list[str], stdin: str, text: str) -> None:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True)
    if done.returncode:
        raise AssemblyError(f"{command[0]} refused {text!r}: {' '.join(done.stderr.split())}")
