"""YAML documents as JSON would have them, and where in the file each of their fields stands.

Nothing is built while they are read, and no alias is followed. What is wrong is told with
its line: by the reader, or by the model of its kind, whose words are the centre's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from fleet.cli.screen import CommandError, ExitCode

if TYPE_CHECKING:
    from pydantic import BaseModel

LIMIT_BYTES = 64 * 1024

Model = TypeVar("Model", bound="BaseModel")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A file that is read: as what, and what to do where it is not that."""

    path: Path
    what: str
    next_step: str

    def wrong(self, why: str, exit_code: ExitCode = ExitCode.USAGE) -> CommandError:
        """Return why the file is not what it is read as."""
        return CommandError(
            f"{self.path} can't be read as {self.what}", why, self.next_step, exit_code
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One document of a file: what it says, where it stands, the first being number 1."""

    reading: Reading
    number: int
    root: yaml.Node
    found: Mapping[str, Any]

    @property
    def line(self) -> int:
        """The line that it begins on."""
        return _line(self.root)

    def checked(self, model: type[Model]) -> Model:
        """Return what it says, as its kind has it.

        Raises:
            CommandError: it says what its kind can't be; with line and field.
        """
        from pydantic import ValidationError  # noqa: PLC0415  # for those who give a file

        try:
            return model.model_validate(self.found)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or str(self.found.get("kind"))
            what = first["msg"].removeprefix("Value error, ")
            line = _line(_at(self.root, first["loc"]))
            raise self.reading.wrong(f"MALFORMED: line {line}, {where}: {what}") from error


def documents_in(reading: Reading) -> list[Document]:
    """Return the documents of a file; those that are empty are passed over.

    Raises:
        CommandError: it can't be read, is too large, or is no YAML; with line and column.
    """
    try:
        with reading.path.open("rb") as file:
            raw = file.read(LIMIT_BYTES + 1)
    except OSError as error:
        raise reading.wrong(f"UNREADABLE: {error.strerror}") from error
    if len(raw) > LIMIT_BYTES:
        raise reading.wrong(f"TOO_LARGE: it may have at most {LIMIT_BYTES} bytes")
    documents = []
    for number, root in enumerate(_roots(reading, raw), start=1):
        found = _plain(reading, root)
        if found is None:
            continue
        if not isinstance(found, dict):
            why = f"MALFORMED: line {_line(root)}: it is no object, like {{kind: policy}}"
            raise reading.wrong(why)
        documents.append(Document(reading=reading, number=number, root=root, found=found))
    if not documents:
        raise reading.wrong("MALFORMED: it is empty")
    return documents


_DEPTH_LIMIT = 50


def _roots(reading: Reading, raw: bytes) -> list[yaml.Node]:
    """Read documents without building anything; aliases, which may grow, are refused."""
    try:
        depth = 0
        for event in yaml.parse(raw, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEPTH_LIMIT:
                raise reading.wrong(f"MALFORMED: line {_line(event)}: it is nested too deeply")
            if isinstance(event, yaml.AliasEvent):
                raise reading.wrong(f"MALFORMED: line {_line(event)}: an alias has no place in it")
        return list(yaml.compose_all(raw, Loader=yaml.SafeLoader))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "
        problem = getattr(error, "problem", None) or str(error) or "it is nested too deeply"
        raise reading.wrong(f"MALFORMED: {line}{problem.splitlines()[0]}") from error


def _plain(reading: Reading, node: yaml.Node) -> object:
    """Return a node as JSON would have it; a name that comes twice is refused."""
    if isinstance(node, yaml.MappingNode):
        found: dict[str, object] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else ""
            if not name or name in found:
                what = f"it says {name!r} twice" if name else "that is no name of a field"
                raise reading.wrong(f"MALFORMED: line {_line(key)}: {what}")
            found[name] = _plain(reading, value)
        return found
    if isinstance(node, yaml.SequenceNode):
        return [_plain(reading, each) for each in node.value]
    try:
        scalar: object = yaml.SafeLoader("").construct_object(node)
    except yaml.YAMLError as error:
        why = f"MALFORMED: line {_line(node)}: {node.tag} has no place in it"
        raise reading.wrong(why) from error
    except (ValueError, KeyError, AttributeError, OverflowError) as error:  # 2026-02-30, !!int foo
        why = f"MALFORMED: line {_line(node)}: {str(node.value)[:60]!r} is no {node.tag[-20:]}"
        raise reading.wrong(why) from error
    if isinstance(scalar, str) and not _is_text(scalar):
        why = f"MALFORMED: line {_line(node)}: it is no text: half a character"
        raise reading.wrong(why)
    if scalar is None or isinstance(scalar, bool | int | float | str):
        return scalar
    return str(node.value)  # a date is no value of a field: its text is refused where it stands


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _at(root: yaml.Node, where: Sequence[int | str]) -> yaml.Node:
    """Return where a field stands: its name, or that of the last part on the way that is there."""
    node = named = root
    for part in where:
        inside: Mapping[int | str, tuple[yaml.Node, yaml.Node]] = {}
        if isinstance(node, yaml.MappingNode):
            inside = {key.value: (key, value) for key, value in node.value}
        elif isinstance(node, yaml.SequenceNode):
            inside = {number: (each, each) for number, each in enumerate(node.value)}
        if part not in inside:
            break
        named, node = inside[part]
    return named


def _line(found: yaml.Node | yaml.Event) -> int:
    return 1 if found.start_mark is None else found.start_mark.line + 1
