"""Guest-physical pages as the interpreter uses them, and which of their bytes have been decoded.

Shared by all vCPUs of an engine. A *frame* is a 4 KiB page of RAM or ROM with views for each operand
size. Views of the host's byte order are the guest's order on every host that iced-x86 or Python's
little-endian platforms run on; `Physical` refuses others.
"""

import sys
from typing import TYPE_CHECKING

from minihv.errors import EngineUnavailable
from minihv.memory import PAGE_SIZE, GuestMemory

if TYPE_CHECKING:
    from minihv.engine.interpret.blocks import Block
    from minihv.engine.interpret.cpu import Cpu

View = memoryview
_FORMATS = {1: "B", 2: "H", 4: "I", 8: "Q"}


class Frame:
    """One page. `views[size]` index it in units of `size` bytes; `code` marks decoded bytes."""

    __slots__ = ("blocks", "code", "gpa", "readonly", "views")

    def __init__(self, gpa: int, view: memoryview, readonly: bool) -> None:
        self.gpa = gpa
        self.readonly = readonly
        self.views: dict[int, memoryview[int]] = {
            size: view if size == 1 else view.cast(fmt)  # type: ignore[call-overload]
            for size, fmt in _FORMATS.items()
        }
        self.code: bytearray | None = None
        self.blocks: dict[object, Block] = {}


class Physical:
    """The frames, found on first use, and the vCPUs whose caches depend on them."""

    def __init__(self, memory: GuestMemory) -> None:
        if sys.byteorder != "little":
            raise EngineUnavailable(
                "the interpreter needs a little-endian host; this one is big-endian: use another engine"
            )
        self.memory = memory
        self.frames: dict[int, Frame] = {}
        self.cpus: list[Cpu] = []

    def frame(self, gpa: int) -> Frame | None:
        """The page at `gpa`, or None where there is no whole page of RAM or ROM."""
        number = gpa >> 12
        found = self.frames.get(number)
        if found is not None:
            return found
        start = number << 12
        region = self.memory.find(start)
        if region is None or start + PAGE_SIZE > region.end:
            return None
        offset = start - region.gpa
        found = Frame(start, region.view[offset : offset + PAGE_SIZE], region.readonly)
        self.frames[number] = found
        return found

    def mark_code(self, frame: Frame, offset: int, size: int, key: object, block: "Block") -> None:
        """`size` bytes of the page were decoded into `block`: writes to them must be seen from now on."""
        if frame.code is None:
            frame.code = bytearray(PAGE_SIZE)
            for cpu in self.cpus:
                cpu.mmu.forget_writable(frame)
        frame.code[offset : offset + size] = b"\1" * size
        frame.blocks[key] = block

    def written(self, frame: Frame, offset: int, size: int) -> None:
        """`size` bytes of the page were stored to: blocks made of them die."""
        if frame.code is not None and frame.code.find(1, offset, offset + size) >= 0:
            self.drop_blocks(frame)

    def drop_blocks(self, frame: Frame) -> None:
        """Everything decoded from this page is void; a block that runs stops after its instruction."""
        for block in frame.blocks.values():
            block.kill()
        frame.blocks.clear()
        frame.code = None
        for cpu in self.cpus:
            cpu.forget_blocks()

    def drop_all(self) -> None:
        """Void every decoded block: memory may have changed behind the engine's back."""
        for frame in self.frames.values():
            if frame.blocks:
                self.drop_blocks(frame)

    def release(self) -> None:
        """Give up all views, so that the owner of the memory can unmap it."""
        for cpu in self.cpus:
            cpu.mmu.flush()
            cpu.spaces.clear()
            cpu.fast = {}
        # By hand: blocks and caches in cycles may hold a frame until the next garbage collection.
        for frame in self.frames.values():
            for view in frame.views.values():
                view.release()
        self.frames.clear()
