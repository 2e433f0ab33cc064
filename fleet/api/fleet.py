"""`/api/v1/fleet`: the whole fleet in one document."""

from fastapi import APIRouter

from fleet.api.glance import Glance
from fleet.api.look import FleetShown
from fleet.api.refusals import answers


def routes(glance: Glance) -> APIRouter:
    """Return the route about the fleet."""
    router = APIRouter(prefix="/api/v1/fleet", tags=["fleet"])

    @router.get("", operation_id="getFleet", responses=answers(401))
    def now() -> FleetShown:
        """Show the fleet: how many devices are how, what serves, what moves, what needs you."""
        return glance.look().shown

    return router
