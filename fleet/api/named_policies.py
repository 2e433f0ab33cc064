"""`/api/v1/policies`: policies that the centre keeps under a name, beside those built in.

What is kept is the document; a rollout takes a copy of it, so that one that runs is not
changed by what is written or removed here.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, Field, ValidationError
from sqlalchemy import Connection

from agent.wire.reasons import Reason
from fleet.api.parts import Parts
from fleet.api.policies import PolicyWish
from fleet.api.refusals import answers
from fleet.clock import written
from fleet.rollouts.errors import PlanError, PlanReason
from fleet.rollouts.policy import BUILT_IN
from fleet.store import audit, policies

_Name = Annotated[str, Path(max_length=63)]
_Why = Annotated[str, Query(max_length=1000, description="Why, for the audit.")]


class PolicySummary(BaseModel):
    """One policy in a list."""

    name: str
    built_in: bool = Field(description="It can be neither changed nor removed.")
    waves: int
    written_at: str | None = Field(description="Null: it is built in.")


class PolicyList(BaseModel):
    """All policies: those built in, then the others by name."""

    policies: list[PolicySummary]


class PolicyShown(BaseModel):
    """A policy that is kept."""

    name: str
    document: dict[str, Any] = Field(description="As it was given, with every field written out.")
    written_at: str


def routes(parts: Parts, operator: object) -> APIRouter:
    """Return the routes about policies."""
    router = APIRouter(prefix="/api/v1/policies", tags=["rollouts"])

    @router.get("", operation_id="listPolicies", responses=answers(401))
    def every() -> PolicyList:
        """List all policies: those built in, then the others by name."""
        return listed(parts)

    @router.get("/{policy}", operation_id="getPolicy", responses=answers(401, 404))
    def one(policy: _Name) -> PolicyShown:
        """Show a policy that is kept."""
        with parts.store.read() as connection:
            return _shown(policies.named(connection, policy))

    @router.put("/{policy}", operation_id="putPolicy", responses=answers(401, 409, body=True))
    def put(
        policy: _Name, wish: PolicyWish, actor: Annotated[str, Depends(operator)], reason: _Why = ""
    ) -> PolicyShown:
        """Keep a policy under its name, instead of what it is now. No rollout changes by it."""
        if wish.name != policy:
            raise PlanError(Reason.MALFORMED, f"name: the document's is {wish.name}, not {policy}")
        return _put(parts, wish, actor, reason)

    @router.delete("/{policy}", operation_id="removePolicy", responses=answers(401, 404))
    def remove(
        policy: _Name, actor: Annotated[str, Depends(operator)], reason: _Why = ""
    ) -> PolicyShown:
        """Remove a policy that is kept, and return it. Rollouts that took it go on."""
        with parts.store.write() as connection:
            held = policies.named(connection, policy)
            policies.remove(connection, policy)
            entry = audit.Entry(
                at=written(parts.clock()),
                actor=actor,
                action="policy.remove",
                subject=policy,
                reason=reason,
                before=held.document,
            )
            audit.add(connection, entry)
        return _shown(held)

    return router


def listed(parts: Parts) -> PolicyList:
    """Return all policies: those built in, then the others by name."""
    with parts.store.read() as connection:
        kept = policies.every(connection)
    built_in = [
        PolicySummary(name=each.name, built_in=True, waves=len(each.waves), written_at=None)
        for each in BUILT_IN.values()
    ]
    ours = [
        PolicySummary(
            name=each.name,
            built_in=False,
            waves=len(each.document["waves"]),
            written_at=each.written_at,
        )
        for each in kept
    ]
    return PolicyList(policies=built_in + ours)


def found(connection: Connection, name: str) -> PolicyWish | None:
    """Return the policy that is kept under a name; None: it is built in.

    Raises:
        PlanError: there is none of this name, or this version can't read the one there is.
    """
    if name in BUILT_IN:
        return None
    kept = policies.find(connection, name)
    if kept is None:
        raise PlanError(
            PlanReason.POLICY_UNKNOWN,
            f"no policy {name[:80]!r} is built in ({', '.join(BUILT_IN)}) or kept",
        )
    try:
        return PolicyWish.model_validate(kept.document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise PlanError(
            PlanReason.POLICY_UNKNOWN,
            f"the policy {name} was written by another version: {where}: {first['msg']}",
        ) from error


def _put(parts: Parts, wish: PolicyWish, actor: str, reason: str) -> PolicyShown:
    now = written(parts.clock())
    document = wish.model_dump(mode="json")
    kept = policies.KeptPolicy(name=wish.name, document=document, written_at=now)
    with parts.store.write() as connection:
        held = policies.find(connection, wish.name)
        if held is not None and held.document == document:
            return _shown(held)
        policies.put(connection, kept)
        entry = audit.Entry(
            at=now,
            actor=actor,
            action="policy.put",
            subject=wish.name,
            reason=reason,
            before=None if held is None else held.document,
            after=document,
        )
        audit.add(connection, entry)
    return _shown(kept)


def _shown(kept: policies.KeptPolicy) -> PolicyShown:
    return PolicyShown(name=kept.name, document=dict(kept.document), written_at=kept.written_at)
