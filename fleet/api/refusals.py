"""How the API says no: what happened, a reason code, what to do next. Never a stack trace."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from agent.wire.codec import WireError
from agent.wire.reasons import Reason
from fleet.identity.errors import JoinRefusedError
from fleet.roll import RollUnreadError
from fleet.rollouts.errors import PlanError, PlanReason
from fleet.rollouts.fold import IllegalEventError
from fleet.rollouts.states import ROLLOUT, RolloutHappening, RolloutState
from fleet.sentences import explain
from fleet.store.errors import AmbiguousError, ConflictError, NotFoundError


class Refusal(BaseModel):
    """Why a request was not carried out."""

    error: str = Field(description="What happened, to what.")
    reason: str = Field(description="A code that stays the same whatever the words.")
    next: str = Field(description="What to do next.")


Answers = dict[int | str, dict[str, Any]]

_MEANINGS = {
    400: "The request can't be read.",
    401: "No token, or one that is not known.",
    403: "The token or the join is refused.",
    404: "There is no such thing.",
    408: "The body came too slowly.",
    409: "It is there already, is ambiguous, or has moved.",
    413: "The body is too large.",
    422: "The request can be read, and can't be carried out.",
}

_OF_BODIES = (400, 408, 413)
_OF_STATUS = {
    400: ("MALFORMED", "send the request as docs/reference/openapi.json describes it"),
    401: ("TOKEN_MISSING", "send 'Authorization: Bearer' with the operator token"),
    404: ("NOT_FOUND", "see docs/reference/openapi.json for what there is"),
    405: ("MALFORMED", "see docs/reference/openapi.json for what it takes"),
    408: ("TIMED_OUT", "send it again over a better connection"),
    413: ("TOO_LARGE", "send less"),
}

_JOINING = {Reason.CSR_INVALID: 400, Reason.NAME_TAKEN: 409}
_CONFLICTS = frozenset({PlanReason.PLAN_CHANGED, PlanReason.NO_CHANGE, PlanReason.OVERTAKEN})
_ILLEGAL = "ILLEGAL_STATE"
_WORDS = {
    RolloutHappening.PAUSED: ("paused", "skerry rollout pause"),
    RolloutHappening.RESUMED: ("resumed", "skerry rollout resume"),
    RolloutHappening.ABORTED: ("aborted", "skerry rollout abort"),
    RolloutHappening.RETURN_ASKED: ("rolled back", "skerry rollout rollback"),
    RolloutHappening.APPROVED: ("approved", "skerry rollout approve"),
    RolloutHappening.PROMOTED: ("promoted", "skerry rollout promote"),
    RolloutHappening.RETRIED: ("retried", "skerry rollout retry"),
}
"""What a person may say of a rollout, as it reads, and how it is said."""

_AS_IT_IS = frozenset(
    {RolloutHappening.APPROVED, RolloutHappening.PROMOTED, RolloutHappening.RETRIED}
)
"""Words that are possible only as its waves and targets are, which nobody here knows."""


def answers(*statuses: int, body: bool = False) -> Answers:
    """Return what a route declares about its refusals; with a body there are more ways to fail."""
    return {
        status: {"model": Refusal, "description": _MEANINGS[status]}
        for status in sorted({*statuses, 422, *(_OF_BODIES if body else ())})
    }


def refusal(
    status: int, error: str, reason: str, next_step: str, headers: dict[str, str] | None = None
) -> JSONResponse:
    """Return a refusal."""
    why = Refusal(error=error, reason=reason, next=next_step)
    return JSONResponse(why.model_dump(), status, headers=headers)


def install(app: FastAPI) -> None:
    """Have every error that a route may raise answered in this shape."""

    async def answer(_: Request, error: Exception) -> JSONResponse:
        status, why = said(error)
        headers = dict(error.headers or {}) if isinstance(error, HTTPException) else None
        return JSONResponse(why.model_dump(), status, headers=headers)

    for kind in TOLD:
        app.add_exception_handler(kind, answer)


def said(error: Exception) -> tuple[int, Refusal]:
    """Return what an error is to who asked: a status, and what happened, why, what to do next."""
    status, (what, reason, next_step) = _said(error)
    return status, Refusal(error=what, reason=reason, next=next_step)


def _said(error: Exception) -> tuple[int, tuple[str, str, str]]:  # noqa: C901, PLR0911, PLR0912  # one case a kind
    match error:
        case HTTPException():
            words = _OF_STATUS.get(error.status_code, ("REFUSED", "see docs/reference"))
            return error.status_code, (str(error.detail), *words)
        case RequestValidationError():
            first = error.errors()[0]
            where = ".".join(str(part)[:60] for part in first["loc"]) or "the request"
            what = first["msg"].removeprefix("Value error, ")  # pydantic's word for one of ours
            return 422, (f"{where}: {what}"[:300], *_OF_STATUS[400])
        case WireError():
            status = 413 if error.reason is Reason.TOO_LARGE else 400
            return status, (str(error), error.reason, explain(error.reason).next_step)
        case JoinRefusedError():
            status = _JOINING.get(error.reason, 403)
            return status, (str(error), error.reason, error.next_step)
        case PlanError():
            if error.reason is Reason.MALFORMED:  # the request is, and no document of a device's
                return 422, (str(error), *_OF_STATUS[400])
            status = 409 if error.reason in _CONFLICTS else 422
            return status, (str(error), error.reason, explain(error.reason).next_step)
        case IllegalEventError():
            return 409, _illegal(error)
        case NotFoundError():
            return 404, (str(error), "NOT_FOUND", _sought(error.kind))
        case AmbiguousError():
            return 409, (str(error), "AMBIGUOUS", "name one of them by its id")
        case ConflictError():
            return 409, (str(error), error.code, error.next_step)
        case RollUnreadError():
            return 503, (str(error), "STARTING", "ask again in some seconds")
        case OperationalError():
            next_step = "try again; if it stays so, look at the centre's disk"
            return 503, ("the store can't do it now", "STORE_BUSY", next_step)
        case _:
            return 500, ("a defect in the centre", "INTERNAL", "look at the centre's log")


def _sought(kind: str) -> str:
    if kind in {"command", "answer"}:
        return "ask the device again, like: skerry device logs DEVICE"
    if kind in {"silence", "receiver"}:
        return f"list what there is: skerry alert {'test' if kind == 'receiver' else kind}"
    return f"list what there is: skerry {kind} ls"


def _illegal(error: IllegalEventError) -> tuple[str, str, str]:
    word, _command = _WORDS.get(RolloutHappening(error.happening), (str(error.happening), ""))
    state = RolloutState(error.state)
    possible = [
        _WORDS[each][1]
        for each in ROLLOUT[state]
        if each in _WORDS and each not in {error.happening, *_AS_IT_IS}
    ]
    start = "nothing can be said of it any more; start another one: skerry rollout start"
    next_step = f"possible now: {', or '.join(possible)}" if possible else start
    because = f": {error.why}" if error.why else ""
    return f"{error.subject} is {state}: it can't be {word}{because}", _ILLEGAL, next_step


TOLD: tuple[type[Exception], ...] = (
    HTTPException,
    RequestValidationError,
    WireError,
    JoinRefusedError,
    PlanError,
    IllegalEventError,
    NotFoundError,
    AmbiguousError,
    ConflictError,
    RollUnreadError,
    OperationalError,
    Exception,
)
"""The errors that are answered; the last is a defect, and nobody's request's fault."""
