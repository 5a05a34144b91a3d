"""Which engine "auto" takes, and what is said of the others."""

from collections.abc import Callable
from typing import Any, cast

import pytest

from minihv.engine import select
from minihv.engine.select import EngineKind, open_engine, survey
from minihv.errors import EngineUnavailable, HostError, KvmError, UsageError
from minihv.interfaces import Engine, EngineConfig
from minihv.memory import GuestMemory

MEMORY = GuestMemory([])


def kind(name: str, reason: str | None = None, error: Exception | None = None) -> EngineKind:
    """An engine that is told by its name."""

    def open_it(memory: GuestMemory, config: EngineConfig) -> Engine:
        if error is not None:
            raise error
        return cast(Engine, name)

    return EngineKind(lambda: reason, open_it)


def opened(name: str) -> tuple[Any, list[str]]:
    return open_engine(name, MEMORY, EngineConfig())


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def put(**kinds: EngineKind) -> None:
        monkeypatch.setattr(select, "ENGINES", kinds)

    return put


def test_auto_takes_the_first(engines: Callable[..., None]) -> None:
    engines(fast=kind("fast"), slow=kind("slow"))
    assert opened("auto") == ("fast", [])


def test_auto_passes_over_what_cannot_work_and_says_why(engines: Callable[..., None]) -> None:
    busy = KvmError("KVM_CREATE_VM on /dev/kvm failed: busy", "KVM_CREATE_VM", 16)
    engines(a=kind("a", "no such device"), b=kind("b", error=busy), c=kind("c"))
    told = opened("auto")
    assert told == ("c", ["a: no such device", "b: KVM_CREATE_VM on /dev/kvm failed: busy"])


def test_when_none_works_all_reasons_are_told(engines: Callable[..., None]) -> None:
    engines(a=kind("a", "no such device"), b=kind("b", error=HostError("no memory")))
    with pytest.raises(EngineUnavailable, match="a: no such device; b: no memory"):
        opened("auto")


def test_what_was_asked_for_by_name_is_not_replaced(engines: Callable[..., None]) -> None:
    engines(a=kind("a", error=HostError("no memory")), b=kind("b"))
    with pytest.raises(HostError, match="no memory"):
        opened("a")
    assert opened("b") == ("b", [])


def test_an_unknown_name(engines: Callable[..., None]) -> None:
    engines(a=kind("a"), b=kind("b"))
    with pytest.raises(UsageError, match="expected an engine of auto, a, b, found 'c'"):
        opened("c")


def test_a_bug_is_not_taken_for_an_engine_that_does_not_work(engines: Callable[..., None]) -> None:
    engines(a=kind("a", error=ZeroDivisionError()), b=kind("b"))
    with pytest.raises(ZeroDivisionError):
        opened("auto")


def test_the_survey_has_every_engine(engines: Callable[..., None]) -> None:
    engines(a=kind("a", "no such device"), b=kind("b"))
    assert cast(Any, survey()) == {"a": "no such device", "b": None}
