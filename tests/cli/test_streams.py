"""Standard streams that are closed, full, or not read; signals without a terminal."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_support import CANNOT_START, SCRIPT, VMM_STOPPED, Done

Script = Callable[..., Done]


def shell(redirection: str) -> tuple[str, ...]:
    """A prefix that starts the command with a shell's redirections."""
    return ("sh", "-c", f'exec "$0" "$@" {redirection}')


def unread(*arguments: str) -> Done:
    """Run a command whose standard output is a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [str(SCRIPT), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    finally:
        os.close(writer)
    return Done(done.returncode, "", done.stderr)


def test_a_console_that_nobody_reads_ends_the_run(engine: str) -> None:
    done = unread("run", "mandelbrot", "--engine", engine)
    assert done.status == VMM_STOPPED
    assert done.err == "minihv: mandelbrot: the console takes no more output: Broken pipe (status 248)\n"


@pytest.mark.parametrize(
    "arguments", [("guests",), ("guests", "--json"), ("doctor",), ("--help",), ("run", "-h")]
)
def test_results_that_nobody_reads(arguments: tuple[str, ...]) -> None:
    assert unread(*arguments) == (141, "", "")


def test_a_table_that_nobody_reads(engine: str) -> None:
    assert unread("run", "hello", "--serial", "null", "--stats", "--engine", engine) == (141, "", "")


def test_a_pipe_that_is_closed_in_the_middle(engine: str) -> None:
    command = f"exec 2>&1; {SCRIPT} run mandelbrot --engine {engine} | head -c1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stdout
    assert done.stdout.startswith(" ")


@pytest.mark.parametrize(
    "arguments", [("guests",), ("doctor",), ("--help",), ("run", "--help"), ("--version",)]
)
def test_no_room_for_results(script: Script, arguments: tuple[str, ...]) -> None:
    done = script(*arguments, prefix=shell(">/dev/full"))
    assert done.status == CANNOT_START
    assert done.err.startswith("minihv: ")
    assert done.err.count("\n") == 1
    assert "No space left on device" in done.err


def test_no_room_for_a_table(script: Script, engine: str) -> None:
    done = script(
        "run", "hello", "--serial", "null", "--stats", "--engine", engine, prefix=shell(">/dev/full")
    )
    assert done.err == (
        "minihv: cannot write to standard output: No space left on device; send it to a place with room\n"
    )
    assert done.status == CANNOT_START


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams(script: Script, engine: str, closed: str) -> None:
    """No file that is opened later, guest memory least of all, may take the place of a closed stream."""
    done = script("run", "hello", "--stats", "--engine", engine, prefix=shell(closed))
    assert done.status == 0
    assert done.err == ""
    assert ("Hello" in done.out) is (">&-" not in closed.split())


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_closed_streams_and_an_error(script: Script, closed: str) -> None:
    done = script("run", "nowhere", prefix=shell(closed))
    assert done.status == CANNOT_START
    assert done.out == ""
    assert done.err.count("\n") == (0 if closed == "2>&-" else 1)


def test_standard_input_that_ends(script: Script, engine: str) -> None:
    """A guest that waits for more goes on waiting: input that ends does not end a machine."""
    done = script("run", "echo", "--timeout", "0.3", "--engine", engine, input="hello\n")
    assert done == (244, "hello\n", "minihv: echo: the time given by --timeout is over (status 244)\n")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_end_the_machine_and_the_report_is_written(
    engine: str, number: signal.Signals, status: int
) -> None:
    process = subprocess.Popen(
        [str(SCRIPT), "run", "primes", "--stats", "--engine", engine, "--timeout", "50"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        first = process.stdout.read(1)  # the guest runs
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert first
    if process.returncode == 0:
        pytest.skip("the guest was done before the signal came")
    assert process.returncode == status
    assert f"status {status}" in out.decode()
    assert err.decode().startswith("minihv: primes: ")


FLOOD = b"\xfa\xba\xf8\x03\xb0A" + b"\xee\xeb\xfd"
"""cli; mov dx, 0x3f8; mov al, 'A'; forever: out dx, al"""


def test_a_reader_that_is_stuck_does_not_hold_up_the_time_out(tmp_path: Path, engine: str) -> None:
    """Nobody reads from the pipe until the command has ended: it must do so, by --timeout and no later."""
    image = tmp_path / "flood"
    image.write_bytes(FLOOD)
    command = ["run", str(image), "--format", "flat16", "--timeout", "1", "--engine", engine]
    run = subprocess.Popen([str(SCRIPT), *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert run.wait(timeout=60) == 244
    finally:
        run.kill()
        out, err = run.communicate()
    assert b"--timeout is over" in err
    assert out
    assert set(out) == {ord("A")}
