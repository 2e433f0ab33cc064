"""What the demo's steps share: where things are, who runs, and what was measured so far."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fleet.demo.crew import Crew


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the demo was asked. Everything it makes is in `folder`.

    `tflite_python` is a Python that has the other runtime; None where there is none.
    """

    folder: Path
    devices: int
    port: int
    tflite_python: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """One device of the demo: its name and site, where it lives and answers, and its runtime."""

    name: str
    site: str
    home: Path
    port: int
    python: Path
    library: str


@dataclass(slots=True, kw_only=True)
class Stage:
    """The scene so far. The one mutable thing of the demo: each step adds what it made."""

    options: Options
    crew: Crew
    centre: Mapping[str, str] = field(default_factory=dict)
    accuracies: dict[str, dict[str, float]] = field(default_factory=dict)
    agents: list[Agent] = field(default_factory=list)
    answered: int = 0

    @property
    def centre_home(self) -> Path:
        """Where the centre keeps its trust, store and registry."""
        return self.options.folder / "centre"

    @property
    def models(self) -> Path:
        """Where the models are built."""
        return self.options.folder / "models"

    @property
    def bundles(self) -> Path:
        """Where the bundles are packed, as OCI image layouts."""
        return self.options.folder / "bundles"

    def skerry(self, *words: str | Path) -> list[str | Path]:
        """Return the command `skerry WORDS` of this installation."""
        return [Path(sys.executable).with_name("skerry"), *words]
