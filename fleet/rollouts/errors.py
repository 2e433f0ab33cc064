"""Why nothing can be planned, or a target gets nothing. Pure."""

from enum import StrEnum

from agent.wire.reasons import Reason


class PlanReason(StrEnum):
    """Why a target is left out, or nothing can be planned, beside the reasons of the wire."""

    NO_CHANGE = "NO_CHANGE"
    DEPLOYMENTS_LIMIT = "DEPLOYMENTS_LIMIT"
    FACTS_UNKNOWN = "FACTS_UNKNOWN"
    TARGET_UNKNOWN = "TARGET_UNKNOWN"
    TARGET_AHEAD = "TARGET_AHEAD"
    BUNDLE_UNKNOWN = "BUNDLE_UNKNOWN"
    POLICY_UNKNOWN = "POLICY_UNKNOWN"
    SELECTOR_MALFORMED = "SELECTOR_MALFORMED"
    PLAN_CHANGED = "PLAN_CHANGED"
    OVERTAKEN = "OVERTAKEN"


class PlanError(Exception):
    """Nothing can be planned, or a plan can't be carried out; `reason` says why."""

    def __init__(self, reason: PlanReason | Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
