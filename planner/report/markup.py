"""HTML and SVG that cannot be broken by what is in them: text is escaped where it enters."""

import html
import re

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_VOID = frozenset({"br", "link", "meta"})

Value = str | float | bool | None


class Markup(str):
    """A string that is HTML already; every other string is text, and gets escaped."""

    __slots__ = ()


def text(value: str) -> Markup:
    """*value* as text of a page, or as an attribute in double quotes."""
    if isinstance(value, Markup):
        return value
    clean = value.encode("utf-8", "replace").decode()
    return Markup(html.escape(_CONTROL.sub("�", clean)))


def element(name: str, /, *children: str, **attributes: Value) -> Markup:
    """One element with its children.

    In attribute names ``_`` stands for ``-``, and one at the end is dropped (``class_``). A value
    of None or False leaves the attribute out, True gives it no value.
    """
    opening = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Markup(f"<{name}{opening}>")
    return Markup(f"<{name}{opening}>{''.join(map(text, children))}</{name}>")


def joined(*parts: str) -> Markup:
    """Elements and text, one after the other."""
    return Markup("".join(map(text, parts)))


def number(value: float) -> str:
    """A coordinate to a hundredth of a pixel, as short as it can be written."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _attribute(key: str, value: Value) -> str:
    name = key.rstrip("_").replace("_", "-")
    if value is None or value is False:
        return ""
    if value is True:
        return f" {name}"
    return f' {name}="{text(value if isinstance(value, str) else number(value))}"'
