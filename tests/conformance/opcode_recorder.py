"""A pytest plugin that notes which instructions the interpreter executes while tests run.

    pytest -p opcode_recorder ...   with MINIHV_OPCODES=FILE: a JSON list of iced-x86 codes goes there.

An instruction counts when its op came back, or asked the VMM (IN, OUT), or when faulting is all it does.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from minihv.engine.interpret.decode import Mnemonic
from minihv.engine.interpret.faults import GuestFault, NeedExit, TripleFault
from minihv.engine.interpret.site import Op, Site
from minihv.engine.interpret.table import Builder, PageTable

FAULTING = frozenset((Mnemonic.UD0, Mnemonic.UD1, Mnemonic.UD2))
"""Their whole purpose is #UD."""


@contextmanager
def recording() -> Iterator[set[int]]:
    """The codes that are executed inside the `with`, by any interpreter made or used there."""
    seen: set[int] = set()
    get = PageTable.get

    def recorded(self: PageTable, mnemonic: int, default: Any = None) -> Any:
        builder = get(self, mnemonic, default)
        return builder if builder is None else _noting(builder, seen)

    PageTable.get = recorded  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        PageTable.get = get  # type: ignore[method-assign]


def _noting(builder: Builder, seen: set[int]) -> Builder:
    def build(s: Site) -> Op:
        op, code, faulting = builder(s), s.insn.code, s.insn.mnemonic in FAULTING
        if code in seen:
            return op

        def noted() -> None:
            try:
                op()
            except (NeedExit, TripleFault):
                seen.add(code)
                raise
            except GuestFault:
                if faulting:
                    seen.add(code)
                raise
            seen.add(code)

        return noted

    return build


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Iterator[None]:
    with recording() as seen:
        result = yield
    target = os.environ.get("MINIHV_OPCODES")
    if target:
        Path(target).write_text(json.dumps(sorted(seen)), encoding="utf-8")
    return result
