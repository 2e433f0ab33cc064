"""Bundles on this device: fetched by a child, chosen by fit, collected when nothing needs them."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from agent.children.converse import converse
from agent.choice import thread_counts
from agent.clock import now
from agent.errors import StepError
from agent.fetch.job import Credentials, FetchJob
from agent.home import Home
from agent.ports import Terms
from agent.state import Installed, Machine
from agent.vitals import available_bytes
from agent.wire import v1
from agent.wire.phases import Happening
from agent.wire.reasons import Reason
from models import card_codec
from models import manifest as oci
from models.card import Card
from models.errors import ModelError
from models.fit import Hardware, Misfits, fit
from models.layout import Layout
from models.limits import CARD_LIMIT_BYTES, MANIFEST_LIMIT_BYTES
from models.values import Digest, parse_digest

_FETCH_LIMIT_S = 3600.0
"""A fetch that took this long begins again where it stopped; only its child is a new one."""

_PARTIALS_AGE_S = 86400.0
"""Half a download that nothing wants: a rollback that is rolled forward again is within a day."""

_EXPECTED_LIMIT_BYTES = 256 * 1024
"""Some 3,000 digests; a document of 16 deployments leads to a few hundred."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where bundles come from, and whose signature they need."""

    registry_url: str
    keys: tuple[str, ...]
    credentials: Credentials


def read_card(layout: Layout, digest: str) -> tuple[oci.Manifest, Card]:
    """Return a bundle's manifest and card from the store. Blocking.

    Raises:
        StepError: not there, or not what it was.
    """
    try:
        manifest = oci.parse(layout.read(Digest(digest), MANIFEST_LIMIT_BYTES))
        return manifest, card_codec.parse(layout.read(manifest.config.digest, CARD_LIMIT_BYTES))
    except ModelError as error:
        raise StepError(error.reason, str(error)) from error


def expected(path: Path) -> frozenset[str]:
    """Return the digests that a stick is bringing, or has brought. Blocking."""
    try:
        with path.open("rb") as file:
            return frozenset(map(parse_digest, json.loads(file.read(_EXPECTED_LIMIT_BYTES))))
    except (OSError, ValueError, TypeError):
        return frozenset()


class StoreSupply:
    """The device's own store, filled from a registry."""

    def __init__(self, home: Home, origin: Origin, machine: Machine) -> None:
        self._store, self._expected = home.store, home.expected
        self._origin, self._machine = origin, machine
        self._fetching = 0

    async def fetch(
        self,
        bundle: v1.BundleRef,
        terms: Terms,
        progress: Callable[[Happening], Awaitable[None]],
    ) -> None:
        """Bring a bundle into the store and verify it; see the port."""

        async def heard(_line: object) -> None:
            await progress(Happening.FETCHED)

        job = FetchJob(
            store=str(self._store),
            registry_url=self._origin.registry_url,
            name=bundle.name,
            digest=bundle.digest,
            keys=self._origin.keys,
            credentials=self._origin.credentials,
            rate_bytes_per_s=terms.rate_bytes_per_s,
            shut=terms.shut.reason if terms.shut else "",
            hardware=None if terms.served else self._hardware(),
        )
        self._fetching += 1
        try:
            await converse("agent.fetch", job.to_json(), deadline_s=_FETCH_LIMIT_S, progress=heard)
        except StepError as error:
            if terms.shut is None or error.reason != terms.shut.reason:
                raise
            shut = terms.shut
            raise StepError(shut.reason, shut.message, shut.parameters) from error
        finally:
            self._fetching -= 1

    async def stage(self, deployment: v1.Deployment) -> tuple[Installed, ...]:
        """Return the ways it can serve here; see the port."""
        _, card = await asyncio.to_thread(self._card, deployment.bundle.digest)
        fits = fit(card, self._hardware())
        if isinstance(fits, Misfits):
            raise StepError(fits.reason, fits.why[:250])
        wanted = deployment.settings.threads
        return tuple(
            Installed(
                deployment=deployment,
                variant=variant.digest,
                runtime=self._machine.runtime,
                accelerator=variant.requirements.accelerator,
                format=variant.format,
                threads=threads,
                workers=1 if card.stateful else deployment.settings.workers or 1,
                stateful=card.stateful,
                hardware=self._machine.hardware,
            )
            for variant in fits.variants
            for threads in thread_counts(
                wanted, self._machine.cores, variant.requirements.accelerator
            )
        )

    async def collect(self, keep: Collection[str]) -> None:
        """Free the store; not while a fetch is adding to it, whose parts nothing names yet."""
        if not self._fetching:
            await asyncio.to_thread(self._collect, frozenset(keep))

    def _hardware(self) -> Hardware:
        return Hardware(
            architecture=self._machine.architecture,
            memory_bytes=available_bytes(),
            runtime=self._machine.library,
            runtime_version=self._machine.library_version,
            accelerators=self._machine.accelerators,
        )

    def _card(self, digest: str) -> tuple[oci.Manifest, Card]:
        try:
            layout = Layout.create(self._store)
        except ModelError as error:
            raise StepError(error.reason, str(error)) from error
        return read_card(layout, digest)

    def _collect(self, wanted: frozenset[str]) -> None:
        keep = wanted | expected(self._expected)
        before_s = now().timestamp() - _PARTIALS_AGE_S
        try:
            layout = Layout.create(self._store)
            for entry in layout.entries():
                if entry.artifact_type == oci.MODEL_ARTIFACT_TYPE and entry.digest not in keep:
                    layout.forget(entry.digest)
            layout.collect((Digest(each) for each in keep), partials_before_s=before_s)
        except (ModelError, OSError) as error:
            raise StepError(getattr(error, "reason", Reason.INTERNAL), str(error)[:250]) from error
