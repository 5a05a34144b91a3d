"""The lazy disassembler: with iced, without it, and on nonsense."""

import subprocess
import sys

import pytest

from minihv.x86 import disasm


def test_intel_syntax() -> None:
    pytest.importorskip("iced_x86", reason="iced-x86 has no wheel for this host")
    assert disasm.disassemble(bytes.fromhex("0fc7c8 90"), 0, 64).startswith("0f c7 c8")
    assert disasm.disassemble(bytes.fromhex("488b45f8"), 0x1000, 64) == "mov rax, [rbp-8]"
    assert disasm.disassemble(bytes.fromhex("ebfe"), 0x1000, 32) == "jmp short 0x1000"
    assert disasm.length(bytes.fromhex("488b45f890"), 64) == 4
    assert disasm.length(bytes.fromhex("488b"), 64) == 0


def test_bytes_where_iced_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "iced_x86", None)
    assert disasm.disassemble(b"\x90\xf4", 0, 64) == "90 f4"
    assert disasm.length(b"\x90", 64) == 0


def test_nothing_in_nothing_out() -> None:
    assert disasm.disassemble(b"", 0, 64) == ""


def test_import_does_not_load_iced() -> None:
    code = "import sys, minihv.x86.disasm; sys.exit('iced_x86' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
