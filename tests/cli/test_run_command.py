"""`minihv run`: options, statuses, statistics, traces, displays; what a guest prints and how it ends."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_support import (
    BUDGET_SPENT,
    CRASHED,
    TIMED_OUT,
    VMM_STOPPED,
    Done,
    Typed,
    flat_guest,
    out_byte,
)

HELLO = "Hello from long mode!\n"
EXIT_8 = out_byte(0xF8, 0)


@pytest.mark.parametrize("guest", [("hello",), ("hello64",), ("-k", "hello"), ("--kernel", "hello64")])
def test_a_bundled_guest(typed: Typed, guest: tuple[str, ...], engine: str) -> None:
    assert typed("run", *guest, "--engine", engine) == (0, HELLO, "")


def test_a_guest_by_path(typed: Typed, engine: str) -> None:
    from minihv.machine.images import IMAGES

    assert typed("run", Path(IMAGES) / "hello64.elf", "--engine", engine) == (0, HELLO, "")


def test_auto_finds_an_engine(typed: Typed) -> None:
    assert typed("run", "hello").out == HELLO


def test_the_console_script(script: Callable[..., Done], engine: str) -> None:
    assert script("run", "hello", "--engine", engine) == (0, HELLO, "")


@pytest.mark.parametrize(
    ("port", "value", "status"),
    [(0xF4, 0, 1), (0xF4, 5, 11), (0xF4, 0xFF, 255), (0xF8, 0, 0), (0xF8, 7, 7), (0xF8, 0xFF, 127)],
)
def test_the_guests_status_is_the_commands(
    typed: Typed, tmp_path: Path, engine: str, port: int, value: int, status: int
) -> None:
    done = typed(*flat_guest(tmp_path, out_byte(port, value)), "--engine", engine)
    assert done == (status, "", "")


def test_hlt_for_ever_ends(typed: Typed, tmp_path: Path, engine: str) -> None:
    assert typed(*flat_guest(tmp_path, b"\xfa\xf4"), "--engine", engine, "--timeout", "30") == (0, "", "")


def test_timeout(typed: Typed, engine: str) -> None:
    done = typed("run", "spin", "--timeout", "0.05", "--engine", engine)
    assert done == (TIMED_OUT, "", "minihv: spin: the time given by --timeout is over (status 244)\n")


def test_max_exits(typed: Typed, engine: str) -> None:
    done = typed("run", "hello", "--max-exits", "5", "--engine", engine)
    assert done == (
        BUDGET_SPENT,
        "Hello",
        "minihv: hello: the exits given by --max-exits are used up (status 246)\n",
    )


@pytest.mark.kvm
def test_a_triple_fault_has_a_status_and_an_autopsy(typed: Typed) -> None:
    done = typed("run", "triple", "--engine", "kvm")
    assert done.status == CRASHED
    first, rest = done.err.split("\n", 1)
    assert first == "minihv: triple: the guest crashed: triple fault (status 242)"
    for words in ("Last exits", "RIP 000000000010001c <crash>", "IDTR", "ud2", "#UD (invalid opcode): no"):
        assert words in rest


@pytest.mark.parametrize("option", ["-p", "--cmdline", "--append"])
def test_command_line_and_modules_reach_the_guest(
    typed: Typed, tmp_path: Path, engine: str, option: str
) -> None:
    (tmp_path / "first").write_bytes(b"contents of a module")
    done = typed("run", "multiboot", option, "one two", "-i", tmp_path / "first", "--engine", engine)
    assert done.status == 0
    assert "multiboot.elf one two" in done.out
    assert str(tmp_path / "first") in done.out


def test_input_from_a_pipe_reaches_the_guest(script: Callable[..., Done], engine: str) -> None:
    done = script("run", "echo", "--engine", engine, input="first line\nsecond\nquit\n")
    assert done.status == 0
    assert "first line" in done.out
    assert "second" in done.out


# Where the console goes


def test_serial_to_a_file(typed: Typed, tmp_path: Path, engine: str) -> None:
    log = tmp_path / "log"
    assert typed("run", "hello", "--serial", f"file:{log}", "--engine", engine) == (0, "", "")
    assert log.read_text() == HELLO


def test_serial_to_nobody(typed: Typed, engine: str) -> None:
    assert typed("run", "hello", "--serial", "null", "--engine", engine) == (0, "", "")


@pytest.mark.parametrize("where", ["buffer", "stdio"])
def test_serial_to_standard_output(typed: Typed, engine: str, where: str) -> None:
    assert typed("run", "hello", "--serial", where, "--engine", engine) == (0, HELLO, "")


@pytest.mark.parametrize("display", ["text", "live"])
def test_the_text_screen_is_shown_at_the_end(typed: Typed, engine: str, display: str) -> None:
    """Live means live on a terminal only."""
    done = typed("run", "mmio", "--display", display, "--serial", "null", "--engine", engine)
    assert done.status == 0
    assert done.out.startswith("minihv")
    assert done.out.count("\n") < 25


# Statistics


def test_stats_table(typed: Typed, engine: str) -> None:
    done = typed("run", "hello", "--stats", "--engine", engine)
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith(HELLO)
    lines = done.out.splitlines()
    head = next(line for line in lines if "VM-EXIT" in line)
    assert head.split() == (
        ["VM-EXIT", "Samples", "Samples%", "Time%", "Min", "Time", "Max", "Time", "Avg", "time", "p50", "p99"]
    )
    row = lines[lines.index(head) + 1].split()
    assert row[:3] == ["IO", "23", "100.00%"]
    assert len(row) == 9
    assert any(line.startswith("Total Samples:23, Total events handled time:") for line in lines)
    assert any(line.endswith("out 0x3f8 byte serial.THR") and line.split()[1] == "22" for line in lines)
    assert f"hello on {engine}: exit, status 0" in done.out


def test_stats_json(typed: Typed, tmp_path: Path, engine: str) -> None:
    path = tmp_path / "report.json"
    assert typed("run", "hello", "--stats-json", path, "--engine", engine) == (0, HELLO, "")
    told = json.loads(path.read_text())
    assert told["schema"] == "minihv.report/1"
    assert {"engine", "host", "guest", "outcome", "wall_ns", "vcpus", "exits", "kernel_counters"} <= set(told)
    assert told["engine"] == engine
    assert {"kvm", "cpu", "kernel", "python"} <= set(told["host"])
    assert told["guest"]["name"] == "hello"
    assert told["outcome"] == {"reason": "exit", "status": 0, "detail": ""}
    assert told["wall_ns"] > 0
    [vcpu] = told["vcpus"]
    assert vcpu["index"] == 0
    assert vcpu["exits"] == 23
    assert vcpu["guest_ns"] > 0
    assert [(e["name"], e["detail"], e["count"]) for e in told["exits"]] == [
        ("io", "out 0x3f8 byte serial.THR", 22),
        ("io", "out 0xf8 byte plainexit.STATUS", 1),
    ]
    for row in told["exits"]:
        time = row["time_ns"]
        assert {"sum", "min", "max", "p50", "p99"} <= set(time)
        assert 0 < time["min"] <= time["p50"] <= time["p99"] <= time["max"] <= time["sum"]
        assert sum(site["count"] for site in row["sites"]) == row["count"]
        assert {"address", "symbol", "count", "sum_ns"} <= set(row["sites"][0])
    assert told["exits"][0]["sites"][0]["symbol"].startswith("print")


@pytest.mark.kvm
def test_stats_json_under_kvm_names_the_kind_and_the_kernels_counters(typed: Typed, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    typed("run", "hello", "--stats-json", path, "--engine", "kvm")
    told = json.loads(path.read_text())
    assert told["host"]["kvm"]
    assert told["kernel_counters"].get("exits", 23) >= 23


def test_stats_json_on_standard_output(typed: Typed, engine: str) -> None:
    done = typed("run", "hello", "--serial", "null", "--stats-json", "-", "--engine", engine)
    assert json.loads(done.out)["outcome"]["status"] == 0


def test_stats_of_a_run_that_did_not_end_well(typed: Typed, tmp_path: Path, engine: str) -> None:
    path = tmp_path / "report.json"
    done = typed("run", "spin", "--timeout", "0.05", "--stats-json", path, "--stats", "--engine", engine)
    assert done.status == TIMED_OUT
    assert json.loads(path.read_text())["outcome"]["reason"] == "timeout"
    assert "timeout, status 244" in done.out


def test_trace_is_one_line_of_json_an_exit(typed: Typed, tmp_path: Path, engine: str) -> None:
    path = tmp_path / "trace"
    assert typed("run", "hello", "--trace", path, "--engine", engine) == (0, HELLO, "")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == 23
    assert bytes.fromhex("".join(line["data"] for line in lines[:22])).decode() == HELLO
    assert {line["exit"] for line in lines} == {"io"}
    assert lines[0]["port"] == 0x3F8
    assert lines[-1]["port"] == 0xF8


@pytest.mark.parametrize("guest", ["mmio", "strings"])
def test_trace_of_other_exits(typed: Typed, tmp_path: Path, engine: str, guest: str) -> None:
    path, report = tmp_path / "trace", tmp_path / "report"
    typed("run", guest, "--trace", path, "--stats-json", report, "--engine", engine)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == sum(v["exits"] for v in json.loads(report.read_text())["vcpus"])


def test_a_trace_that_cannot_be_written_ends_the_run(typed: Typed, engine: str) -> None:
    done = typed("run", "mandelbrot", "--trace", "/dev/full", "--serial", "null", "--engine", engine)
    assert (
        done.err
        == "minihv: /dev/full: cannot be written: No space left on device; choose another trace file\n"
    )
    assert done.status == 240


def test_a_report_that_cannot_be_written(typed: Typed, engine: str) -> None:
    done = typed("run", "hello", "--stats-json", "/dev/full", "--engine", engine)
    assert done.err == "minihv: /dev/full: cannot be written: No space left on device; choose another file\n"
    assert done.status == 240


def test_a_console_that_cannot_be_written(typed: Typed, engine: str) -> None:
    done = typed("run", "hello", "--serial", "file:/dev/full", "--engine", engine)
    assert done.err == (
        "minihv: hello: the console takes no more output: No space left on device (status 248)\n"
    )
    assert done.status == VMM_STOPPED


# Machines of other shapes


@pytest.mark.parametrize("size", ["2M", "2MiB", "2097152", "1g"])
def test_sizes(typed: Typed, engine: str, size: str) -> None:
    assert typed("run", "hello", "-m", size, "--engine", engine) == (0, HELLO, "")


@pytest.mark.kvm
@pytest.mark.parametrize("cpus", ["1", "2", "4"])
def test_cpus(typed: Typed, cpus: str) -> None:
    done = typed("run", "smp", "-c", cpus, "--engine", "kvm")
    assert done.status == 0
    assert done.out.endswith(f"CPUs online: {cpus}\n")


@pytest.mark.kvm
@pytest.mark.parametrize("irqchip", ["kernel", "split", "none"])
def test_irqchips(typed: Typed, irqchip: str) -> None:
    assert typed("run", "hello", "--irqchip", irqchip, "--engine", "kvm") == (0, HELLO, "")


def test_board_testdev(typed: Typed, tmp_path: Path, engine: str) -> None:
    """A latch at 0xe0 gives back what was written: the guest ends with it as its status."""
    code = out_byte(0xE0, 42) + b"\xec" + b"\x66\xba\xf8\x00\xee"
    guest = flat_guest(tmp_path, code)
    assert typed(*guest, "--board", "testdev", "--engine", engine).status == 42
    assert typed(*guest, "--board", "default", "--engine", engine).status == 127  # nobody there: all ones


def test_firmware(typed: Typed, tmp_path: Path, engine: str) -> None:
    """The reset vector is 16 bytes below the ROM's end: mov al, 9; out 0xf8, al."""
    rom = tmp_path / "rom"
    rom.write_bytes((b"\xb0\x09\xe6\xf8" + b"\xf4" * 12).rjust(64 << 10, b"\xf4"))
    assert typed("run", "--firmware", rom, "--engine", engine) == (9, "", "")


def test_flat_images_where_the_user_says(typed: Typed, tmp_path: Path, engine: str) -> None:
    code = b"\xf4" * 16 + out_byte(0xF8, 3)
    guest = flat_guest(tmp_path, code)
    done = typed(*guest, "--load-address", "0x200000", "--entry", "0x200010", "--engine", engine)
    assert done == (3, "", "")
