"""Both assemblers give the same bytes, and say what they did not understand."""

import pytest

from minihv.testing import assemble as module
from minihv.testing.assemble import AssemblyError, NoAssembler, Program, assemble

TEXT = "mov al, 1; l: out 0xf8, al; jmp l"
CODE = bytes.fromhex("b001e6f8ebfc")


@pytest.fixture(params=["keystone", "gnu"])
def assembler(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "gnu":
        monkeypatch.setattr(module, "_keystone", lambda: None)
        if module._missing_tools():
            pytest.skip(f"GNU binutils: no {', '.join(module._missing_tools())} here")
    elif module._keystone() is None:
        pytest.skip("keystone is not installed here")
    return str(request.param)


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_the_same_bytes(assembler: str, bits: int) -> None:
    program = assemble(TEXT, bits)
    assert program == CODE, assembler
    assert program.config == {"format": f"flat{bits}", "load_address": 0x7C00 if bits == 16 else 0x100000}


def test_addresses_follow_the_origin(assembler: str) -> None:
    assert assemble("l: mov eax, offset l" if assembler == "gnu" else "l: mov eax, l", 32, 0x8000) == (
        bytes.fromhex("b800800000")
    )


def test_nonsense_is_refused(assembler: str) -> None:
    with pytest.raises(AssemblyError, match="frobnicate"):
        assemble("frobnicate eax")


def test_other_modes_are_refused() -> None:
    with pytest.raises(AssemblyError, match="expected 16, 32 or 64 bits, found 8"):
        assemble("nop", 8)


def test_no_assembler_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_keystone", lambda: None)
    monkeypatch.setattr(module, "_missing_tools", lambda: ["as", "ld"])
    with pytest.raises(NoAssembler, match="nor are as, ld; pip install"):
        assemble("nop")


def test_a_program_is_bytes() -> None:
    program = Program(b"\x90", 64, 0x100000)
    assert program == b"\x90"
    assert isinstance(program, bytes)
