"""The folder of one device: where what is in it is. Loads nothing."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Home:
    """The folder of one device."""

    path: Path

    @property
    def identity(self) -> Path:
        """What joining made; it appears whole or not at all."""
        return self.path / "identity"

    @property
    def ledger(self) -> Path:
        """What must not be forgotten."""
        return self.path / "ledger.db"

    @property
    def store(self) -> Path:
        """Bundles, as an OCI image layout."""
        return self.path / "store"

    @property
    def lock(self) -> Path:
        """Held by the agent that runs here, with its process id in it."""
        return self.path / "lock"

    @property
    def hold(self) -> Path:
        """There while a technician holds this device: why, and since when."""
        return self.path / "hold.json"

    @property
    def lifted(self) -> Path:
        """Digests that a technician wants out of quarantine; gone once they are."""
        return self.path / "lifted.json"

    @property
    def applied(self) -> Path:
        """A signed desired document that somebody brought on a stick; gone once it was judged."""
        return self.path / "applied.json"

    @property
    def expected(self) -> Path:
        """Digests that a stick brings into the store, kept until its document was judged."""
        return self.path / "expected.json"

    @property
    def rotten(self) -> Path:
        """Bundles that somebody found rotten in the store; gone once the agent knows."""
        return self.path / "rotten.json"

    @property
    def glimpse(self) -> Path:
        """What only the running agent knows of what serves; means nothing where none runs."""
        return self.path / "glimpse.json"

    @property
    def log(self) -> Path:
        """The ring of log files."""
        return self.path / "log"

    @property
    def policy(self) -> Path:
        """What the centre may ask of this device, where its owner said something of it."""
        return self.path / "policy.json"

    @property
    def asked(self) -> Path:
        """Commands that were taken lately, and whether they were answered."""
        return self.path / "asked.json"
