"""`/api/v1/rollouts/diff`: what applying a rollout as a document would do. Nothing is changed."""

from fastapi import APIRouter
from pydantic import BaseModel, Field

from fleet.api.parts import Parts
from fleet.api.plan_shown import PlanShown, plan_shown
from fleet.api.refusals import answers
from fleet.api.rollouts import RolloutWish, request_of
from fleet.observe import cards
from fleet.rollouts.declared import Declared, declared


class LastRollout(BaseModel):
    """The newest rollout of the same bundle to the same targets, with the same settings."""

    id: str
    state: str


class RolloutDiff(BaseModel):
    """What applying a rollout would do, and by which rollout that was decided."""

    does: Declared = Field(
        description="`start` one by this plan; `nothing`, where it is so already or under way; "
        "`held`: the last one was brought back, given up or failed, and a person must start it."
    )
    last: LastRollout | None = Field(description="Null: there was none.")
    plan: PlanShown


def routes(parts: Parts) -> APIRouter:
    """Return the route that compares a rollout with what there is."""
    router = APIRouter(prefix="/api/v1/rollouts", tags=["rollouts"])

    @router.post("/diff", operation_id="diffRollout", responses=answers(401, 404, 409, body=True))
    def diff(asked: RolloutWish) -> RolloutDiff:
        """Say whether this rollout is to be started, is there, or was refused. Nothing changes."""
        request = request_of(parts, asked)
        plan = parts.executor.plan(request)
        with parts.store.read() as connection:
            last = parts.executor.last(connection, request)
            shown = plan_shown(plan, cards(connection))
        return RolloutDiff(
            does=declared(plan, last),
            last=None if last is None else LastRollout(id=last.id, state=last.state),
            plan=shown,
        )

    return router
