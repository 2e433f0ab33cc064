"""`/ca` and `/join`: how a device that knows only a token gets in."""

from fastapi import APIRouter, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from agent.wire import codec, v1
from fleet.api.parts import Parts
from fleet.api.refusals import answers
from fleet.identity.join import join


def routes(parts: Parts) -> APIRouter:
    """Return the routes for devices that have no identity yet."""
    router = APIRouter(tags=["joining"])

    @router.get(
        "/ca",
        operation_id="getCa",
        summary="The fleet's certificate authority, as PEM",
        response_class=Response,
        responses={200: {"content": {"application/x-pem-file": {"schema": {"type": "string"}}}}},
    )
    async def ca() -> Response:
        """Anyone may read it; a join token's second part is what to check it against."""
        return Response(parts.authority.pem, media_type="application/x-pem-file")

    @router.post(
        "/join",
        operation_id="join",
        summary="Join with a one-time token and a signing request",
        response_model=v1.JoinAnswer,
        responses=answers(403, 409, body=True),
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {"schema": {"$ref": "#/components/schemas/JoinRequest"}}
                },
            }
        },
    )
    async def enter(request: Request) -> Response:
        """The body is a `skerry.join-request` document of the wire, and so is the answer."""
        asked = codec.decode(await request.body(), v1.JoinRequest)
        answer = await run_in_threadpool(
            join,
            asked,
            authority=parts.authority,
            store=parts.store,
            reachable=parts.reachable,
            now=parts.clock(),
        )
        return Response(codec.encode(answer), media_type="application/json")

    return router
