"""Interrupt lines that outlive an engine: devices keep theirs while the controllers behind them change."""

from collections.abc import Callable

from minihv.interfaces import IrqLine


def unconnected(level: bool, /) -> None:
    """The interrupt input of a machine without interrupt controllers."""


class Lines:
    """The board's interrupt wires, by global system interrupt."""

    def __init__(self) -> None:
        self._wires: dict[int, _Wire] = {}
        self._input_of: Callable[[int], IrqLine] = lambda gsi: unconnected

    def line(self, gsi: int) -> IrqLine:
        """The wire of `gsi`, the same for everybody who asks."""
        wire = self._wires.get(gsi)
        if wire is None:
            wire = self._wires[gsi] = _Wire(self._input_of(gsi))
        return wire

    def connect(self, input_of: Callable[[int], IrqLine]) -> None:
        """Lead every wire to the controllers that `input_of` knows; high wires are high there at once."""
        self._input_of = input_of
        for gsi, wire in self._wires.items():
            wire.target = input_of(gsi)
            if wire.level:
                wire.target(True)


class _Wire:
    """Several devices may share it only by turns: the last one to speak sets the level."""

    __slots__ = ("level", "target")

    def __init__(self, target: IrqLine) -> None:
        self.target = target
        self.level = False

    def __call__(self, level: bool, /) -> None:
        self.level = level
        self.target(level)
