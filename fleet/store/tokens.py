"""Join tokens: kept as a hash, expiring, counted. One statement counts a use and is the check."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Row, Select, insert, select, update

from fleet.store.errors import TokenRefusedError, TokenState
from fleet.store.tables import sites, tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A join token without its secret. `site` and `labels` go to whoever joins with it."""

    id: str
    hash: str
    site: str | None
    labels: Mapping[str, str]
    uses: int
    uses_limit: int
    created_at: str
    expires_at: str
    site_name: str | None = None

    def state(self, now: str) -> TokenState:
        """Say whether it lets anyone in at `now`."""
        if self.expires_at <= now:
            return TokenState.EXPIRED
        return TokenState.USED if self.uses >= self.uses_limit else TokenState.VALID


def add(connection: Connection, token: Token) -> None:
    """Add a token."""
    connection.execute(
        insert(tokens).values(
            id=token.id,
            hash=token.hash,
            site=token.site,
            labels=dict(token.labels),
            uses=token.uses,
            uses_limit=token.uses_limit,
            created_at=token.created_at,
            expires_at=token.expires_at,
        )
    )


def every(connection: Connection) -> Sequence[Token]:
    """Return all tokens, the newest first."""
    query = _tokens().order_by(tokens.c.created_at.desc(), tokens.c.id)
    return [_token(row) for row in connection.execute(query)]


def check(connection: Connection, token_hash: str, *, now: str) -> Token:
    """Return the token if it would let a device in now. Nothing is counted.

    Raises:
        TokenRefusedError: it is unknown, used up or expired.
    """
    row = connection.execute(_tokens().where(tokens.c.hash == token_hash)).one_or_none()
    if row is None:
        raise TokenRefusedError(TokenState.UNKNOWN)
    token = _token(row)
    state = token.state(now)
    if state is not TokenState.VALID:
        raise TokenRefusedError(state)
    return token


def use(connection: Connection, token_hash: str, *, now: str) -> None:
    """Count one use, if there is one left: the statement itself is the check.

    Raises:
        TokenRefusedError: it is unknown, used up or expired; nothing was counted.
    """
    counted = connection.execute(
        update(tokens)
        .where(
            tokens.c.hash == token_hash,
            tokens.c.uses < tokens.c.uses_limit,
            tokens.c.expires_at > now,
        )
        .values(uses=tokens.c.uses + 1)
    )
    if counted.rowcount != 1:
        check(connection, token_hash, now=now)
        raise TokenRefusedError(TokenState.USED)


def _tokens() -> Select[*tuple[object, ...]]:
    return select(tokens, sites.c.name.label("site_name")).join(
        sites, tokens.c.site == sites.c.id, isouter=True
    )


def _token(row: Row[*tuple[object, ...]]) -> Token:
    return Token(
        id=row.id,
        hash=row.hash,
        site=row.site,
        labels=row.labels,
        uses=row.uses,
        uses_limit=row.uses_limit,
        created_at=row.created_at,
        expires_at=row.expires_at,
        site_name=row.site_name,
    )
