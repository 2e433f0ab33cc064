"""`skerry monitoring export`: all that a Prometheus and a Grafana need to watch a centre."""

import importlib.resources
import shlex
import ssl
from collections.abc import Iterator, Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer
import yaml

from fleet.api.access import Access
from fleet.cli.options import CentreOptions, at_centre
from fleet.cli.screen import CommandError, ExitCode, note
from fleet.client import Connection
from fleet.metrics.scrape import PATH, scrape_token
from models import durable

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Watch a centre with Prometheus and Grafana."
)

_CONFIGURATION = "prometheus.yml"
_WRITTEN = "# Written by `skerry monitoring export`.\n"
_TOKEN = "metrics.token"  # noqa: S105  # a file's name
_CA = "ca.pem"
_CA_LIMIT_BYTES = 64 * 1024


@app.callback()
def monitoring() -> None:
    """Watch a centre with Prometheus and Grafana."""


@app.command()
@at_centre
def export(
    centre: CentreOptions,
    folder: Annotated[Path, typer.Argument(help="Where to write it; made if it is not there.")],
    *,
    site: Annotated[
        list[str] | None,
        typer.Option(
            "--site-device",
            help="HOST:PORT of a device that this Prometheus is to scrape itself, because it is "
            "on the same site; may be given again.",
        ),
    ] = None,
) -> None:
    """Write a scrape configuration, rules and dashboards into a folder.

    What it wrote there before is replaced. The scrape token in it opens /metrics of the centre
    and nothing else.
    """
    connection = Connection.find(
        home=centre.home, url=centre.url, token_file=centre.token_file, ca=centre.ca
    )
    secret = scrape_token(Access(connection.token))
    authority = None if connection.ca is None else _authority(connection.ca)
    _check_ours(folder / _CONFIGURATION)
    configured = _configuration(connection.url, tuple(site or ()), authority is not None)
    try:
        durable.make_directory(folder, mode=0o755)
        for path, content in _shipped():
            durable.make_directory((folder / path).parent, mode=0o755)
            durable.write(folder / path, content, mode=0o644)
        durable.write(folder / _TOKEN, f"{secret}\n".encode(), mode=0o600)
        if authority is not None:
            durable.write(folder / _CA, authority, mode=0o644)
        durable.write(folder / _CONFIGURATION, configured.encode(), mode=0o644)
    except OSError as error:
        raise CommandError(
            f"{folder} can't be written",
            f"OUT: {error.strerror}",
            "name another folder, or one that is yours",
            ExitCode.NOT_ALLOWED,
        ) from error
    at = shlex.quote(str(folder))
    note(f"{_TOKEN} is for its owner alone: give it to the user that Prometheus runs as")
    note(f"then: prometheus --config.file={at}/prometheus.yml; dashboards: {at}/dashboards")


def _configuration(url: str, devices: tuple[str, ...], known: bool) -> str:  # noqa: FBT001  # whether its authority is in the folder
    """Return Prometheus's configuration; its paths are relative to the file that it is in."""
    parts = urlsplit(url)
    job: dict[str, object] = {
        "job_name": "skerry",
        "scheme": parts.scheme,
        "metrics_path": PATH,
        "authorization": {"credentials_file": _TOKEN},
        "static_configs": [{"targets": [parts.netloc]}],
    }
    if parts.scheme == "https" and known:
        job["tls_config"] = {"ca_file": _CA}
    jobs: list[Mapping[str, object]] = [job]
    if devices:
        jobs.append(
            {
                "job_name": "skerry-site",
                "metrics_path": PATH,
                "static_configs": [{"targets": list(devices)}],
            }
        )
    written: str = yaml.safe_dump(
        {
            "global": {"scrape_interval": "15s", "evaluation_interval": "15s"},
            "rule_files": ["rules/*.yml"],
            "scrape_configs": jobs,
        },
        sort_keys=False,
    )
    return _WRITTEN + written


def _check_ours(path: Path) -> None:
    """Refuse a folder with a configuration that somebody wrote: it is not ours to replace."""
    try:
        with path.open("rb") as file:
            ours = file.read(len(_WRITTEN)) == _WRITTEN.encode()
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        ours, why = False, f"OUT: {error.strerror}"
    else:
        why = "CONFLICT: it was not written by this command"
    if not ours:
        raise CommandError(
            f"{path} is there already",
            why,
            "name a folder of its own, and take into yours what you need of it",
            ExitCode.CONFLICT,
        )


def _shipped() -> Iterator[tuple[Path, bytes]]:
    """Return the files that come with the centre: rules and dashboards."""
    yield from _under(importlib.resources.files("fleet.metrics") / "files", Path())


def _under(folder: Traversable, path: Path) -> Iterator[tuple[Path, bytes]]:
    for each in folder.iterdir():
        if each.is_dir():
            yield from _under(each, path / each.name)
        else:
            yield path / each.name, each.read_bytes()


def _authority(path: Path) -> bytes:
    """Return the certificate that a Prometheus is to know the centre by."""
    try:
        with path.open("rb") as file:
            found = file.read(_CA_LIMIT_BYTES)
        ssl.create_default_context(cadata=found.decode("ascii"))
    except (OSError, ValueError) as error:
        raise CommandError(
            f"{path} can't be read as a certificate",
            f"CA: {error}",
            "name the right one: --ca FILE",
            ExitCode.USAGE,
        ) from error
    return found
