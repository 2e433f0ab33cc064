"""The text a device joins with: `sk1.<sha256 of the CA certificate's DER>.<secret>`.

The middle part lets a device check the CA it is offered before it believes it;
the secret is kept only as its hash. Pure.
"""

import hashlib
import re
from dataclasses import dataclass, field

_TOKEN = re.compile(r"sk1\.([0-9a-f]{64})\.([A-Za-z0-9_-]{22,64})\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinToken:
    """A join token as it is handed to a person, once."""

    ca_sha256: str
    secret: str = field(repr=False)

    def __str__(self) -> str:
        return f"sk1.{self.ca_sha256}.{self.secret}"

    @property
    def hash(self) -> str:
        """What the store keeps of it: of so random a secret, one plain hash is enough."""
        return hashlib.sha256(self.secret.encode()).hexdigest()

    @property
    def id(self) -> str:
        """A short name for lists and the audit; says nothing about the secret."""
        return "t-" + self.hash[:12]

    @classmethod
    def parse(cls, text: str) -> "JoinToken":
        """Return the token written in `text`.

        Raises:
            ValueError: it is not of that form.
        """
        match = _TOKEN.match(text)
        if match is None:
            raise ValueError("not a join token: it begins with sk1. and has three parts")
        return cls(ca_sha256=match[1], secret=match[2])
