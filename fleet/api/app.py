"""The application: every route, every refusal in one shape, every body bounded."""

import importlib.metadata
import json
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from starlette.types import ASGIApp

from agent.wire import codec, v1
from fleet.api import (
    alerts,
    bundles,
    commands,
    declaring,
    device_why,
    devices,
    fleet,
    health,
    history,
    joining,
    lifeline,
    named_policies,
    refusals,
    rollouts,
    settings,
    tokens,
)
from fleet.api.bounds import Bounds
from fleet.api.glance import Glance
from fleet.api.parts import Parts
from fleet.registry.publish import publish_router
from fleet.registry.pull import pull_router
from fleet.store.doors import StoreBundles

_DESCRIPTION = (
    "The centre of a Skerry fleet. Operators send the operator token as a bearer token; "
    "devices show their client certificate. The registry under /v2/ is the pull half of the "
    "OCI distribution API."
)
_TAGS = [
    {"name": "joining", "description": "For devices: how they get in, where they answer."},
    {"name": "fleet", "description": "All of it at one look."},
    {"name": "devices", "description": "Devices and what is known of them."},
    {"name": "bundles", "description": "Models in the registry."},
    {"name": "registry", "description": "Publishing bundles: blobs first, then the bundle."},
    {"name": "rollouts", "description": "Bringing a bundle to devices."},
    {"name": "alerts", "description": "What is wrong, and who is told."},
    {"name": "centre", "description": "The centre itself."},
]


_REGISTRY_REFUSAL = {
    "title": "RegistryRefusal",
    "description": "The error body of the OCI distribution specification.",
    "type": "object",
    "required": ["errors"],
    "properties": {
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["code", "message"],
                "properties": {
                    "code": {"type": "string", "description": "A reason code."},
                    "message": {"type": "string"},
                    "detail": {},
                },
            },
        }
    },
}


class Healthy(BaseModel):
    """The centre answers."""

    status: str
    fleet: str
    version: str


def create(parts: Parts) -> FastAPI:
    """Return the application without its bounds: what the reference is written from."""
    version = importlib.metadata.version("skerry")
    app = FastAPI(
        title="Skerry",
        version=version,
        description=_DESCRIPTION,
        openapi_tags=_TAGS,
        openapi_url="/openapi.json",
        docs_url=None,  # they load scripts from elsewhere, and devices' networks have no elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    refusals.install(app)
    operator = parts.access.required()
    for_operators = [Depends(operator)]

    @app.get("/healthz", operation_id="getHealth", tags=["centre"])
    async def healthy() -> Healthy:
        """Say that the centre answers, and which fleet it is of."""
        return Healthy(status="ok", fleet=parts.authority.fleet, version=version)

    app.state.glance = Glance(parts)  # the pages look by the same
    app.include_router(joining.routes(parts))
    app.include_router(commands.answering(parts))
    app.state.whys = device_why.Whys(parts)
    app.include_router(device_why.routes(app.state.whys), dependencies=for_operators)
    for routes in (history.routes, tokens.routes, bundles.routes):
        app.include_router(routes(parts), dependencies=for_operators)
    app.include_router(fleet.routes(app.state.glance), dependencies=for_operators)
    app.include_router(devices.routes(parts, app.state.glance), dependencies=for_operators)
    app.include_router(health.routes(parts, app.state.glance), dependencies=for_operators)
    app.include_router(lifeline.routes(parts), dependencies=for_operators)
    app.include_router(declaring.routes(parts), dependencies=for_operators)
    for acting in (rollouts.routes, named_policies.routes, settings.routes, alerts.routes):
        app.include_router(acting(parts, operator), dependencies=for_operators)
    asking = commands.routes(parts, operator, app.state.glance)
    app.include_router(asking, dependencies=for_operators)
    app.include_router(pull_router(parts.content.layout, parts.access.reader))
    app.include_router(
        publish_router(
            parts.content.layout,
            parts.access.operator,
            keys=parts.content.keys,
            bundles=StoreBundles(parts.store, parts.clock),
        )
    )
    app.openapi = lambda: _reference(app)  # type: ignore[method-assign]  # as FastAPI documents it
    return app


def bounded(app: FastAPI) -> ASGIApp:
    """Return the application as it is served."""
    return Bounds(app)


def _reference(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            tags=app.openapi_tags,
            routes=app.routes,
        )
        # A document of the wire, decoded by the wire's own codec: FastAPI doesn't see it.
        written = json.dumps(codec.json_schema(v1.JoinRequest))
        asked = json.loads(written.replace("#/$defs/", "#/components/schemas/"))
        schemas = schema["components"]["schemas"]
        schemas.update(asked.pop("$defs", {}))
        schemas["JoinRequest"] = asked
        schemas["RegistryRefusal"] = _REGISTRY_REFUSAL
        for methods in schema["paths"].values():
            for route in methods.values():
                if "registry" in route.get("tags", ()):
                    _describe_refusals(route)
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        app.openapi_schema = schema
    return app.openapi_schema


def _describe_refusals(route: dict[str, Any]) -> None:
    """Say of a registry route what it answers where it refuses: it reads and answers by hand."""
    refused = {"$ref": "#/components/schemas/RegistryRefusal"}
    route["security"] = [{"operatorToken": []}]
    route["responses"] = {
        status: answer for status, answer in route["responses"].items() if status < "300"
    } | {
        "default": {
            "description": "Refused, with a reason code.",
            "content": {"application/json": {"schema": refused}},
        }
    }
