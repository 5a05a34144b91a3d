"""Reading JSON that anybody may have written: every value is checked, and refused in one sentence."""

from collections.abc import Iterator, Mapping
from typing import Any

from minihv.errors import UsageError

MAX_INTEGER = (1 << 64) - 1
"""Addresses, counts and ns all fit 64 bits."""
SHOWN = 40
"""Characters of a wrong value that a message repeats."""


class Node:
    """One JSON object with the place where it was found, for messages. All methods raise UsageError."""

    def __init__(self, data: Any, where: str, at: str = "") -> None:
        """`where` names the document, `at` the path inside ("exits[3]")."""
        self.where = where
        self.at = at
        if not isinstance(data, dict):
            raise UsageError(
                f"{where}: expected a JSON object{f' at {at}' if at else ''}, found {found(data)}; "
                "give a file that minihv wrote"
            )
        self.data: Mapping[str, Any] = data

    def path(self, key: str) -> str:
        return f"{self.at}.{key}" if self.at else key

    def refuse(self, key: str, expected: str, value: Any) -> UsageError:
        """The error for a wrong value at `key`."""
        return UsageError(
            f"{self.where}: expected {expected} at {self.path(key)}, found {found(value)}; "
            "give a file that minihv wrote"
        )

    def take(self, key: str, expected: str) -> Any:
        """The value at a key that must be there."""
        if key not in self.data:
            raise UsageError(
                f"{self.where}: expected {expected} at {self.path(key)}, found nothing there; "
                "give a file that minihv wrote"
            )
        return self.data[key]

    def integer(self, key: str) -> int:
        value = self.take(key, "a whole number")
        if type(value) is not int or not 0 <= value <= MAX_INTEGER:
            raise self.refuse(key, "a whole number of at most 64 bits", value)
        return value

    def number(self, key: str) -> float:
        """A finite number."""
        value = self.take(key, "a number")
        if type(value) not in (int, float) or not abs(value) < 1e300:
            raise self.refuse(key, "a number", value)
        return float(value)

    def text(self, key: str, default: str | None = None) -> str:
        value = self.take(key, "a text") if default is None else self.data.get(key, default)
        if not isinstance(value, str):
            raise self.refuse(key, "a text", value)
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        values = self.take(key, "a list of texts")
        if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
            raise self.refuse(key, "a list of texts", values)
        return tuple(values)

    def integers(self, key: str, limit: int) -> tuple[int, ...]:
        """A list of at most `limit` whole numbers."""
        values = self.take(key, "a list of whole numbers")
        if not isinstance(values, list) or len(values) > limit:
            raise self.refuse(key, f"a list of at most {limit} whole numbers", values)
        for value in values:
            if type(value) is not int or not 0 <= value <= MAX_INTEGER:
                raise self.refuse(key, "whole numbers of at most 64 bits", value)
        return tuple(values)

    def node(self, key: str) -> "Node":
        """The object at `key`."""
        return Node(self.take(key, "a JSON object"), self.where, self.path(key))

    def nodes(self, key: str) -> "Iterator[Node]":
        """The objects of the list at `key`."""
        values = self.take(key, "a list")
        if not isinstance(values, list):
            raise self.refuse(key, "a list", values)
        for index, value in enumerate(values):
            yield Node(value, self.where, f"{self.path(key)}[{index}]")

    def counters(self, key: str) -> dict[str, int]:
        """The object of whole numbers at `key`."""
        node = self.node(key)
        return {name: node.integer(name) for name in node.data}


def found(value: Any) -> str:
    """A wrong JSON value in a few words."""
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "a JSON object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    words = ascii(value)  # never a control character of a foreign file
    return words if len(words) <= SHOWN else f"{words[:SHOWN]}..."


def parse(text: str, where: str) -> Any:
    """The JSON value of `text`. Raises UsageError that says where it stops being JSON."""
    import json

    if not text.strip():
        raise UsageError(f"{where}: expected a minihv report as JSON, found an empty file; write it again")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        if error.pos >= len(text.rstrip()) or "Unterminated" in error.msg:
            what = f"JSON that breaks off in line {error.lineno}"
        else:
            what = f"something else in line {error.lineno}, column {error.colno}"
    except (RecursionError, ValueError) as error:  # too deep; or a number of thousands of digits
        what = f"JSON that nobody wrote by hand ({type(error).__name__})"
    raise UsageError(f"{where}: expected a minihv report as JSON, found {what}; write it again")


def schema_of(data: Any, where: str, known: Mapping[str, int]) -> str:
    """The name of the schema of a document ("minihv.report"), which must be one of `known` (name -> newest
    version that can be read). Raises UsageError with what was found."""
    names = ", ".join(f"{name}/{version}" for name, version in known.items())
    found_schema = Node(data, where).data.get("schema")
    if not isinstance(found_schema, str):
        raise UsageError(
            f"{where}: expected a document with schema {names}, found one without a schema; "
            "give a file that minihv wrote"
        )
    name, _, version = found_schema.rpartition("/")
    digits = version.isascii() and version.isdecimal() and len(version) < 10
    if name not in known or not digits or int(version) < 1:
        raise UsageError(
            f"{where}: expected a document with schema {names}, found {found(found_schema)}; "
            "give a file that minihv wrote for this"
        )
    if int(version) > known[name]:
        raise UsageError(
            f"{where}: expected {name} of version {known[name]} or older, found version {int(version)}; "
            "read it with a newer minihv"
        )
    return name
