"""`--policy-file FILE`: a policy of one's own, as YAML; what is wrong is told with its line."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from fleet.cli.screen import CommandError, ExitCode

LIMIT_BYTES = 64 * 1024

PolicyFileOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="How it spreads, as a document of your own (YAML), instead of --policy.",
    ),
]


def policy_in(path: Path | None) -> dict[str, Any] | None:
    """Return what is in a policy file, checked; the centre checks it again.

    Raises:
        CommandError: it can't be read, or says what no policy can be; with line and field.
    """
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            raw = file.read(LIMIT_BYTES + 1)
    except OSError as error:
        raise _wrong(path, f"POLICY: {error.strerror}") from error
    if len(raw) > LIMIT_BYTES:
        raise _wrong(path, f"TOO_LARGE: a policy has at most {LIMIT_BYTES} bytes")
    root = _root(path, raw)
    found = _plain(path, root)
    if not isinstance(found, dict):
        raise _wrong(path, f"MALFORMED: line {_line(root)}: it is no object, like {{kind: policy}}")
    return _checked(path, root, found)


def _checked(path: Path, root: yaml.Node, found: dict[str, Any]) -> dict[str, Any]:
    from pydantic import ValidationError  # noqa: PLC0415  # for those who give a file

    from fleet.api.policies import PolicyWish  # noqa: PLC0415

    try:
        return PolicyWish.model_validate(found).model_dump(mode="json")
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "policy"
        what = first["msg"].removeprefix("Value error, ")
        line = _line(_at(root, first["loc"]))
        raise _wrong(path, f"MALFORMED: line {line}, {where}: {what}") from error


def _root(path: Path, raw: bytes) -> yaml.Node:
    """Read one document without building anything; aliases, which may grow, are refused."""
    try:
        for event in yaml.parse(raw, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise _wrong(path, f"MALFORMED: line {_line(event)}: an alias has no place in it")
        root = yaml.compose(raw, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "
        problem = getattr(error, "problem", None) or str(error) or "it is nested too deeply"
        raise _wrong(path, f"MALFORMED: {line}{problem.splitlines()[0]}") from error
    if root is None:
        raise _wrong(path, "MALFORMED: it is empty")
    return root


def _plain(path: Path, node: yaml.Node) -> object:
    """Return a node as JSON would have it; a name that comes twice is refused."""
    if isinstance(node, yaml.MappingNode):
        found: dict[str, object] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else ""
            if not name or name in found:
                what = f"it says {name!r} twice" if name else "that is no name of a field"
                raise _wrong(path, f"MALFORMED: line {_line(key)}: {what}")
            found[name] = _plain(path, value)
        return found
    if isinstance(node, yaml.SequenceNode):
        return [_plain(path, each) for each in node.value]
    try:
        scalar: object = yaml.SafeLoader("").construct_object(node)
    except yaml.YAMLError as error:
        raise _wrong(
            path, f"MALFORMED: line {_line(node)}: {node.tag} has no place in it"
        ) from error
    if scalar is None or isinstance(scalar, bool | int | float | str):
        return scalar
    return str(node.value)  # a date is no value of a policy: its text is refused where it stands


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


def _wrong(path: Path, why: str) -> CommandError:
    return CommandError(
        f"{path} can't be read as a policy",
        why,
        "write it as docs/rollouts.md, 'A policy of your own', shows",
        ExitCode.USAGE,
    )
