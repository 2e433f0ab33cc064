"""When a period's health is worrying: the same at the centre and before the device. Pure."""

from agent.wire.v1.health import DeploymentHealth, Health

ERROR_SHARE = 0.02
"""Of a period's requests: the share above which the alert `SkerryModelErrors` fires, too."""

ERRORS_LEAST = 2
"""One failed request is an accident, however few there were."""

DISK_SHARE = 0.05
DISK_LEAST_BYTES = 1 << 30
"""A disk is nearly full when less than both is free: a small card is told of in time, and a large
disk not for nothing. Devices refuse to fetch what would leave less than 32 MiB."""


def fails_often(period: DeploymentHealth) -> bool:
    """Say whether too many of a deployment's requests failed."""
    return period.errors >= ERRORS_LEAST and period.errors > ERROR_SHARE * period.requests


def disk_nearly_full(health: Health) -> bool:
    """Say whether the disk is nearly full; not where it was not measured."""
    free, total = health.disk_free_bytes, health.disk_total_bytes
    if free is None or not total:
        return False
    return free < min(DISK_SHARE * total, DISK_LEAST_BYTES)
