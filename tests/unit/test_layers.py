"""Imports go downwards only, and importing costs little: the drawing in ARCHITECTURE.md, enforced."""

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent.parent / "minihv"

LAYERS = {
    "errors": 0,
    "records": 0,
    "exits": 1,
    "interfaces": 1,
    "stats": 1,
    "x86.state": 1,
    "memory": 2,
    "bus": 2,
    "deferred": 2,
    "x86": 2,
    "devices": 3,
    "host": 3,
    "boot": 4,
    "engine": 4,
    "machine": 5,
    "report": 5,
    "nano": 5,
    "sensitive": 5,
    "verify": 5,
    "cli": 6,
    "testing": 6,
    "__main__": 6,
}
"""Module or package below minihv -> its layer; the longest name that fits counts."""

STRANGERS = {
    ("boot", "engine"): "a loader does not know who executes",
    ("engine", "boot"): "an engine does not know what it runs",
    ("devices", "host"): "a device is given its sinks and sources",
    ("host", "devices"): "the host edge knows no hardware",
    ("report", "machine"): "a report is a function of recorded numbers",
    ("report", "engine"): "a report is a function of recorded numbers",
}
"""(who, whom) that may not be imported although the layers would allow it, and why."""

HEAVY = ("elftools", "iced_x86", "pyroute2", "rich", "cffi", "importlib.resources", "hypothesis")


def modules() -> dict[str, Path]:
    """Every module's name below minihv -> its file; packages by their own name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:  # minihv itself names everything, lazily
            found[name] = path
    return found


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, absolute module) of every import statement, those inside functions included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            # `from minihv.engine import select` names a module, too.
            yield node.lineno, node.module or ""
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def layer(name: str) -> int:
    """The layer of a module below minihv, by the longest entry of LAYERS; -1 where it has none."""
    while name:
        if name in LAYERS:
            return LAYERS[name]
        name = name.rpartition(".")[0]
    return -1


def arrows() -> Iterator[tuple[str, str, str]]:
    """(where, importing module, imported module), both below minihv."""
    known = modules()
    for name, path in known.items():
        for line, target in imports(path):
            inner = target.removeprefix("minihv.")
            if inner != target and inner in known:
                yield f"{path.relative_to(PACKAGE.parent)}:{line}", name, inner


def upward(found: Iterable[tuple[str, str, str]]) -> list[str]:
    """The arrows that point to a higher layer, in words."""
    return [
        f"{where}: {name} (layer {layer(name)}) imports {target} (layer {layer(target)})"
        for where, name, target in found
        if layer(target) > layer(name)
    ]


def test_every_module_has_a_layer() -> None:
    assert len(modules()) > 100
    assert [name for name in modules() if layer(name) < 0] == []


def test_imports_go_downwards() -> None:
    wrong = upward(arrows())
    assert not wrong, "\n".join(wrong)


def test_an_upward_import_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.py"
    page.write_text("def late():\n    from minihv.machine import config\n")
    assert (2, "minihv.machine.config") in list(imports(page))
    assert upward([("bus.py:1", "bus", "machine.config"), ("bus.py:2", "bus", "errors")]) == [
        "bus.py:1: bus (layer 2) imports machine.config (layer 5)"
    ]


def test_strangers_stay_strangers() -> None:
    wrong = [
        f"{where}: {name} imports {target}: {why}"
        for where, name, target in arrows()
        for (who, whom), why in STRANGERS.items()
        if name.partition(".")[0] == who and target.partition(".")[0] == whom
    ]
    assert not wrong, "\n".join(wrong)


def test_only_the_edges_talk_to_the_operating_system() -> None:
    """`os` belongs to host, engine/kvm and, for descriptors and files of its own, machine and cli."""
    wrong = [
        f"{path.relative_to(PACKAGE.parent)}:{line}: {target}"
        for name, path in modules().items()
        if name.partition(".")[0] in ("devices", "boot", "report", "x86", "memory", "bus", "stats")
        for line, target in imports(path)
        if target.partition(".")[0] in ("os", "fcntl", "signal", "socket", "subprocess", "termios")
    ]
    assert not wrong, "\n".join(wrong)


def test_engines_do_not_know_each_other() -> None:
    wrong = [
        f"{where}: {name} imports {target}"
        for where, name, target in arrows()
        for engine, other in (("kvm", "interpret"), ("interpret", "kvm"))
        if name.startswith(f"engine.{engine}") and target.startswith(f"engine.{other}")
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("module", ["minihv", "minihv.cli.main", "minihv.cli.run", "minihv.machine.machine"])
def test_an_import_brings_nothing_heavy(module: str) -> None:
    """What `minihv run` of a tiny guest does not use it must not pay for."""
    code = f"import sys, {module}; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert module in loaded
    assert not loaded.intersection(HEAVY)


def test_import_minihv_imports_nothing_else_of_it() -> None:
    code = "import sys, minihv; print(*(m for m in sys.modules if m.startswith('minihv')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["minihv"]
