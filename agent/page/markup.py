"""HTML from text: the one place where text becomes markup, so that nothing of it is taken for any.

`tag` escapes all that it is given, but for what `tag` made. Pure.
"""

import html
from collections.abc import Iterable

_VOID = frozenset({"br", "link", "meta"})
_UNSEEN = {
    **dict.fromkeys([*range(32), *range(127, 160), 0x2028, 0x2029], " "),
    # They turn the order of what follows: a name could read as another one.
    **dict.fromkeys(
        [*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F],
        "\N{REPLACEMENT CHARACTER}",
    ),
}


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Inside = str | None | Iterable["Inside"]


def tag(name: str, /, *inside: Inside, **attributes: str | None) -> Markup:
    """Return an element with what is in it.

    Args:
        name: what it is called.
        inside: texts, which are escaped, and elements, which are not; None is nothing.
        attributes: `cls` stands for class, `_` for a hyphen; None leaves one out.
    """
    written = "".join(
        f' {"class" if key == "cls" else key.replace("_", "-")}="{_escaped(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{together(*inside)}</{name}>")


def together(*inside: Inside) -> Markup:
    """Return several parts as one."""
    return Markup("".join(_each(inside)))


def _each(inside: Iterable[Inside]) -> Iterable[str]:
    for part in inside:
        if part is None:
            continue
        if isinstance(part, Markup):
            yield part
        elif isinstance(part, str):
            yield _escaped(part)
        else:
            yield from _each(part)


def _escaped(text: str) -> str:
    return html.escape(text.translate(_UNSEEN))
