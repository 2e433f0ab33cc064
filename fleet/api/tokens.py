"""`/api/v1/tokens`: make a join token, list those there are. A secret is shown once."""

import secrets
from datetime import timedelta

from fastapi import APIRouter
from pydantic import BaseModel, Field, field_validator

from agent.wire.limits import LABELS_LIMIT
from agent.wire.v1.checks import check_name, check_pairs
from fleet.api.access import OPERATOR
from fleet.api.parts import Parts
from fleet.api.refusals import answers
from fleet.api.wish import Wish
from fleet.clock import written
from fleet.identity.join import new_id
from fleet.identity.tokens import JoinToken
from fleet.store import audit, devices, tokens
from fleet.store.errors import TokenState


class TokenRequest(Wish):
    """A join token that is wanted."""

    uses: int = Field(1, ge=1, le=100_000, description="How many devices may join with it.")
    valid_s: int = Field(
        3600, ge=60, le=30 * 86400, description="For how long. An hour: long enough to walk over."
    )
    site: str | None = Field(None, description="The site whose devices join with it.")
    labels: dict[str, str] = Field({}, description="Labels each of them gets.")

    @field_validator("site")
    @classmethod
    def _check_site(cls, site: str | None) -> str | None:
        if site is not None:
            check_name(site)
        return site

    @field_validator("labels")
    @classmethod
    def _check_labels(cls, labels: dict[str, str]) -> dict[str, str]:
        check_pairs("labels", labels, LABELS_LIMIT)
        if any(name.startswith("skerry/") for name in labels):
            raise ValueError("names under skerry/ are facts, which devices say themselves")
        return labels


class TokenSummary(BaseModel):
    """A join token without its secret."""

    id: str
    state: TokenState
    site: str | None
    labels: dict[str, str]
    uses: int
    uses_limit: int
    created_at: str
    expires_at: str


class NewToken(TokenSummary):
    """A join token that was just made. This is the only time its text is shown."""

    token: str


class TokenList(BaseModel):
    """All join tokens."""

    tokens: list[TokenSummary]


def routes(parts: Parts) -> APIRouter:
    """Return the routes about join tokens."""
    router = APIRouter(prefix="/api/v1/tokens", tags=["joining"])

    @router.post("", operation_id="createToken", status_code=201, responses=answers(401, body=True))
    def create(asked: TokenRequest) -> NewToken:
        """Make a join token."""
        now = parts.clock()
        text = JoinToken(ca_sha256=parts.authority.ca_sha256, secret=secrets.token_urlsafe(24))
        with parts.store.write() as connection:
            site = None
            if asked.site is not None:
                site = devices.site_named(
                    connection, asked.site, new_id=new_id("s-"), now=written(now)
                )
            made = tokens.Token(
                id=text.id,
                hash=text.hash,
                site=None if site is None else site.id,
                site_name=None if site is None else site.name,
                labels=asked.labels,
                uses=0,
                uses_limit=asked.uses,
                created_at=written(now),
                expires_at=written(now + timedelta(seconds=asked.valid_s)),
            )
            tokens.add(connection, made)
            audit.add(
                connection,
                audit.Entry(
                    at=written(now),
                    actor=OPERATOR,
                    action="token.create",
                    subject=made.id,
                    after=asked.model_dump(),
                ),
            )
        return NewToken(**dict(_summary(made, written(now))), token=str(text))

    @router.get("", operation_id="listTokens", responses=answers(401))
    def every() -> TokenList:
        """List all join tokens, the newest first."""
        with parts.store.read() as connection:
            found = tokens.every(connection)
        now = written(parts.clock())
        return TokenList(tokens=[_summary(token, now) for token in found])

    return router


def _summary(token: tokens.Token, now: str) -> TokenSummary:
    return TokenSummary(
        id=token.id,
        state=token.state(now),
        site=token.site_name,
        labels=dict(token.labels),
        uses=token.uses,
        uses_limit=token.uses_limit,
        created_at=token.created_at,
        expires_at=token.expires_at,
    )
