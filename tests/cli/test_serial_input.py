"""`--serial-input FILE`: the guest is typed at from a file."""

from pathlib import Path

import pytest

from minihv.cli.main import run


@pytest.mark.parametrize("engine", ["kvm", "interpret"])
def test_a_file_types(engine: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    if engine == "kvm":
        from support import why_no_kvm

        if reason := why_no_kvm():
            pytest.skip(f"needs /dev/kvm: {reason}")
    keys = tmp_path / "keys"
    keys.write_bytes(b"ab\nq\n")
    assert run(["run", "echo", "--engine", engine, "--timeout", "30", "--serial-input", str(keys)]) == 0
    assert capfd.readouterr().out == "ab\n"


def test_a_missing_file_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "nothing"
    assert run(["run", "echo", "--serial-input", str(missing)]) == 240
    error = capfd.readouterr().err
    assert error.startswith("minihv: ")
    assert str(missing) in error
    assert error.count("\n") == 1
