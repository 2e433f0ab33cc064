"""Where things are in a centre's home. Names only: nothing is opened here."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Home:
    """One centre's folder."""

    path: Path

    @property
    def trust(self) -> Path:
        """Keys and certificates; readable by the centre's user alone."""
        return self.path / "trust"

    @property
    def ca_key(self) -> Path:
        """The private key of the fleet's certificate authority."""
        return self.trust / "ca.key"

    @property
    def ca(self) -> Path:
        """The authority's certificate: what devices and operators verify us by."""
        return self.trust / "ca.pem"

    @property
    def server_key(self) -> Path:
        """The key of the API's, the registry's and the broker's TLS listeners."""
        return self.trust / "server.key"

    @property
    def server(self) -> Path:
        """Their certificate."""
        return self.trust / "server.pem"

    @property
    def centre_key(self) -> Path:
        """The key with which the centre itself is a client of the broker."""
        return self.trust / "centre.key"

    @property
    def centre(self) -> Path:
        """Its certificate, whose common name is `centre`."""
        return self.trust / "centre.pem"

    @property
    def desired_key(self) -> Path:
        """The key that signs what devices obey."""
        return self.trust / "desired.key"

    @property
    def desired_public(self) -> Path:
        """Its public half."""
        return self.trust / "desired.pub"

    @property
    def bundle_key(self) -> Path:
        """The key that signs bundles. May be moved to the engineer's machine."""
        return self.trust / "bundle.key"

    @property
    def bundle_public(self) -> Path:
        """Its public half: what publishing and devices verify bundles with."""
        return self.trust / "bundle.pub"

    @property
    def operator_token(self) -> Path:
        """The token operators and their tools show to the API."""
        return self.path / "operator.token"

    @property
    def store(self) -> Path:
        """The database."""
        return self.path / "store.db"

    @property
    def registry(self) -> Path:
        """The registry's OCI image layout."""
        return self.path / "registry"

    @property
    def broker(self) -> Path:
        """The supervised broker's configuration and memory."""
        return self.path / "broker"

    @property
    def receivers(self) -> Path:
        """Who is told of alerts; written by a person, and not there by default."""
        return self.path / "receivers.toml"

    @property
    def lock(self) -> Path:
        """Held by the one centre that runs on this home."""
        return self.path / "lock"

    @property
    def running(self) -> Path:
        """Where the centre that runs on this home listens, as JSON; gone when it stopped."""
        return self.path / "running.json"
