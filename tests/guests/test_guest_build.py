"""The shipped images are what the sources give; the index lists every guest."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from expectations import GUESTS, IMAGES, names

TOOLS = ("make", "gcc", "ld", "objcopy", "ar")


def make(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the guests' Makefile; both streams as text, status not judged."""
    return subprocess.run(["make", "-s", "-C", str(GUESTS), *arguments], capture_output=True, text=True)


@pytest.fixture(scope="module")
def toolchain() -> None:
    """Skip where the images cannot be expected to come out the same."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"building guests needs {', '.join(missing)}")
    shipped = (GUESTS / "toolchain.txt").read_text()
    here = make("toolchain").stdout
    if here != shipped:
        pytest.skip(f"the images were built with {shipped.split()}, here is {here.split()}")


@pytest.mark.usefixtures("toolchain")
def test_images_are_what_the_sources_give() -> None:
    done = make("check")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.usefixtures("toolchain")
def test_check_names_an_image_that_differs(tmp_path: Path) -> None:
    shutil.copytree(IMAGES, tmp_path, dirs_exist_ok=True)
    image = tmp_path / "add.elf"
    image.write_bytes(image.read_bytes()[:-1] + b"?")
    done = make("check", f"OUT={tmp_path}")
    assert done.returncode != 0
    assert "add.elf" in done.stdout
    assert "echo.elf" not in done.stdout


def test_index_lists_every_guest_and_its_image() -> None:
    index = json.loads((IMAGES / "index.json").read_text())
    assert sorted(index) == names()
    for name, entry in index.items():
        assert (IMAGES / entry["file"]).is_file(), name
        assert entry["purpose"], name
        assert entry["shows"], name


def test_images_are_no_larger_than_they_need_to_be() -> None:
    total = sum(path.stat().st_size for path in IMAGES.iterdir())
    assert total < 256 * 1024
