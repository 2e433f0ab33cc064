"""`skerry up`: run the centre until it is told to stop."""

import sys
from typing import Annotated

import structlog
import typer

from fleet import log
from fleet.api.listener import AddressInUseError
from fleet.cli.options import HomeOption, OutputOption
from fleet.cli.screen import CommandError, ExitCode, Output
from fleet.identity.errors import TrustMissingError
from fleet.identity.places import Home
from fleet.ports import BrokerError
from fleet.run import Options, StartError, Where, run
from fleet.store.errors import SchemaTooNewError

app = typer.Typer(add_completion=False)


@app.command()
def up(
    *,
    home: HomeOption,
    listen: Annotated[
        str, typer.Option(help="HOST:PORT for devices and operators, over TLS; port 0: any.")
    ] = "127.0.0.1:8443",
    plain: Annotated[
        str | None, typer.Option(help="127.0.0.1:PORT without TLS, for this machine's own tools.")
    ] = None,
    advertise: Annotated[
        str | None,
        typer.Option(help="The name or address devices are told to dial; by default HOST."),
    ] = None,
    broker: Annotated[
        str | None,
        typer.Option(help="mosquitto, embedded, or a URL; by default what this machine has."),
    ] = None,
    broker_port: Annotated[int, typer.Option(help="Where the broker listens.", min=1)] = 8883,
    output: OutputOption = Output.TABLE,
) -> None:
    """Run the centre: API, registry, broker. One line on stdout says when and where all answer."""
    log.configure(sys.stderr)
    host, port = _address(listen)
    options = Options(
        home=home,
        host=host,
        port=port,
        plain_port=None if plain is None else _loopback_port(plain),
        advertise=advertise,
        broker=broker,
        broker_port=broker_port,
    )
    try:
        run(options, lambda where: _tell(where, output))
    except BaseExceptionGroup as group:
        structlog.get_logger("fleet").critical("the centre died of a defect", exc_info=group)
        raise
    except AddressInUseError as error:
        raise CommandError(
            str(error),
            "PORT_IN_USE",
            "stop what listens there, or choose another port: --listen, --plain",
            ExitCode.CONFLICT,
        ) from error
    except BrokerError as error:
        raise CommandError(
            str(error), "BROKER", "see: skerry up --help, --broker and --broker-port"
        ) from error
    except TrustMissingError as error:
        raise CommandError(
            str(error) if Home(home).trust.is_dir() else "this fleet has no keys yet",
            f"TRUST_MISSING: {error}",
            f"make them: skerry trust init --home {home}",
            ExitCode.NOT_FOUND,
        ) from error
    except SchemaTooNewError as error:
        raise CommandError(
            f"{home} was written by a newer Skerry", f"SCHEMA_TOO_NEW: {error}", "upgrade skerry"
        ) from error
    except StartError as error:
        raise CommandError(str(error), error.reason, error.next_step, ExitCode.CONFLICT) from error


def _tell(where: Where, output: Output) -> None:
    if output is Output.JSON:
        line = where.to_json()
    else:
        plain = "" if where.plain_url is None else f"   plain {where.plain_url}"
        page = f"   page {where.plain_url or where.url}/"
        line = f"fleet {where.fleet}   centre {where.url}{plain}{page}   broker {where.broker_url}"
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit() and int(port) < 1 << 16):
        raise typer.BadParameter(f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def _loopback_port(text: str) -> int:
    host, port = _address(text)
    if host not in ("127.0.0.1", "localhost"):
        raise typer.BadParameter(f"{host} is not 127.0.0.1: without TLS only this machine may ask")
    return port
