"""Values with slots, compared and printed by their fields.

What a mutable dataclass would give, without compiling its methods anew at every start: 0.3 to 0.5 ms for
each class, and a start needs dozens of them (measured; ARCHITECTURE.md, "Start-up"). Values that never
change are NamedTuples for the same reason.
"""


class Record:
    """Base of mutable value types: subclasses name their fields in `__slots__` and set them in `__init__`."""

    __slots__: tuple[str, ...] = ()

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"{type(self).__name__}({fields})"
