"""The host's processor, as the kernel describes it."""

from typing import NamedTuple

CPUINFO = "/proc/cpuinfo"


class CpuInfo(NamedTuple):
    """What /proc/cpuinfo says of the first processor."""

    vendor: str
    model: str
    flags: frozenset[str]


def read_cpu(path: str = CPUINFO) -> CpuInfo:
    """Vendor, model name and flags; empty strings where the file does not tell."""
    fields: dict[str, str] = {}
    try:
        with open(path, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if not line.strip():
                    break
                key, _, value = line.partition(":")
                fields[key.strip()] = value.strip()
    except OSError:
        return CpuInfo("", "", frozenset())
    flags = frozenset(fields.get("flags", "").split())
    return CpuInfo(fields.get("vendor_id", ""), fields.get("model name", ""), flags)
