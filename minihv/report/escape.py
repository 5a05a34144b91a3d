"""Text that others chose (a guest's symbols, file names, command lines) made harmless to show.

A terminal obeys control sequences and a browser obeys markup; what a guest printed must do neither.
"""


def visible(text: str) -> str:
    """`text` with everything that is not printable (control characters, line ends, bidirectional marks, lone
    surrogates) written out as \\x1b or \\u202e: for one line on a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _written(c) for c in text)


def visible_lines(text: str) -> str:
    """The same for several lines: line feeds stay."""
    return "\n".join(visible(line.expandtabs(4)) for line in text.split("\n"))


def _written(char: str) -> str:
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
