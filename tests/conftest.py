"""What all tests share. It also puts this directory on the import path, so that tests find `support`."""

from collections.abc import Iterator

import pytest
from support import held, why_no_kvm


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `kvm` are skipped, with the reason, where the kvm engine cannot work."""
    marked = [item for item in items if item.get_closest_marker("kvm")]
    reason = why_no_kvm() if marked else None
    if reason is not None:
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=f"needs /dev/kvm: {reason}"))


@pytest.fixture
def no_leaks() -> Iterator[None]:
    """The test leaves no file descriptor and no thread behind."""
    before = held()
    yield
    assert held() == before
