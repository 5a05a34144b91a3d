"""Which instructions an engine claims to have: its CPUID, read by a guest, in the decoder's words.

Bits as in SDM Vol. 2A, CPUID, and APM Vol. 3, appendix E; the words are iced-x86's `CpuidFeature` names.
"""

from collections.abc import Mapping

from iced_x86 import Code, CpuidFeature, EncodingKind, Instruction, OpCodeInfo

from minihv.verify import layout as at
from minihv.verify.case import Case, Result
from minihv.verify.session import Session

LEAVES = ((1, 0), (7, 0), (0xD, 1), (0x80000001, 0))
"""(EAX, ECX) of the leaves that list instructions."""

ALWAYS = (
    "INTEL8086", "INTEL186", "INTEL286", "INTEL386", "INTEL486", "CPUID", "MULTIBYTENOP", "PAUSE", "RDPMC",
)  # fmt: skip
"""On every processor with long mode; CPUID has no bit for them."""

BITS: Mapping[str, tuple[int, int, int]] = {
    "FPU": (1, 3, 0), "FPU287": (1, 3, 0), "FPU387": (1, 3, 0), "TSC": (1, 3, 4), "MSR": (1, 3, 5),
    "CX8": (1, 3, 8), "SEP": (1, 3, 11), "CMOV": (1, 3, 15), "CLFSH": (1, 3, 19), "MMX": (1, 3, 23),
    "FXSR": (1, 3, 24), "SSE": (1, 3, 25), "SSE2": (1, 3, 26),
    "SSE3": (1, 2, 0), "PCLMULQDQ": (1, 2, 1), "MONITOR": (1, 2, 3), "SSSE3": (1, 2, 9), "FMA": (1, 2, 12),
    "CMPXCHG16B": (1, 2, 13), "SSE4_1": (1, 2, 19), "SSE4_2": (1, 2, 20), "MOVBE": (1, 2, 22),
    "POPCNT": (1, 2, 23), "AES": (1, 2, 25), "XSAVE": (1, 2, 26), "AVX": (1, 2, 28), "F16C": (1, 2, 29),
    "RDRAND": (1, 2, 30),
    "FSGSBASE": (7, 1, 0), "BMI1": (7, 1, 3), "AVX2": (7, 1, 5), "BMI2": (7, 1, 8), "INVPCID": (7, 1, 10),
    "RDSEED": (7, 1, 18), "ADX": (7, 1, 19), "SMAP": (7, 1, 20), "CLFLUSHOPT": (7, 1, 23),
    "CLWB": (7, 1, 24), "SHA": (7, 1, 29),
    "PKU": (7, 2, 3), "GFNI": (7, 2, 8), "VAES": (7, 2, 9), "RDPID": (7, 2, 22), "SERIALIZE": (7, 3, 14),
    "XSAVEOPT": (0xD, 0, 0), "XSAVEC": (0xD, 0, 1), "XSAVES": (0xD, 0, 3),
    "LZCNT": (0x80000001, 2, 5), "SSE4A": (0x80000001, 2, 6), "PREFETCHW": (0x80000001, 2, 8),
    "SYSCALL": (0x80000001, 3, 11), "RDTSCP": (0x80000001, 3, 27), "X64": (0x80000001, 3, 29),
}  # fmt: skip
"""Feature -> (leaf, register EAX EBX ECX EDX = 0..3, bit)."""


def claimed_features(session: Session) -> frozenset[str]:
    """The features whose CPUID bits a ring-3 program sees on that engine."""
    found: dict[int, tuple[int, ...]] = {}
    for (leaf, subleaf), outcome in zip(LEAVES, session.run([_cpuid(*leaf) for leaf in LEAVES]), strict=True):
        if not isinstance(outcome, Result):
            raise RuntimeError(f"CPUID leaf {leaf:#x}.{subleaf}: {outcome}")
        rax, rcx, rdx, rbx = outcome.gpr[:4]
        found[leaf] = (rax, rbx, rcx, rdx)
    listed = (name for name, (leaf, register, bit) in BITS.items() if found[leaf][register] >> bit & 1)
    return frozenset(ALWAYS).union(listed)


def _cpuid(leaf: int, subleaf: int) -> Case:
    gpr = [0] * 16
    gpr[0], gpr[1] = leaf, subleaf
    fx = bytearray(512)
    fx[24:28] = (0x1F80).to_bytes(4, "little")
    windows = bytes(at.WINDOW0_SIZE + at.WINDOW1_SIZE)
    return Case(b"\x0f\xa2", 64, at.CODE, tuple(gpr), 2, bytes(fx), 0, 0, windows)


def code_names() -> dict[int, str]:
    """iced-x86 code -> its name."""
    return {value: name for name, value in vars(Code).items() if isinstance(value, int)}


_FEATURE_NAMES = {value: name for name, value in vars(CpuidFeature).items() if isinstance(value, int)}


def features_of(code: int) -> frozenset[str]:
    """What CPUID must have for it."""
    insn = Instruction()
    insn.code = code  # type: ignore[assignment]
    return frozenset(_FEATURE_NAMES[feature] for feature in insn.cpuid_features())


def claimed_codes(features: frozenset[str]) -> list[int]:
    """All of the decoder's codes that those features bring.

    Left out: pseudo instructions with a FWAIT in front, which are two; and codes that the decoder gives only
    when it is told to decode for a processor of the past.
    """
    found = []
    for code in code_names():
        info = OpCodeInfo(code)  # type: ignore[arg-type]
        if (
            info.is_instruction
            and info.encoding in (EncodingKind.LEGACY, EncodingKind.VEX)
            and not info.fwait
            and not info.decoder_option
            and features_of(code) <= features
        ):
            found.append(code)
    return found
