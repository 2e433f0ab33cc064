"""`skerry site render`: what a K3s site's cluster gets, as YAML for `kubectl apply -f -`."""

import sys
from typing import Annotated

import typer

from fleet.cli.screen import CommandError, ExitCode, note
from k3s.render import STATE_USER, render, to_yaml
from k3s.values import Grant, Rule, SecretKey, SiteConfig

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Sites: what a cluster gets.")


@app.callback()
def site() -> None:
    """Sites: what a cluster gets."""


@app.command(name="render")
def render_site(  # one option each: what differs between sites
    name: Annotated[str, typer.Argument(help="The site's name.")],
    *,
    centre: Annotated[str, typer.Option(help="The centre's https URL, where devices join.")],
    image: Annotated[str, typer.Option(help="The agent's image, with a version or digest.")],
    token_secret: Annotated[
        str, typer.Option(help="The Secret that holds the join token, as NAME or NAME/KEY.")
    ],
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
    """Write a site's namespace, accounts, rights, settings and DaemonSet as YAML."""
    secret, _, key = token_secret.partition("/")
    try:
        config = SiteConfig(
            site=name,
            centre_url=centre,
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
            f"the site {name!r} can't be rendered",
            f"USAGE: {error}",
            "see: skerry site render --help",
            ExitCode.USAGE,
        ) from error
    sys.stdout.write(to_yaml(render(config)))
    folder = f"install -d -m 0700 -o {STATE_USER} -g {STATE_USER} {config.state_path}"
    note(f"on each node, once, as root: {folder}")
    note(
        f"the token: kubectl -n {namespace} create secret generic {secret} "
        f"--from-literal={config.join_token.key}=TOKEN"
    )


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
