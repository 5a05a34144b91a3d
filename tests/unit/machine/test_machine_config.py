"""A config that cannot be meant is refused with what was expected and what was found."""

from typing import Any

import pytest

from minihv.errors import UsageError
from minihv.machine.config import MachineConfig, parse_size
from minihv.machine.machine import Machine


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("65536", 65536), ("1k", 1024), ("64M", 64 << 20), ("64m", 64 << 20), ("64MB", 64 << 20),
        ("64MiB", 64 << 20), (" 1G ", 1 << 30), ("512B", 512), ("0", 0), ("007", 7),
    ],
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "M", "-1", "+1", "1.5G", "0x10", "1T", "64 M", "1_000", "²", "1K1", "BB", "1BB", "1KK", "9" * 5000],
)
def test_no_sizes(text: str) -> None:
    with pytest.raises(UsageError, match="expected a size such as 64M or 1G, found"):
        parse_size(text)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"engine": "qemu"}, "expected one of auto, kvm"),
    ({"board": "q35"}, "expected one of default, testdev for board, found 'q35'"),
    ({"irqchip": "on"}, "for irqchip, found 'on'"),
    ({"display": "gtk"}, "for display, found 'gtk'"),
    ({"memory": 0}, "expected between 1M and 512G of memory"),
    ({"memory": -(1 << 20)}, "found -1048576 bytes"),
    ({"memory": (1 << 20) + 1}, "in whole 4 KiB pages"),
    ({"memory": (512 << 30) + 4096}, "expected between 1M and 512G"),
    ({"cpus": 0}, "expected 1 to 255 CPUs, found 0"),
    ({"cpus": 256}, "expected 1 to 255 CPUs, found 256"),
    ({"serial": "tcp:1"}, "for the serial port, found 'tcp:1'"),
    ({"serial": "file:"}, "expected a path after file:"),
    ({"timeout": 0}, "time-out above 0"),
    ({"timeout": -1.0}, "time-out above 0"),
    ({"timeout": float("nan")}, "time-out above 0"),
    ({"timeout": float("inf")}, "time-out above 0"),
    ({"max_exits": 0}, "exit budget of 1 or more"),
    ({"load_address": -1}, "for load_address"),
    ({"entry": 1 << 52}, "for entry"),
    ({"cmdline": "a\0b"}, "without NUL"),
    ({"irqchip": "none", "cpus": 2}, "expected one CPU with irqchip none"),
    ({"firmware": "x", "modules": ("y",)}, "a ROM finds its own guest"),
    ({"firmware": "x", "format": "elf64"}, "a ROM finds its own guest"),
]


@pytest.mark.parametrize(("fields", "words"), BAD, ids=lambda v: str(v)[:40])
def test_what_cannot_be_meant(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        MachineConfig(**fields)
    assert words in str(caught.value)
    assert caught.value.exit_status == 2


def test_a_config_is_frozen_and_replaced_with_checks() -> None:
    config = MachineConfig(cpus=2)
    assert config.replace(memory=1 << 20).memory == 1 << 20
    assert config.replace(memory=1 << 20).cpus == 2
    with pytest.raises(UsageError, match="found 0"):
        config.replace(cpus=0)
    with pytest.raises(UsageError, match="memroy"):
        config.replace(memroy=1 << 20)
    with pytest.raises(AttributeError):
        config.cpus = 3  # type: ignore[misc]


def test_the_smallest_and_the_largest_machine() -> None:
    assert MachineConfig(memory=1 << 20, cpus=1).memory == 1 << 20
    assert MachineConfig(memory=512 << 30, cpus=255).cpus == 255


def test_what_is_no_device_is_refused_when_it_is_attached() -> None:
    class Half:
        max_width = 4

        def read(self, offset: int, size: int) -> int:
            return 0

        def write(self, offset: int, size: int, value: int) -> None:
            """Takes everything."""

    half: Any = Half()
    with pytest.raises(UsageError, match="found Half without register, reset, close; add what is missing"):
        Machine().attach(half, port=0x300, name="half")
