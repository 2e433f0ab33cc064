"""The kinds of documents that `skerry apply` takes, beside `policy`: what they may say.

Each is what the API takes for the same thing, under a `kind`; so they are checked by the same
rules, and there is no second list of fields.
"""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from agent.wire.v1.checks import check_name
from fleet.api.rollouts import RolloutWish
from fleet.api.settings import SettingsWish
from fleet.selector import asked


class RolloutDocument(RolloutWish):
    """A bundle that is to serve under a name on whom it says, however far that is now."""

    kind: Literal["rollout"] = Field(description="What the document is.")

    @field_validator("deployment")
    @classmethod
    def _check_deployment(cls, deployment: str) -> str:
        check_name(deployment)
        return deployment

    @field_validator("selector")
    @classmethod
    def _check_selector(cls, selector: str | None) -> str | None:
        if selector is not None:
            asked(selector)
        return selector

    @model_validator(mode="after")
    def _names_somebody(self) -> Self:
        if self.selector is None and not self.targets:
            raise ValueError("it names nobody: say a selector, `all`, or targets")
        return self

    def wish(self) -> dict[str, object]:
        """Return what the API takes."""
        return self.model_dump(mode="json", exclude={"kind"})


class DeviceDocument(SettingsWish):
    """How a device itself runs. What is left out is none of the document's business."""

    kind: Literal["device"] = Field(description="What the document is.")
    name: str = Field(max_length=256, description="The device's name or id.")

    def wish(self) -> dict[str, object]:
        """Return what the API takes, without what is left out and the reason."""
        left = {"kind", "name", "reason"}
        return self.model_dump(mode="json", exclude=left, exclude_none=True)
