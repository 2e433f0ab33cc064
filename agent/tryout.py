"""Which way a bundle serves here, and with how many workers: tried, measured, chosen."""

from collections.abc import Sequence
from dataclasses import replace

import structlog

from agent import choice, pooling
from agent.errors import StepError
from agent.ports import Floor, Supply
from agent.state import Installed, Measured
from agent.wire import v1

_log = structlog.get_logger()


class Tryout:
    """Measures on this device what a bundle could serve as. Nothing that serves is touched."""

    def __init__(self, supply: Supply, floor: Floor) -> None:
        self._supply, self._floor = supply, floor

    async def best(self, wanted: v1.Deployment, *, deployments: int, last_try: bool) -> Installed:
        """Try every way a bundle can serve here, and return the one to take.

        Args:
            wanted: the deployment, whose bundle is here.
            deployments: how many share this device.
            last_try: whether a way whose worker crashes or hangs is out, and not tried again.

        Raises:
            StepError: no way is left, or it could not be tried.
        """
        bearable = choice.OF_THE_WAY | (choice.OF_THE_WAY_IN_THE_END if last_try else frozenset())
        tried: list[Installed] = []
        found: list[Measured] = []
        for way in await self._supply.stage(wanted):
            if choice.hopeless(way, found):
                continue
            tried.append(way)
            try:
                found.append(await self._floor.test(way))
            except StepError as error:
                if error.reason not in bearable:
                    raise
                found.append(choice.failed(way, error.reason, str(error)))
        chosen = await self._sized(_chosen(tried, found, wanted.settings), deployments)
        await _log.ainfo("chosen", deployment=wanted.name, why=chosen.why)
        return chosen

    async def _sized(self, way: Installed, deployments: int) -> Installed:
        """Return the way with as many workers as are worth their cores and memory here."""
        counts, why = pooling.counts(way, cores=self._floor.cores, deployments=deployments)
        found = await self._floor.pace(way, counts) if len(counts) > 1 else ()
        return (
            pooling.sized(way, found)
            if found
            else replace(way, workers=counts[0], why=f"{way.why}; {why}")
        )


def _chosen(
    tried: Sequence[Installed], found: Sequence[Measured], settings: v1.DeploymentSettings
) -> Installed:
    budget = choice.Budget(
        latency_s=settings.latency_budget_s, memory_bytes=settings.memory_budget_bytes
    )
    chosen = choice.choose(tried, found, budget)
    if chosen is None:
        reason, message, numbers = choice.refusal(found, budget)
        raise StepError(reason, message[:250], numbers)
    return chosen
