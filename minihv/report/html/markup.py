"""HTML that cannot forget to escape: a plain str is text, only `Html` is markup."""

from html import escape

from minihv.report.escape import visible, visible_lines


class Html(str):
    """Markup that is already safe."""

    __slots__ = ()


Child = str | Html | None

VOID = frozenset(("meta", "br", "rect", "line", "path", "circle"))
"""Elements without content."""


def text(value: str) -> Html:
    """Anybody's text as HTML; what a browser would obey is shown instead."""
    return value if isinstance(value, Html) else Html(escape(visible(value)))


def lines(value: str) -> Html:
    """The same for several lines, for `pre`."""
    return Html(escape(visible_lines(value)))


def h(tag: str, *children: Child, **attributes: str | float | None) -> Html:
    """An element. `cls` is class; underscores in other names are hyphens; None leaves one out."""
    shown = "".join(
        f' {_name(key)}="{escape(_value(value))}"' for key, value in attributes.items() if value is not None
    )
    if tag in VOID and not children:
        return Html(f"<{tag}{shown}{'' if tag in ('meta', 'br') else '/'}>")
    return Html(f"<{tag}{shown}>{join(children)}</{tag}>")


def join(children: "tuple[Child, ...] | list[Child] | list[Html]", glue: str = "") -> Html:
    """Children one after the other; None is nothing."""
    return Html(glue.join(text(child) for child in children if child is not None))


def _name(key: str) -> str:
    return "class" if key == "cls" else "viewBox" if key == "viewBox" else key.replace("_", "-")


def _value(value: str | float) -> str:
    if isinstance(value, str):
        return visible(value)
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
