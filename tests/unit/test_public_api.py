"""What `import minihv` offers, and what the wheel holds."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import minihv
from minihv import errors

ROOT = Path(__file__).parent.parent.parent


def test_all_is_sorted_and_there() -> None:
    assert minihv.__all__ == sorted(minihv.__all__)
    for name in minihv.__all__:
        assert getattr(minihv, name).__name__ == name


def test_all_names_what_a_user_needs() -> None:
    assert {"Device", "Machine", "MachineConfig", "MinihvError", "Report"} <= set(minihv.__all__)


def test_names_lead_to_the_same_objects_as_their_modules() -> None:
    from minihv.machine.machine import Machine

    assert minihv.Machine is Machine


def test_another_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="module 'minihv' has no attribute 'Mashine'"):
        minihv.Mashine  # noqa: B018


def test_every_public_name_has_a_docstring() -> None:
    for name in minihv.__all__:
        assert (getattr(minihv, name).__doc__ or "").strip(), name


def test_the_errors_tree_is_what_its_docstring_draws() -> None:
    found = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, Exception)]
    assert all(issubclass(c, errors.MinihvError) for c in found)
    classes = {c.__name__: c for c in found if issubclass(c, errors.MinihvError)}
    drawn: dict[int, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        words = line.split()
        if words and words[0] in classes:
            depth = (len(line) - len(line.lstrip())) // 2
            drawn[depth] = words[0]
            cls = classes.pop(words[0])
            if cls is not errors.MinihvError:
                assert cls.__bases__[0].__name__ == drawn[depth - 1], words[0]
            if len(words) > 1 and words[1].isdigit():
                assert cls.exit_status == int(words[1])
    assert not classes, f"not drawn: {', '.join(classes)}"


@pytest.mark.slow
def test_the_wheel_is_pure_and_holds_the_images(tmp_path: Path) -> None:
    """Built from what git knows, in a folder of its own, so that nothing is left in the checkout."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip(f"not a git checkout: {listed.stderr.strip()}")
    source = tmp_path / "source"
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file() and not name.startswith(("tests/", "guests/")):
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode and "No matching distribution" in done.stdout + done.stderr:
        pytest.skip("pip finds no package index that has setuptools, which builds the wheel")
    assert done.returncode == 0, done.stderr
    [wheel] = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        [metadata] = [name for name in names if name.endswith("entry_points.txt")]
        assert "minihv = minihv.cli.start:main" in archive.read(metadata).decode()
    for path in (source / "minihv" / "images").iterdir():
        assert f"minihv/images/{path.name}" in names
    assert "minihv/py.typed" in names
    assert not [name for name in names if name.endswith((".so", ".pyc")) or name.startswith("tests")]
