"""/dev/kvm is absent, refused, something else, or out of descriptors: a sentence with advice, and a status.

A mount namespace of its own puts something else over /dev/kvm, so that the whole command is under test.
"""

import os
import resource
import shutil
import stat
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from cli_support import CANNOT_START, SCRIPT, Done, assert_one_sentence, works

Script = Callable[..., Done]
NO_OVERRIDE = "setpriv --bounding-set=-dac_override,-dac_read_search"
"""root without the right to ignore permissions"""


@pytest.fixture(scope="session")
def namespace() -> Callable[[str], tuple[str, ...]]:
    """namespace("commands") is a prefix that runs a command after them, in a mount namespace of its own."""
    missing = [tool for tool in ("unshare", "setpriv", "mount") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"needs {' and '.join(missing)}")
    trial = subprocess.run(["unshare", "-m", "true"], capture_output=True, text=True)
    if trial.returncode or os.geteuid() != 0:
        pytest.skip(f"mount namespaces need root: {trial.stderr.strip()}")
    return lambda commands: ("unshare", "-m", "sh", "-ec", f'{commands}\nexec $WITH "$@"', "sh")


@pytest.fixture
def over_kvm(
    namespace: Callable[[str], tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[str, ...]]:
    """over_kvm(path) is a prefix: /dev/kvm is `path` for the command; `using` goes before the command."""

    def prefix(path: str, using: str = "") -> tuple[str, ...]:
        monkeypatch.setenv("WITH", using)
        if not Path("/dev/kvm").exists():
            pytest.skip("there is no /dev/kvm to put something over")
        return namespace(f"mount --bind {path} /dev/kvm")

    return prefix


def test_absent(script: Script, namespace: Callable[[str], tuple[str, ...]]) -> None:
    done = script("run", "hello", "--engine", "kvm", prefix=namespace("mount -t tmpfs none /dev"))
    assert_one_sentence(
        done,
        CANNOT_START,
        ("/dev/kvm cannot be opened: No such file or directory (errno 2)", "modprobe kvm_intel"),
    )


def test_refused(script: Script, over_kvm: Callable[..., tuple[str, ...]], tmp_path: Path) -> None:
    node = tmp_path / "kvm"
    os.mknod(node, stat.S_IFCHR, os.makedev(10, 232))
    done = script("run", "hello", "--engine", "kvm", prefix=over_kvm(str(node), NO_OVERRIDE))
    assert_one_sentence(
        done, CANNOT_START, ("/dev/kvm cannot be opened: Permission denied (errno 13)", "run as root")
    )


@pytest.mark.parametrize("other", ["/dev/null", "file"])
def test_something_else(
    script: Script, over_kvm: Callable[..., tuple[str, ...]], tmp_path: Path, other: str
) -> None:
    (tmp_path / "file").touch()
    path = str(tmp_path / other)  # an absolute one wins
    done = script("run", "hello", "--engine", "kvm", prefix=over_kvm(path))
    assert_one_sentence(done, CANNOT_START, ("/dev/kvm is no KVM device",))


def test_auto_takes_another_engine_and_says_why(
    script: Script, over_kvm: Callable[..., tuple[str, ...]]
) -> None:
    done = script("run", "hello", prefix=over_kvm("/dev/null"))
    assert done.out == "Hello from long mode!\n"
    assert done.err.startswith("minihv: ran on interpret; passed over: kvm: /dev/kvm is no KVM device")
    assert done.err.count("\n") == 1
    assert done.status == 0


def test_doctor_tells_why(script: Script, over_kvm: Callable[..., tuple[str, ...]]) -> None:
    done = script("doctor", prefix=over_kvm("/dev/null"))
    assert "kvm: /dev/kvm is no KVM device" in done.out
    assert "interpret: works" in done.out
    assert (done.status, done.err) == (0, "")


def test_an_image_that_root_may_not_read(
    script: Script,
    namespace: Callable[[str], tuple[str, ...]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WITH", NO_OVERRIDE)
    image = tmp_path / "secret.elf"
    image.touch()
    image.chmod(0)
    done = script("run", str(image), prefix=namespace(":"))
    assert_one_sentence(
        done, CANNOT_START, (f"{image}: cannot be read: Permission denied", "make it readable")
    )


def _limited(limit: int, value: int, *arguments: str) -> Done:
    done = subprocess.run(
        [str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(limit, (value, value)),
    )
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.mark.kvm
@pytest.mark.parametrize("files", range(5, 11))
def test_no_descriptors_left(files: int) -> None:
    """Wherever in the start it happens, the process ends with advice."""
    done = _limited(resource.RLIMIT_NOFILE, files, "run", "hello", "--engine", "kvm")
    assert_one_sentence(done, CANNOT_START, ("Too many open files", "ulimit -n"))


def test_no_memory_for_the_guest(engine: str) -> None:
    done = _limited(resource.RLIMIT_AS, 1 << 30, "run", "hello", "-m", "4G", "--engine", engine)
    assert_one_sentence(
        done, CANNOT_START, ("4294967296 bytes of guest RAM", "Cannot allocate memory", "less")
    )


def test_no_engine_works(monkeypatch: pytest.MonkeyPatch, typed: Callable[..., Done]) -> None:
    from minihv.engine import select

    kinds = {
        name: kind._replace(probe=partial("{} is on holiday".format, name))
        for name, kind in select.ENGINES.items()
    }
    monkeypatch.setattr(select, "ENGINES", kinds)
    done = typed("run", "hello")
    assert_one_sentence(done, CANNOT_START, ("no engine works on this host", "kvm: kvm is on holiday"))
    done = typed("doctor")
    assert done.status == CANNOT_START
    assert "kvm: kvm is on holiday" in done.out
    assert works("kvm") is False
