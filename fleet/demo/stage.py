"""What the demo's steps share: where things are, who runs, and what was measured so far."""

import asyncio
import json
import struct
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleet.cli.screen import CommandError
from fleet.client import Centre, Connection
from fleet.demo.crew import ClaimError, Crew
from fleet.demo.load import Load, check_no_failure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet.demo.client import Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the demo was asked. Everything it makes is in `folder`.

    `tflite_python` is a Python that has the other runtime; None where there is none,
    and `tflite_lacks` says why.
    """

    folder: Path
    devices: int
    port: int
    tflite_python: Path | None
    tflite_lacks: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """One device of the demo: its name and site, where it lives and answers, and its runtime."""

    name: str
    site: str
    home: Path
    port: int
    python: Path
    library: str

    def command(self, *words: str | Path) -> list[str | Path]:
        """Return the command `skerry-agent WORDS` of this device's installation."""
        return [self.python, "-P", "-m", "agent", *words, "--home", self.home]


class Stage:
    """The scene so far. The one mutable thing of the demo: each step adds what it made.

    `accuracies` are by version (and `float32`) and runtime; `answers` are what each device
    answers to the first rows, by version; `given` counts all inferences, `spared` those that
    could not be: their device was dead because we had killed it. `devices` are shown at the
    end, as the centre knew them at `as_of`.
    """

    def __init__(self, options: Options, crew: Crew, until: ExitStack) -> None:
        """Begin with nothing but what was asked; `until` is closed when all is over."""
        self.options = options
        self.crew = crew
        self.centre: Mapping[str, str] = {}
        self.centre_argv: list[str | Path] = []
        self.agents: list[Agent] = []
        self.ids: Mapping[str, str] = {}
        self.accuracies: dict[str, dict[str, float]] = {}
        self.answers: dict[str, dict[str, list[Answer]]] = {}
        self.given = 0
        self.spared = 0
        self.devices: list[dict[str, Any]] = []
        self.as_of = ""
        self._until = until
        self._api: Centre | None = None
        self._load: Load | None = None
        self._held_back: tuple[list[bytes], list[int]] | None = None

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

    @property
    def load(self) -> Load:
        """The clients that ask all the time; only once they do."""
        if self._load is None:
            raise RuntimeError("nobody asks yet")
        return self._load

    @load.setter
    def load(self, load: Load) -> None:
        self._load = load
        self._until.callback(load.close)

    def check_load(self, claim: str) -> None:
        """Check that no request has failed yet, if anybody asks at all.

        Raises:
            ClaimError: some did.
        """
        if self._load is not None:
            for name, failed in self._load.failures().items():
                check_no_failure(claim, name, failed)

    def skerry(self, *words: str | Path) -> list[str | Path]:
        """Return the command `skerry WORDS` of this installation."""
        return [Path(sys.executable).with_name("skerry"), *words]

    async def look(self, claim: str, *path: str, **query: str) -> Any:  # noqa: ANN401  # JSON, by the API's reference
        """Return what the centre's API has at `/api/v1/PATH`.

        Raises:
            ClaimError: the centre refuses, or can't be reached.
        """
        if self._api is None:
            where = Connection.find(home=self.centre_home, url=None, token_file=None, ca=None)
            self._api = self._until.enter_context(Centre(where))
        try:
            return await asyncio.to_thread(self._api.get, "api", "v1", *path, query=query)
        except CommandError as error:
            raise ClaimError(claim, f"{error.what}: {error.why}") from error

    def held_back(self) -> tuple[list[bytes], list[int]]:
        """Return the held-back rows as the models take them, and the right answers."""
        if self._held_back is None:
            content = json.loads((self.models / "rows.json").read_text())
            rows = [struct.pack(f"<{len(row)}f", *row) for row in content["rows"]]
            self._held_back = rows, content["answers"]
        return self._held_back
