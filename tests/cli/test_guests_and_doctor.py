"""`minihv guests`, `minihv doctor`, `--help` and `--version`."""

import json
from importlib.metadata import version

import pytest
from cli_support import Typed

from minihv.machine.images import bundled_guests

# Those that people know by name; more may come.
NAMES = {"hello16", "hello32", "hello64", "add", "echo", "timer", "apic", "fault", "ring3", "smp", "mmio"}
NAMES |= {"strings", "triple", "spin", "primes", "mandelbrot", "multiboot", "pvh"}


def test_guests_lists_what_is_bundled(typed: Typed) -> None:
    done = typed("guests")
    assert (done.status, done.err) == (0, "")
    listed = {line.split(":")[0].split(" ")[0] for line in done.out.splitlines() if line[:1].isalpha()}
    assert listed == {*bundled_guests(), "Run"}
    assert listed >= NAMES
    assert "hello64 (also: hello): says hello in 64-bit mode." in done.out
    for guest in bundled_guests().values():
        assert f": {guest.purpose}\n" in done.out


def test_guests_as_json(typed: Typed) -> None:
    told = json.loads(typed("guests", "--json").out)
    assert set(told["guests"]) == set(bundled_guests())
    assert told["aliases"] == {"hello": "hello64"}
    for row in told["guests"].values():
        assert set(row) == {"file", "purpose", "shows"}
        assert all(row.values())


def test_doctor_in_words(typed: Typed) -> None:
    done = typed("doctor", "--cpuid")
    assert done.err == ""
    heads = [line.split()[0] for line in done.out.splitlines() if not line.startswith(" ")]
    assert heads == ["host", "/dev/kvm", "kind", "engines", "CPUID"]


def test_doctor_as_json(typed: Typed) -> None:
    done = typed("doctor", "--json")
    told = json.loads(done.out)
    assert told["schema"] == "minihv.doctor/1"
    assert set(told) == {"schema", "host", "kvm", "engines"}
    assert set(told["host"]) == {"machine", "cpu", "kernel", "python", "cpus"}
    assert set(told["kvm"]) == {"device", "kind", "words", "capabilities"}
    assert {"kvm", "interpret"} <= set(told["engines"])
    for row in told["engines"].values():
        assert set(row) == {"works", "reason"}
        assert bool(row["reason"]) is not row["works"]
    assert done.status == (0 if any(row["works"] for row in told["engines"].values()) else 240)


@pytest.mark.kvm
def test_doctor_knows_the_capabilities_of_a_kvm_that_works(typed: Typed) -> None:
    told = json.loads(typed("doctor", "--json").out)
    assert told["kvm"]["device"] == "readable and writable"
    assert told["kvm"]["kind"] in ("vt-x", "amd-v", "nested vt-x", "nested amd-v", "pvm", "unknown")
    assert told["kvm"]["capabilities"]["vCPUs a VM (at most)"] >= 1


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help_lists_the_commands(typed: Typed, arguments: tuple[str, ...]) -> None:
    done = typed(*arguments)
    assert (done.status, done.err) == (0, "")
    for command in ("run", "guests", "doctor"):
        assert f"\n  {command} " in done.out


def test_help_of_run_documents_options_and_statuses(typed: Typed) -> None:
    done = typed("run", "--help")
    assert done.status == 0
    for option in (
        "-k, --kernel", "--engine", "--format", "--firmware", "-m, --memory", "-c, --cpus", "-i, --module",
        "-p, --cmdline, --append", "--board", "--irqchip", "--serial", "--display", "--timeout",
        "--max-exits", "--stats", "--stats-json", "--trace",
    ):  # fmt: skip
        assert option in done.out
    for status in (2, 240, 242, 244, 246, 248):
        assert f"\n  {status:5}  " in done.out


def test_version(typed: Typed) -> None:
    assert typed("--version") == (0, f"minihv {version('minihv')}\n", "")
