"""The walk-through for class works on this host, and is made as it says: cells, no engine's name."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from minihv.engine.select import ENGINES, survey

SCRIPT = Path(__file__).parents[3] / "examples" / "one_hour.py"
TEXT = SCRIPT.read_text(encoding="utf-8")


@pytest.mark.skipif(all(survey().values()), reason=f"no engine works here: {survey()}")
def test_it_runs_and_its_claims_hold() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for name, why in survey().items():
        if why is None:
            assert f"{name}: works here" in done.stdout
            assert f"{name}: wrote [42], left with 42, 3 exits" in done.stdout
    assert "add eax, ebx" in done.stdout
    assert '"schema": "minihv.compare/1"' in done.stdout


def test_it_consists_of_cells() -> None:
    cells = [line for line in TEXT.splitlines() if line.startswith("# %%")]
    assert len(cells) > 12
    assert {*cells} == {"# %%", "# %% [markdown]"}
    assert TEXT.startswith("# %% [markdown]\n# # Hardware, translation, emulation: one hour in class\n")


def test_an_hour_is_an_hour() -> None:
    minutes = [
        int(line.rpartition("(")[2].split()[0]) for line in TEXT.splitlines() if line.startswith("# ## ")
    ]
    assert len(minutes) == 7
    assert sum(minutes) == 60


def test_no_engine_is_named_in_its_code() -> None:
    strings = {n.value for n in ast.walk(ast.parse(TEXT)) if isinstance(n, ast.Constant)}
    assert not strings & set(ENGINES)


def test_the_readme_tells_of_it() -> None:
    assert "examples/one_hour.py" in (SCRIPT.parents[1] / "README.md").read_text(encoding="utf-8")
