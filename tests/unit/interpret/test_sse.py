"""Every MMX and SSE encoding against this host's processor, with random operands of all kinds."""

import struct
from random import Random

import pytest
from float_cases import random_mxcsr
from interpreted import CARRIED, Interpreted, encode, forms, random_vector
from native_fpu import NativeFpu, needs_x86_64

from minihv.engine.interpret import (
    sse_control,
    sse_convert,
    sse_float,
    sse_integer,
    sse_moves,
    sse_shuffle,
    sse_strings,
)
from minihv.engine.interpret.table import Table

pytestmark = needs_x86_64
PAGES = (sse_moves, sse_integer, sse_shuffle, sse_float, sse_convert, sse_strings, sse_control)
ESTIMATES = ("RCP", "RSQRT")
"""Processors differ in the low bits of these."""
APART = ("LDMXCSR", "MASKMOV")
"""Need operands of their own: tested below."""


TABLE: Table = {mnemonic: builder for page in PAGES for mnemonic, builder in page.TABLE.items()}
for page in PAGES:
    for mnemonic, codes in getattr(page, "ALSO", {}).items():
        TABLE[mnemonic] = next(iter(codes.values()))
FORMS = [form for form in forms(TABLE) if not form[0].startswith((*ESTIMATES, *APART))]
GROUPS = sorted({name.split("_")[0] for name, _, _ in FORMS})


def randomise(native: NativeFpu, rng: Random) -> None:
    """Any register contents with all SIMD exceptions masked."""
    native.reset()
    native.mxcsr = random_mxcsr(rng) | rng.getrandbits(6)
    native.rflags = 0x202 | rng.getrandbits(12) & 0x8D5
    for n in range(16):
        native.set_xmm(n, random_vector(rng))
    for n in CARRIED:
        small = rng.randrange(20)
        native.set_gpr(
            n, rng.choice((rng.getrandbits(64), small, (1 << 64) - 1 - small, rng.getrandbits(32)))
        )
    native.ftw, native.fsw = rng.getrandbits(8), rng.randrange(8) << 11
    for n in range(8):
        native.set_st(n, 0xFFFF << 64 | random_vector(rng) & (1 << 64) - 1)
    native.set_scratch(random_vector(rng).to_bytes(16, "little") * 2)


def check(name: str, code: int, memory: bool, count: int) -> None:
    native, here, rng = NativeFpu(), Interpreted(TABLE), Random(f"{name} {memory}")
    for _ in range(count):
        randomise(native, rng)
        code_bytes = encode(code, rng, memory)
        here.load(native)
        here.run(code_bytes)
        native.run(code_bytes)
        assert here.differences(native) == [], f"{name}: {code_bytes.hex()}"


@pytest.mark.parametrize("group", GROUPS)
def test_against_the_processor(group: str) -> None:
    for name, code, memory in FORMS:
        if name.split("_")[0] == group:
            check(name, code, memory, 4)


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
def test_against_the_processor_at_length(group: str) -> None:
    for name, code, memory in FORMS:
        if name.split("_")[0] == group:
            check(name, code, memory, 300)


def test_masked_stores_write_only_the_chosen_bytes() -> None:
    native, here, rng = NativeFpu(), Interpreted(TABLE), Random(1)
    for code_bytes in (bytes.fromhex("660ff7ca"), bytes.fromhex("0ff7ca")):  # maskmovdqu, maskmovq
        for _ in range(30):
            randomise(native, rng)
            here.load(native)
            at = rng.randrange(1024, 2000)
            here.cpu.r[7] = here.cpu.r[15] + at
            native.set_gpr(7, native.context_address + at)
            here.run(code_bytes)
            native.run(code_bytes)
            assert [d for d in here.differences(native) if not d.startswith("gpr7")] == []


def test_estimates_are_within_their_error() -> None:
    here, rng = Interpreted(TABLE), Random(2)
    for _ in range(200):
        value = rng.uniform(1e-20, 1e20)
        here.cpu.xmm[1] = int.from_bytes(struct.pack("<4f", value, 1.0, 4.0, 0.25), "little")
        for code_bytes, expected in (
            (bytes.fromhex("0f53c1"), 1 / value),
            (bytes.fromhex("0f52c1"), value**-0.5),
        ):
            here.run(code_bytes)
            lowest = struct.unpack("<4f", here.cpu.xmm[0].to_bytes(16, "little"))[0]
            assert abs(lowest / expected - 1) <= 1.5 * 2**-12


def test_the_list_of_encodings_is_the_whole_one() -> None:
    """A page that lost its table would otherwise pass silently."""
    assert len(GROUPS) >= 246
    assert len(FORMS) >= 690
