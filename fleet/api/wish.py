"""What every body that is sent to the API has in common: nothing in it is passed over.

A name that is misspelt would otherwise be a wish that nobody hears: a rollout to other devices,
or without its shadow. The wire is the other way about, since a device must pass over what is
newer than itself; its dataclasses are strict only inside such a body.
"""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Self, get_args, get_type_hints

from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

_UNKNOWN = frozenset({"extra_forbidden", "unexpected_keyword_argument"})
"""As pydantic calls it in a model, and in a dataclass."""


class Wish(BaseModel):
    """A body of a request. Fields that it does not have are refused, at any depth."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="wrap")
    @classmethod
    def _say_what_there_is(cls, given: object, check: ModelWrapValidatorHandler[Self]) -> Self:
        """Refuse a field that is not known before anything else, and name those that are."""
        try:
            return check(given)
        except ValidationError as error:
            unknown = [each["loc"] for each in error.errors() if each["type"] in _UNKNOWN]
            if not unknown:
                raise
            told = [InitErrorDetails(type=_told(cls, at), loc=at, input=None) for at in unknown]
            raise ValidationError.from_exception_data(error.title, told) from None


def _told(wish: type[Wish], at: Sequence[int | str]) -> PydanticCustomError:
    known, within = list(wish.model_fields), get_type_hints(wish)
    for part in at[:-1]:
        if (found := _object_in(within.get(str(part)))) is not None:
            known, within = [each.name for each in fields(found)], get_type_hints(found)
    return PydanticCustomError(
        "unknown_field", "there is no such field, only {known}", {"known": ", ".join(known)}
    )


def _object_in(hint: Any) -> Any:  # noqa: ANN401  # a type, or what is written as one
    """Return the dataclass in a type like `list[Window] | None`; None: there is none."""
    if is_dataclass(hint):
        return hint
    return next(filter(None, map(_object_in, get_args(hint))), None)
