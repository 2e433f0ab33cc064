"""The marks of states: a state is told by its shape and its word, colour repeats it. Pure.

The shapes are those of the centre's page; a test compares them.
"""

from agent.page.markup import Markup, tag

SHAPES = {
    "ok": '<circle cx="8" cy="8" r="6.5"/><path d="m5 8.2 2.1 2.2L11.2 6"/>',
    "updating": '<path d="M14.2 6.3A6.5 6.5 0 1 0 14.5 8"/><path d="M14.6 2.9v3.6h-3.6"/>',
    "waiting": '<circle cx="8" cy="8" r="6.5"/><path d="M8 4.2V8l2.6 1.8"/>',
    "degraded": '<path d="M8 1.8 15 14H1Z"/><path d="M8 6.2v3.6M8 11.6v.6"/>',
    "failing": '<path d="M5.2 1.5h5.6l3.7 3.7v5.6l-3.7 3.7H5.2l-3.7-3.7V5.2Z"/>'
    '<path d="m5.6 5.6 4.8 4.8m0-4.8-4.8 4.8"/>',
    "offline": '<circle cx="8" cy="8" r="6.5"/><path d="m3.4 12.6 9.2-9.2"/>',
    "paused": '<rect x="1.5" y="1.5" width="13" height="13" rx="2"/><path d="M6.2 5v6m3.6-6v6"/>',
    "rolled-back": '<path d="M5.6 2.2 2 5.8l3.6 3.6"/>'
    '<path d="M2.4 5.8h6.8a4.2 4.2 0 0 1 0 8.4H5"/>',
}

_LOGO = (
    '<path d="M5 19.5 11.5 9l4 5.5 3-3.5 8.5 8.5Z"/><path d="M3 23.5c2.2 0 2.2 1.7 4.4 1.7s2.1-1.7'
    ' 4.3-1.7 2.2 1.7 4.3 1.7 2.2-1.7 4.3-1.7 2.2 1.7 4.3 1.7 2.2-1.7 4.4-1.7"/>'
)


def state(mark: str, *words: str) -> Markup:
    """Return a mark with its words, in its colour."""
    shape = tag("svg", Markup(SHAPES[mark]), cls="mark", aria_hidden="true", viewBox="0 0 16 16")
    return tag("span", shape, tag("span", *words), cls=f"state s-{mark}")


def logo() -> Markup:
    """Return the sign of Skerry."""
    return tag("svg", Markup(_LOGO), cls="logo", aria_hidden="true", viewBox="0 0 32 32")
