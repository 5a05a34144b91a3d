"""The cffi handle, typed as Any: its structures are checked by cffi at run time, not by mypy."""

from typing import Any

from minihv.engine.kvm import _cffi

ffi: Any = _cffi.ffi
