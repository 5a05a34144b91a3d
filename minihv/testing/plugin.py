"""The pytest plugin: fixture `vm`, option --minihv-engines, marker minihv_engines, guest state on failure.

Loaded by pytest in every project that has minihv installed, so importing it brings nothing else of minihv.
"""

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from minihv.testing.vm import Vm

SURVEY = pytest.StashKey[dict[str, str | None]]()
"""Engine -> None where it works here, else why not; asked once a session."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("minihv", "minihv: guests on virtual machines")
    group.addoption(
        "--minihv-engines",
        metavar="NAME,...",
        default="",
        help="engines on which tests with the fixture vm run; without it, all that work here",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", 'minihv_engines("kvm", ...): run this test with the fixture vm on these engines only'
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each engine."""
    if "vm" not in metafunc.fixturenames:
        return
    found = _survey(metafunc.config)
    wanted = [n.strip() for n in metafunc.config.getoption("--minihv-engines").split(",") if n.strip()]
    names = _known(wanted, found, "--minihv-engines") or [name for name, why in found.items() if why is None]
    marked = metafunc.definition.get_closest_marker("minihv_engines")
    if marked is not None:
        allowed = _known([str(name) for name in marked.args], found, "the marker minihv_engines")
        names = [name for name in allowed if name in names or not wanted]
    if names:
        metafunc.parametrize("vm", [_parameter(name, found[name]) for name in names], indirect=True)
        return
    why = (
        f"marked for {', '.join(allowed)}, which --minihv-engines leaves out"
        if marked is not None
        else "; ".join(f"{name}: {reason}" for name, reason in found.items())
    )
    skip = pytest.mark.skip(reason=f"no engine to run it on: {why}")
    metafunc.parametrize("vm", [pytest.param("none", marks=skip)], indirect=True)


def _parameter(name: str, why: str | None) -> Any:
    if why is None:
        return pytest.param(name, id=name)
    return pytest.param(
        name, id=name, marks=pytest.mark.skip(reason=f"engine {name} cannot work here: {why}")
    )


def _known(names: list[str], found: dict[str, str | None], where: str) -> list[str]:
    for name in names:
        if name not in found:
            raise pytest.UsageError(f"{where}: expected engines of {', '.join(found)}, found {name!r}")
    return names


def _survey(config: pytest.Config) -> dict[str, str | None]:
    if SURVEY not in config.stash:
        from minihv.engine.select import survey

        config.stash[SURVEY] = survey()
    return config.stash[SURVEY]


@pytest.fixture
def vm(request: pytest.FixtureRequest) -> "Vm":
    """Runs guests on one engine: see `minihv.testing.vm.Vm`."""
    from minihv.testing.vm import Vm

    return Vm(request.param)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows what its guests did."""
    report = yield
    machine = getattr(item, "funcargs", {}).get("vm")
    if report.failed and machine is not None:
        for number, result in enumerate(getattr(machine, "results", ()), 1):
            report.sections.append((f"minihv run {number} on {result.engine}", result.describe()))
    return report
