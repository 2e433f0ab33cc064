"""Templates into answers: what they may use, and the headers every page has.

Everything is escaped. A request with the header `skerry-live` gets the page without its frame:
what a page that is open already puts in the place of its live parts.
"""

import hashlib
import shlex
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from agent.wire.words import age, latency, size, span
from fleet import wording
from fleet.marks import (
    ASIDE_MARKS,
    DRIFT_MARKS,
    MARKS,
    SEVERITY_MARKS,
    VERDICT_MARKS,
    Mark,
)
from fleet.sentences import PHASES, ROLLOUTS, STATES, TARGETS, WAVES, explain

_HERE = Path(__file__).parent
STATIC = _HERE / "static"

_FAILED = 500

LIVE = "skerry-live"
"""The header by which a page that is open asks for its live parts."""

THEMES = ("system", "light", "dark")
THEME_COOKIE = "skerry-theme"

_IN_ORDER = (
    Mark.OK,
    Mark.UPDATING,
    Mark.WAITING,
    Mark.PAUSED,
    Mark.DEGRADED,
    Mark.FAILING,
    Mark.ROLLED_BACK,
    Mark.OFFLINE,
    Mark.UNKNOWN,
)
"""As a bar is read: what is well first, who is away last."""

_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Mapping[str, str] = {
    "content-security-policy": _CSP,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
"""Of every answer. `same-origin`, not `no-referrer`: a form would come without its origin."""


class Renderer:
    """Makes pages of one fleet. `open_alerts` says how many there are, for the way to them."""

    def __init__(self, fleet: str, version: str, open_alerts: Callable[[], int]) -> None:
        self._open_alerts = open_alerts
        self._environment = Environment(
            loader=FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {
            "count": wording.count,
            "figure": wording.figure,
            "percent": wording.percent,
            "latency": latency,
            "size": size,
            "short": wording.short,
            "span": span,
            "soak": wording.soak,
            "quoted": lambda text: quote(text, safe=":"),
            "clock": _clock,
        }
        self._environment.globals |= {
            "fleet": fleet,
            "version": version,
            "assets": _fingerprint(),
            "wording": wording,
            "age": age,
            "explain": explain,
            "PHASES": PHASES,
            "ROLLOUTS": ROLLOUTS,
            "STATES": STATES,
            "TARGETS": TARGETS,
            "WAVES": WAVES,
            "MARKS": MARKS,
            "VERDICT_MARKS": VERDICT_MARKS,
            "ASIDE_MARKS": ASIDE_MARKS,
            "DRIFT_MARKS": DRIFT_MARKS,
            "SEVERITY_MARKS": SEVERITY_MARKS,
            "segments": segments,
            "link": link,
            "shell": shell,
        }

    def page(
        self,
        request: Request,
        template: str,
        *,
        status: int = 200,
        signed_in: bool = True,
        **context: object,
    ) -> HTMLResponse:
        """Return a page, or its live parts where only these are asked for."""
        live = LIVE in request.headers
        theme = request.cookies.get(THEME_COOKIE, THEMES[0])
        content = self._environment.get_template(template).render(
            layout="parts.html" if live else "base.html",
            theme=theme if theme in THEMES else THEMES[0],
            themes=THEMES,
            path=request.url.path,
            here=request.url.path + (f"?{request.url.query}" if request.url.query else ""),
            signed_in=signed_in,
            # A page that says what failed asks nothing of what may have.
            open_alerts=self._open_alerts() if signed_in and status < _FAILED else 0,
            **context,
        )
        # A device's JSON may have half a character in it, which no encoding has.
        return HTMLResponse(content.encode(errors="replace"), status)


def link(path: str, **query: object) -> str:
    """Return a path with its query; what is empty is left out."""
    given = {name: str(value) for name, value in query.items() if value not in (None, "")}
    return f"{path}?{urlencode(given)}" if given else path


def shell(*words: object) -> str:
    """Return a command as it is typed; what is empty is left out."""
    return shlex.join([str(word) for word in words if word not in (None, "")])


def segments(items: Sequence[Mapping[str, Any]], *, width: int = 1000) -> list[dict[str, Any]]:
    """Return a bar's parts from left to right; even one of a million can be seen."""
    shown = sorted((each for each in items if each["number"]), key=_place)
    total = sum(each["number"] for each in shown)
    gap, least = 3, 8
    spare = width - (least + gap) * len(shown) + gap
    at = 0.0
    parts = []
    for each in shown:
        wide = least + spare * each["number"] / total
        parts.append({**each, "x": round(at, 1), "width": round(wide, 1)})
        at += wide + gap
    return parts


def _place(item: Mapping[str, Any]) -> int:
    return _IN_ORDER.index(Mark(item["mark"]))


def _clock(moment: str, now: str) -> str:
    """Return a time as short as it can be told apart: of the same day without its date."""
    at = datetime.fromisoformat(moment)
    told = f"{at:%H:%M:%S}" if moment[:10] == now[:10] else f"{at.day} {at:%b %Y %H:%M}"
    return f"{told} UTC"


def _fingerprint() -> str:
    """Return what changes when a static file does: browsers may keep the others for good."""
    digest = hashlib.sha256()
    for path in sorted(STATIC.iterdir()):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
