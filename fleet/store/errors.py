"""What the store may refuse, sorted by what the caller may do about it."""

from enum import StrEnum

from agent.wire import v1


class StoreError(Exception):
    """Something the store won't do."""


class SchemaTooNewError(StoreError):
    """The database was written by a newer Skerry: this one would not understand it."""


class NotFoundError(StoreError):
    """There is no such thing. `kind` and `name` say what was looked for."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"no {kind} {name!r}")
        self.kind = kind
        self.name = name


class AmbiguousError(StoreError):
    """More than one thing has this name: use the id."""

    def __init__(self, kind: str, name: str, ids: tuple[str, ...]) -> None:
        super().__init__(f"{len(ids)} {kind}s are called {name!r}: {', '.join(ids[:5])}")
        self.kind = kind
        self.name = name
        self.ids = ids


class ConflictError(StoreError):
    """It is there already, and is something else."""

    code = "CONFLICT"
    next_step = "use another name, or leave it as it is"


class AlertOverError(ConflictError):
    """Nobody needs to be on an alert that is over."""

    next_step = "nothing is left to do for it; what is open: skerry alert ls"

    def __init__(self, alert: str) -> None:
        super().__init__(f"{alert} is over")


class TooManyError(ConflictError):
    """More than is kept or done at once; `next_step` says how to ask for less."""

    code = "TOO_MANY"

    def __init__(self, what: str, next_step: str) -> None:
        super().__init__(what)
        self.next_step = next_step


class OrderConflictError(ConflictError):
    """A desired document whose (epoch, generation) is not newer than the one held."""

    def __init__(self, target: str, held: v1.Order, offered: v1.Order) -> None:
        super().__init__(
            f"{target} is at ({held.epoch}, {held.generation});"
            f" ({offered.epoch}, {offered.generation}) is not newer"
        )
        self.target = target
        self.held = held
        self.offered = offered


class TokenState(StrEnum):
    """Whether a token lets anyone in."""

    VALID = "valid"
    UNKNOWN = "unknown"
    USED = "used"
    EXPIRED = "expired"


class TokenRefusedError(StoreError):
    """A join token that is unknown, used up or expired; `state` says which."""

    def __init__(self, state: TokenState) -> None:
        super().__init__(f"the token is {state}")
        self.state = state
