"""What applying documents would change, document by document: read, compared, not yet done.

All documents are read and compared before the first is carried out, so that a mistake in the
last one leaves everything as it is. Policies come first, since rollouts may name them.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.wire.v1 import DeviceSettings
from fleet.cli.screen import CommandError, ExitCode
from fleet.cli.yaml_documents import Document, Reading, documents_in
from fleet.client import Centre
from fleet.rollouts.declared import Declared
from fleet.rollouts.errors import PlanReason
from fleet.wording import before_steps, change, devices

if TYPE_CHECKING:
    from pydantic import BaseModel

DOCUMENTS_LIMIT = 200
"""Each asks the centre at least once; a plan is in the answer for each rollout."""

FilesOption = Annotated[
    list[Path],
    typer.Option(
        "--file",
        "-f",
        metavar="FILE",
        help="YAML documents, or a folder with .yaml files; more than once.",
    ),
]

_NEXT = "write it as docs/pipelines.md shows"


class Does(StrEnum):
    """What applying a document does."""

    CREATE = "create"
    CHANGE = "change"
    START = "start"
    NOTHING = "nothing"
    HELD = "held"

    @property
    def changes(self) -> bool:
        """Whether anything is different afterwards."""
        return self not in (Does.NOTHING, Does.HELD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What applying one document does, in words, and what the centre is sent for it.

    `device` is the id of the one that it is about, if it is. `rollout` is the newest one of the
    same wish, or the one that was started; `plan` is that
    of a rollout to be started.
    """

    document: Document
    name: str
    does: Does
    what: str
    body: Mapping[str, object]
    device: str = ""
    rollout: str | None = None
    plan: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def kind(self) -> str:
        """The document's kind."""
        return str(self.document.found["kind"])

    def shown(self) -> dict[str, object]:
        """Return it as JSON."""
        return {
            "file": str(self.document.reading.path),
            "document": self.document.number,
            "line": self.document.line,
            "kind": self.kind,
            "name": self.name,
            "does": self.does,
            "what": self.what,
            "rollout": self.rollout,
            "plan": None if self.plan is None else self.plan["digest"],
        }


def compared(api: Centre, paths: Sequence[Path]) -> list[Change]:
    """Return what each document would change, in the order in which they are carried out.

    Raises:
        CommandError: one can't be read, or is refused by the centre; nothing has been changed.
    """
    read = _read(paths)
    policies = {said["name"]: said for kind, _, said in read if kind == "policy"}
    changes = []
    for kind, document, said in read:
        with at(document):
            match kind:
                case "policy":
                    changes.append(_policy(api, document, said))
                case "device":
                    changes.append(_device(api, document, said))
                case _:
                    own = said["own_policy"] or policies.get(said["policy"])
                    changes.append(_rollout(api, document, {**said, "own_policy": own}))
    _refuse_one_by_two_names(changes)
    _refuse_rivals(changes)
    return changes


@contextmanager
def at(document: Document) -> Iterator[None]:
    """Say of what the centre refuses which document it is about."""
    try:
        yield
    except CommandError as error:
        if error.exit_code in (ExitCode.UNREACHABLE, ExitCode.NOT_ALLOWED):
            raise
        where = f"{document.reading.path}, document {document.number}, line {document.line}"
        raise CommandError(
            f"{where}: {error.what}", error.why, error.next_step, error.exit_code
        ) from error


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(each for each in path.iterdir() if each.suffix in (".yaml", ".yml"))
        else:
            yield path


def _read(paths: Sequence[Path]) -> list[tuple[str, Document, dict[str, Any]]]:
    """Read all documents; return what each says, policies first and rollouts last."""
    from fleet.api.documents import DeviceDocument, RolloutDocument  # noqa: PLC0415  # takes a second
    from fleet.api.policies import PolicyWish  # noqa: PLC0415

    kinds: dict[str, type[BaseModel]] = {
        "policy": PolicyWish,
        "device": DeviceDocument,
        "rollout": RolloutDocument,
    }
    read: list[tuple[str, Document, dict[str, Any]]] = []
    for path in _files(paths):
        reading = Reading(path=path, what="documents of a fleet", next_step=_NEXT)
        for document in documents_in(reading):
            kind = document.found.get("kind")
            if not isinstance(kind, str) or kind not in kinds:
                why = f"line {document.line}, kind: it is one of {', '.join(kinds)}"
                raise reading.wrong(f"MALFORMED: {why}")
            said = document.checked(kinds[kind]).model_dump(mode="json")
            read.append((kind, document, said))
    if not read:
        raise CommandError(
            "there is no document in what was given",
            "USAGE: a folder is read for .yaml and .yml files",
            "name files: -f FILE",
            ExitCode.USAGE,
        )
    if len(read) > DOCUMENTS_LIMIT:
        raise CommandError(
            f"{len(read)} documents are too many at once",
            f"TOO_LARGE: at most {DOCUMENTS_LIMIT}",
            "apply them in parts: -f FILE",
            ExitCode.USAGE,
        )
    _refuse_twice(read)
    order = list(kinds)
    return sorted(read, key=lambda each: order.index(each[0]))


def _refuse_twice(read: Sequence[tuple[str, Document, Mapping[str, Any]]]) -> None:
    """Refuse two documents that say the same thing's name: the last one would win unseen."""
    seen: dict[tuple[str, str], Document] = {}
    for kind, document, said in read:
        if kind == "rollout":
            continue
        first = seen.setdefault((kind, said["name"]), document)
        if first is not document:
            why = f"line {document.line}: {kind} {said['name']} is said twice, first in"
            raise document.reading.wrong(
                f"MALFORMED: {why} {first.reading.path}, line {first.line}"
            )


def _policy(api: Centre, document: Document, said: Mapping[str, Any]) -> Change:
    name = said["name"]
    try:
        held = api.get("api", "v1", "policies", name)["document"]
    except CommandError as error:
        if error.exit_code is not ExitCode.NOT_FOUND:
            raise
        does, what = Does.CREATE, _many(len(said["waves"]), "wave")
    else:
        # What a newer centre kept, and is not known here, goes too: with it, it can't be used.
        moved = [key for key in {**said, **held} if said.get(key) != held.get(key)]
        does = Does.CHANGE if moved else Does.NOTHING
        what = ", ".join(moved) or "as it is kept"
    return Change(document=document, name=name, does=does, what=what, body=said)


def _device(api: Centre, document: Document, said: Mapping[str, Any]) -> Change:
    found = api.get("api", "v1", "devices", said["name"])
    held = asdict(DeviceSettings()) if found["desired"] is None else found["desired"]["settings"]
    body = {
        key: value
        for key, value in said.items()
        if value is not None and key not in ("kind", "name", "reason")
    }
    # 0 bytes a second, or no window, take a bound away, and are kept as none.
    moved = {key: value for key, value in body.items() if (value or None) != (held[key] or None)}
    return Change(
        document=document,
        name=found["name"],
        does=Does.CHANGE if moved else Does.NOTHING,
        what=", ".join(moved) or "as it is wanted",
        body={**body, "reason": said["reason"]},
        device=found["id"],
    )


def _rollout(api: Centre, document: Document, said: Mapping[str, Any]) -> Change:
    body = {key: value for key, value in said.items() if key != "kind"}
    found = api.post("api", "v1", "rollouts", "diff", body=body)
    plan, last, does = found["plan"], found["last"], Declared(found["does"])
    what = change(plan["bundle"], before_steps(plan["steps"]))
    match does:
        case Declared.START:
            what += f" to {devices(len(plan['steps']))}"
        case Declared.HELD:
            what += f": {last['id']} is {last['state']}"
        case _ if plan["steps"]:
            what += f": {last['id']} is {last['state']}"
        case _ if not plan["excluded"]:
            what += ": matches no device"
        case _:
            what += ": nobody is to get it anew"
    return Change(
        document=document,
        name=plan["deployment"],
        does=Does(does.value),
        what=what,
        body=body,
        rollout=None if last is None else last["id"],
        plan=plan,
    )


def _refuse_one_by_two_names(changes: Sequence[Change]) -> None:
    """Refuse two documents about one device, by name and by id: each would undo the other."""
    seen: dict[str, Change] = {}
    for each in changes:
        if each.kind != "device":
            continue
        first = seen.setdefault(each.device, each)
        if first is not each:
            where = f"{first.document.reading.path}, line {first.document.line}"
            raise each.document.reading.wrong(
                f"MALFORMED: line {each.document.line}: {each.name} is said twice, first in {where}"
            )


def _refuse_rivals(changes: Sequence[Change]) -> None:
    """Refuse two rollouts that would take a device from each other each time they are applied."""
    owners: dict[tuple[str, str], Change] = {}
    for each in changes:
        if each.plan is None:
            continue
        reached = [step["target"] for step in each.plan["steps"]]
        for left in each.plan["excluded"]:
            reached += [left["target"]] if left["reason"] == PlanReason.NO_CHANGE else []
        for target in reached:
            first = owners.setdefault((each.name, target), each)
            if first is not each:
                where = f"{first.document.reading.path}, line {first.document.line}"
                raise each.document.reading.wrong(
                    f"CONFLICT: line {each.document.line}: {where} says what {target} is to "
                    f"serve as {each.name}, too",
                    ExitCode.CONFLICT,
                )


def _many(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
