"""`minihv run` with recorders, budgets and statistics on file; `minihv stats`."""

import json
import re
import shlex
import socket
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_support import CANNOT_START, USAGE, Done, Typed, assert_one_sentence, flat_guest, out_byte
from support import held

OVER_BUDGET = 250
HELLO_EXITS = 23
"""22 bytes to the serial port and one to the exit port."""


def record(typed: Typed, folder: Path, engine: str, guest: str = "hello", name: str = "run.json") -> Any:
    done = typed("run", guest, "--engine", engine, "--serial", "null", "--stats-json", folder / name)
    assert done == (0, "", "")
    return json.loads((folder / name).read_text())


def test_a_recorded_run_tells_its_command_and_its_timeline(typed: Typed, tmp_path: Path, engine: str) -> None:
    found = record(typed, tmp_path, engine)
    assert shlex.split(found["command"]) == [
        "minihv", "run", "hello", "--engine", engine, "--serial", "null", "--stats-json",
        str(tmp_path / "run.json"),
    ]  # fmt: skip
    line = found["timeline"]
    assert sum(line["exits"]["io"]) == HELLO_EXITS
    assert len(line["exits"]["io"]) <= 200
    assert line["bucket_ns"] * len(line["exits"]["io"]) >= found["wall_ns"], "to the end, silence included"
    again = typed(*shlex.split(found["command"])[1:])
    assert again == (0, "", ""), "the command gives a report again"


def test_the_command_survives_a_shell(typed: Typed, tmp_path: Path, engine: str) -> None:
    args = ["run", "pvh", "--engine", engine, "--serial", "null", "-p", "a 'b' $c\n", "--stats-json"]
    assert typed(*args, tmp_path / "r.json").status == 0
    found = json.loads((tmp_path / "r.json").read_text())
    assert shlex.split(found["command"]) == ["minihv", *args, str(tmp_path / "r.json")]
    assert found["guest"]["cmdline"] == "a 'b' $c\n"


def test_stats_prints_the_table_again(typed: Typed, tmp_path: Path, engine: str) -> None:
    done = typed(
        "run", "hello", "--engine", engine, "--serial", "null", "--stats", "--stats-json", tmp_path / "r.json"
    )
    assert typed("stats", tmp_path / "r.json") == (0, done.out.removeprefix("\n"), "")


def test_stats_of_two_runs_says_what_changed(typed: Typed, tmp_path: Path, engine: str) -> None:
    record(typed, tmp_path, engine, "hello", "a.json")
    record(typed, tmp_path, engine, "add", "b.json")
    done = typed("stats", tmp_path / "a.json", tmp_path / "b.json")
    assert done.status == 0
    assert "A: " in done.out
    assert "Not the same: guest name: hello in A, add in B." in done.out
    assert re.search(r"^ +23 +\d+ +[-+]\d+ .*  IO$", done.out, re.M)
    assert done.out.splitlines()[-1].startswith("B has ")
    same = typed("stats", tmp_path / "a.json", tmp_path / "a.json")
    assert same.out.endswith("The same exits: 23 in both runs.\n")


@pytest.mark.parametrize("names", [[], ["a", "b", "c"]])
def test_stats_wants_one_or_two_files(typed: Typed, names: list[str]) -> None:
    assert_one_sentence(typed("stats", *names), USAGE, ("one or two files", f"found {len(names)}"))


# Files


def test_a_timeline_file(typed: Typed, tmp_path: Path, engine: str) -> None:
    done = typed(
        "run", "smp", "-c", "2", "--engine", engine, "--serial", "null", "--timeline", tmp_path / "t.json"
    )
    assert done == (0, "", "")
    trace = json.loads((tmp_path / "t.json").read_text())
    assert trace["otherData"]["engine"] == engine
    assert trace["otherData"]["exits_dropped"] == 0
    events = trace["traceEvents"]
    tracks = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert {"vCPU 0", "vCPU 1", "serial", "fwcfg", "plainexit"} <= set(tracks.values())
    slices = [e for e in events if e["ph"] == "X"]
    assert sum(e.get("cat") == "exit" for e in slices) == trace["otherData"]["exits"]
    assert sum(e.get("cat") == "guest" for e in slices) > 10
    assert any(e["args"]["at"].startswith("putc") for e in slices if e.get("cat") == "exit")
    assert any(e["ph"] == "C" and e["args"].get("io") for e in events)
    for track in tracks:  # what is on one track does not overlap
        free = 0.0
        for e in sorted((e for e in slices if (e["pid"], e["tid"]) == track), key=lambda e: e["ts"]):
            assert e["ts"] >= free - 1e-6
            free = e["ts"] + e["dur"]


def test_folded_stacks(typed: Typed, tmp_path: Path, engine: str) -> None:
    done = typed("run", "hello", "--engine", engine, "--serial", "null", "--folded", tmp_path / "f.txt")
    assert done == (0, "", "")
    assert (tmp_path / "f.txt").read_text() == "done;io out;plainexit.STATUS 1\nprint;io out;serial.THR 22\n"
    piped = typed("run", "hello", "--engine", engine, "--serial", "null", "--folded", "-")
    assert piped.out == (tmp_path / "f.txt").read_text()


def test_metrics_in_a_file(typed: Typed, tmp_path: Path, engine: str) -> None:
    parser = pytest.importorskip("prometheus_client.parser", reason="prometheus-client is not installed")
    done = typed("run", "hello", "--engine", engine, "--serial", "null", "--metrics", tmp_path / "m.txt")
    assert done == (0, "", "")
    families = {f.name: f for f in parser.text_string_to_metric_families((tmp_path / "m.txt").read_text())}
    [exits] = families["minihv_exits"].samples
    assert (exits.labels, exits.value) == ({"vcpu": "0", "reason": "io"}, HELLO_EXITS)
    assert families["minihv_info"].samples[0].labels["engine"] == engine
    assert families["minihv_guest_seconds"].samples[0].value > 0


def test_metrics_while_the_guest_runs(typed: Typed, tmp_path: Path, engine: str) -> None:
    """A guest that prints for ever is asked twice; its counters grow, and the port is free at the end."""
    parser = pytest.importorskip("prometheus_client.parser", reason="prometheus-client is not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    before = held()
    found: list[float] = []

    def ask() -> None:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        waited = threading.Event()
        for _ in range(1000):
            try:
                with opener.open(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                    text = answer.read().decode()
            except OSError:  # not yet
                waited.wait(0.005)
                continue
            families = {f.name: f for f in parser.text_string_to_metric_families(text)}
            total = sum(s.value for s in families["minihv_exits"].samples)
            if total and total not in found:
                found.append(total)
            if len(found) > 1:
                return

    client = threading.Thread(target=ask)
    client.start()
    loop = flat_guest(tmp_path, b"\x66\xba\xe9\x00\xee\xeb\xfd")  # mov dx, 0xe9; out dx, al; jmp to the out
    args = ["--engine", engine, "--serial", "null", "--metrics", str(port), "--timeout", "1"]
    assert typed(*loop, *args).status == 244
    client.join(20)
    assert held() == before
    assert len(found) == 2
    assert found[0] < found[1]
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=5)


@pytest.mark.parametrize("option", ["--timeline", "--folded", "--metrics", "--stats-json", "--trace"])
def test_a_file_that_cannot_be_written_costs_no_run(
    typed: Typed, tmp_path: Path, engine: str, option: str
) -> None:
    place = tmp_path / "no" / "such"
    done = typed("run", "hello", "--engine", engine, option, place)
    assert_one_sentence(done, CANNOT_START, (str(place), "cannot be written"))


def test_a_port_that_is_taken_is_told(typed: Typed, engine: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = typed("run", "hello", "--engine", engine, "--metrics", port)
    assert_one_sentence(done, CANNOT_START, (f"port {port} of 127.0.0.1", "choose another"))


def test_all_recorders_together(typed: Typed, tmp_path: Path, engine: str) -> None:
    before = held()
    files = {name: tmp_path / name for name in ("trace", "timeline", "metrics", "folded", "stats-json")}
    options = [word for name, file in files.items() for word in (f"--{name}", str(file))]
    done = typed("run", "hello", "--engine", engine, "--serial", "null", "--kernel-exits", *options)
    assert held() == before
    assert done.status == 0
    assert done.err == ""
    assert "The kernel's own exits" in done.out
    assert len(files["trace"].read_text().splitlines()) == HELLO_EXITS
    assert json.loads(files["stats-json"].read_text())["kernel_exits"] is not None


# The kernel's own exits


def test_where_there_is_no_kernel_to_ask_it_is_said(typed: Typed) -> None:
    done = typed("run", "hello", "--engine", "interpret", "--serial", "null", "--kernel-exits")
    assert done.status == 0
    assert "the interpret engine asks no kernel; run with --engine kvm" in done.out


# Budgets


def test_a_budget_that_holds_says_nothing(typed: Typed, engine: str) -> None:
    done = typed("run", "hello", "--engine", engine, "--serial", "null", "--budget", "io=23,mmio=0,max=5s")
    assert done == (0, "", "")


def test_a_broken_budget_fails_the_command_and_names_the_place(typed: Typed, engine: str) -> None:
    done = typed("run", "hello", "--engine", engine, "--serial", "null", "--budget", "io=5,exits=100,hlt=0")
    assert done.status == OVER_BUDGET
    assert re.fullmatch(
        r"minihv: budget io=5 is broken: 23 io exits; hottest: io out 0x3f8 byte serial\.THR at print\+0x5: "
        r"22, io out 0xf8 byte plainexit\.STATUS at done\+0x2: 1\n",
        done.err,
    )
    assert done.out == ""


def test_the_guests_own_failure_wins_over_a_budget(typed: Typed, tmp_path: Path, engine: str) -> None:
    guest = flat_guest(tmp_path, out_byte(0xF8, 7))
    done = typed(*guest, "--engine", engine, "--budget", "io=0")
    assert done.status == 7
    assert "budget io=0 is broken: 1 io exits" in done.err


@pytest.mark.parametrize("limits", ["", "io", "ios=3", "p99=50", "wall=1"])
def test_a_budget_that_cannot_be_meant_costs_no_run(typed: Typed, engine: str, limits: str) -> None:
    done = typed("run", "hello", "--engine", engine, "--budget", limits)
    assert_one_sentence(done, USAGE, ("expected", "found"))


def test_the_help_tells_the_status_of_a_broken_budget(typed: Typed) -> None:
    assert re.search(r"^ +250 +.*--budget is broken$", typed("run", "--help").out, re.M)


# What a guest or a file is called


def test_a_hostile_file_name_reaches_no_terminal(typed: Typed, tmp_path: Path, engine: str) -> None:
    name = "a\x1b[31m\u202eb.bin"
    guest = flat_guest(tmp_path, out_byte(0xF4, 1), name)
    done = typed(*guest, "--engine", engine, "--stats", "--timeout", "20")
    assert done.status == 3
    shown = (done.out + done.err).replace("\n", "")
    assert shown.isprintable()
    assert "a\\x1b[31m\\u202eb.bin" in shown
    missing = typed("run", str(tmp_path / "no\x1b]0;x\x07.elf"))
    assert missing.err.count("\n") == 1
    assert missing.err.rstrip("\n").isprintable()


def test_a_plain_start_imports_none_of_it(script: Callable[..., Done]) -> None:
    """What only recorders and reports need must not cost a run without them."""
    import subprocess
    import sys

    code = (
        "import sys\nfrom minihv.cli.main import run\n"
        "run(['run', 'hello', '--serial', 'null'])\nprint(*sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "minihv.report.model" in loaded
    assert not loaded & {
        "json", "html", "http.server", "ctypes", "array", "shlex", "elftools", "minihv.machine.recorders",
        "minihv.machine.timeline", "minihv.machine.metrics", "minihv.report.html.markup",
        "minihv.report.read",
        "minihv.report.arithmetic", "minihv.report.budget", "minihv.report.table", "minihv.cli.files",
    }  # fmt: skip
