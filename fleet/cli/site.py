"""`skerry site join`: all that a K3s site needs to join, with its token, as YAML.

Nothing is applied to a cluster here. Without `--out` the YAML, and the token in it,
goes to stdout: into `kubectl apply -f -`, say.
"""

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from fleet.cli.options import CentreOptions, at_centre
from fleet.cli.screen import CommandError, ExitCode, note
from fleet.cli.token import new_token
from k3s.render import STATE_USER, render, to_yaml
from k3s.values import Grant, Rule, SecretKey, SiteConfig
from models import durable

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Sites: what a cluster gets.")


@app.callback()
def site() -> None:
    """Sites: what a cluster gets."""


@app.command()
@at_centre
def join(  # one option each: what differs between sites
    centre: CentreOptions,
    name: Annotated[str, typer.Argument(help="The site's name.")],
    *,
    url: Annotated[
        str,
        typer.Option(
            help="The https URL at which the site's nodes reach the centre; whom this command "
            "itself asks is --centre.",
        ),
    ],
    image: Annotated[str, typer.Option(help="The agent's image, with a version or digest.")],
    nodes: Annotated[int, typer.Option(min=1, help="How many nodes may join.")] = 1,
    valid: Annotated[str, typer.Option(help="For how long they may: 30m, 24h, 7d.")] = "24h",
    token_secret: Annotated[
        str | None,
        typer.Option(
            help="Write no token: a Secret of the cluster holds it, as NAME or NAME/KEY; by "
            "default a token is made and comes with the rest.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The file to write, for its owner alone; else stdout, and the token with it."
        ),
    ] = None,
    namespace: Annotated[str, typer.Option(help="Where the agents run.")] = "skerry",
    node: Annotated[
        list[str] | None,
        typer.Option(help="Only on nodes with this label, KEY=VALUE; may be given again."),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(help="A label each device gets, KEY=VALUE; may be given again."),
    ] = None,
    accelerator: Annotated[
        list[str] | None,
        typer.Option(help="A device-plugin resource, NAME=NUMBER; may be given again."),
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(help="A device under /dev that the agent sees; may be given again."),
    ] = None,
    library: Annotated[
        str | None, typer.Option(help="The TFLite runtime to use: litert or tflite.")
    ] = None,
    grant: Annotated[
        list[str] | None,
        typer.Option(
            help="NAMESPACE:[GROUP/]RESOURCE:VERB,VERB… that agents may use; may be given again.",
        ),
    ] = None,
) -> None:
    """Write all that a K3s site needs to join, as YAML: kubectl apply -f, or K3s's own folder."""
    secret, _, key = (token_secret or "skerry-join").partition("/")
    try:
        config = SiteConfig(
            site=name,
            centre_url=url,
            image=image,
            join_token=SecretKey(name=secret, key=key or "token"),
            namespace=namespace,
            node_selector=_pairs(node),
            labels=_pairs(label),
            accelerators={key: _whole(number) for key, number in _pairs(accelerator).items()},
            devices=tuple(device or ()),
            library=library,
            grants=_grants(grant or []),
        )
    except ValueError as error:
        raise CommandError(
            f"the site {name!r} can't be written",
            f"USAGE: {error}",
            "see: skerry site join --help",
            ExitCode.USAGE,
        ) from error
    if out is not None and not _can_be_made(out):  # before a token is made for it
        raise _not_written(out, "no file can be made there")
    made = None if token_secret else new_token(centre, uses=nodes, valid=valid, site=name)
    _write(out, to_yaml(render(config, None if made is None else made["token"])), made)
    note(
        f"on each node, once, as root: "
        f"install -d -m 0700 -o {STATE_USER} -g {STATE_USER} {config.state_path}"
    )
    if made is not None:
        who = "1 node" if nodes == 1 else f"{nodes} nodes"
        note(f"it holds a join token: {who} may join with it until {made['expires_at']}")
    if out is not None:
        path = shlex.quote(str(out))
        note(f"then: kubectl apply -f {path}, or copy it to {_AUTO_DEPLOY} on a K3s server")
    if made is None:
        create = ["skerry", "token", "create", f"--uses={nodes}", f"--valid={valid}"]
        note(
            f"then the token: {shlex.join([*create, f'--site={name}', *centre.typed()])} | "
            f"kubectl -n {namespace} create secret generic {config.join_token.name} "
            f"--from-file={config.join_token.key}=/dev/stdin"
        )


def _can_be_made(out: Path) -> bool:
    """Whether a file can take this place: a device, pipe or folder is not replaced by one."""
    return (out.is_file() or not out.exists()) and os.access(out.parent, os.W_OK)


def _write(out: Path | None, text: str, made: Mapping[str, Any] | None) -> None:
    try:
        if out is None:
            sys.stdout.write(text)
            sys.stdout.flush()
        else:
            durable.write(out, text.encode(), mode=0o600)
    except OSError as error:
        unused = "" if made is None else f"; its token stays unused until {made['expires_at']}"
        raise _not_written(out or "stdout", f"{error.strerror}{unused}") from error


def _not_written(out: Path | str, why: str) -> CommandError:
    next_step = "name another place: --out FILE"
    return CommandError(f"{out} can't be written", f"OUT: {why}", next_step, ExitCode.NOT_ALLOWED)


_AUTO_DEPLOY = "/var/lib/rancher/k3s/server/manifests/"


def _pairs(written: list[str] | None) -> dict[str, str]:
    pairs = {}
    for text in written or []:
        key, equals, value = text.partition("=")
        if not equals or key in pairs:
            raise ValueError(f"not KEY=VALUE, or the same key twice: {text[:80]!r}")
        pairs[key] = value
    return pairs


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"not a whole number: {text[:80]!r}")
    return int(text)


def _grants(written: list[str]) -> tuple[Grant, ...]:
    """Collect the rules of each namespace, in the order in which they were given."""
    rules: dict[str, list[Rule]] = {}
    for text in written:
        parts = text.split(":")
        if len(parts) != 3:  # noqa: PLR2004  # namespace, resource, verbs
            raise ValueError(f"not NAMESPACE:[GROUP/]RESOURCE:VERBS: {text[:80]!r}")
        namespace, resource, verbs = parts
        group, slash, kind = resource.partition("/")
        if not slash:
            group, kind = "", resource
        rule = Rule(group=group, resources=(kind,), verbs=tuple(verbs.split(",")))
        rules.setdefault(namespace, []).append(rule)
    return tuple(Grant(namespace=name, rules=tuple(each)) for name, each in rules.items())
