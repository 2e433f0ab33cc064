"""What the demo prints: a line a step, and at the end where to look. Plain text, no colour."""

import sys

_ASCII = {"✓": "+", "✗": "x"}


def line(mark: str, name: str, text: str, took_s: float) -> None:
    """Print one step: its mark, name, what was seen, and how long it took."""
    _print(f"  {mark} {name:<9}{text}   {took_s:.1f} s")


def say(text: str) -> None:
    """Print a sentence."""
    _print(text)


def _print(text: str) -> None:
    encoding = sys.stdout.encoding or "ascii"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        for mark, plain in _ASCII.items():
            text = text.replace(mark, plain)
        text = text.encode(encoding, "replace").decode(encoding)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
