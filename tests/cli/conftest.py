"""The command line as a person types it: in this process with `typed`, or as a process with `script`."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "unit" / "boot"))  # images to bend: boot_images

from cli_support import SCRIPT, Done, Typed, works


@pytest.fixture(scope="session")
def engine() -> str:
    """An engine that works here, kvm where it can be: for tests that hold for all of them."""
    return "kvm" if works("kvm") else "interpret"


@pytest.fixture
def typed(capfd: pytest.CaptureFixture[str]) -> Typed:
    """typed("run", "hello") runs one command line in this process."""
    from minihv.cli.main import run

    def call(*arguments: str | os.PathLike[str]) -> Done:
        capfd.readouterr()
        status = run([os.fspath(argument) for argument in arguments])
        return Done(status, *capfd.readouterr())

    return call


@pytest.fixture
def script() -> Callable[..., Done]:
    """script("run", "hello", input=...) runs the installed console script, as a shell would."""

    def call(*arguments: str, input: str | None = None, prefix: tuple[str, ...] = ()) -> Done:
        done = subprocess.run(
            [*prefix, str(SCRIPT), *arguments],
            input="" if input is None else input,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return call
