"""Looks for what is wrong with this device and says what to do. Changes nothing; blocking.

A command for who stands before the device; the running agent, asked from afar, does the
same in a child: `python -P -m agent.doctor`.

Each check answers with what it found, and where that is wrong, why and what
next. A check that needs what is missing is not tried, and says so: one cause
is one finding. Nothing here takes the place of the running agent: the broker
is greeted on the level of TLS only, for a second session would end the first.
"""

import asyncio
import errno
import http.client
import json
import os
import shutil
import socket
import sqlite3
import ssl
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from agent import facts
from agent import policy as policies
from agent.alone import running
from agent.children.leash import die_with_the_agent
from agent.children.leash import said as say
from agent.errors import PersonError
from agent.fetch.tls import client_context
from agent.home import Home
from agent.identity import Identity, load
from agent.ledger_file import SCHEMA
from models.delegate import Delegate

DISK_FREE_BYTES = 64 * 1024 * 1024
"""Below this no model can be fetched beside the one that serves, nor the ledger grow."""
_WAIT_S = 5.0
_ALERT_S = 0.5  # TLS 1.3 refuses a certificate only after the handshake
_JOB_LIMIT_BYTES = 64 * 1024
_AS_THE_AGENT = "do it as the user that runs the agent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """The device to look at, and how its agent is or would be started."""

    home: Home
    host: str
    port: int
    library: str | None
    now: str
    delegates: tuple[Delegate, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found; `why` and `hint` (what next) are said where it is wrong."""

    check: str
    verdict: Literal["ok", "wrong", "not tried"]
    what: str
    why: str = ""
    hint: str = ""

    def as_text(self) -> str:
        """Return it for people."""
        first = f"{self.verdict:9}  {self.check:8}  {self.what}\n"
        more = [each for each in (self.why, f"next: {self.hint}" if self.hint else "") if each]
        return first + "".join(f"{'':21}{each}\n" for each in more)


def as_json(findings: list[Finding]) -> str:
    """Return them for programs."""
    return json.dumps(document(findings), indent=2) + "\n"


def document(findings: list[Finding]) -> dict[str, Any]:
    """Return them as they are said to programs."""
    return {
        "schema": "skerry.agent-doctor/1",
        "ok": all(each.verdict != "wrong" for each in findings),
        "checks": [asdict(each) for each in findings],
    }


def main() -> int:
    """Look at the device that is on the standard input, for the agent that runs it; return 0."""
    die_with_the_agent(int(sys.argv[1]))
    job = json.loads(sys.stdin.buffer.read(_JOB_LIMIT_BYTES))
    patient = Patient(
        home=Home(Path(job["home"])),
        host=job["host"],
        port=job["port"],
        library=job["library"],
        delegates=tuple(map(Delegate.from_json, job["delegates"])),
        now=job["now"],
    )
    say("done", document(list(examine(patient))))
    return 0


def examine(patient: Patient) -> Iterator[Finding]:
    """Do all checks, those that need nobody else first."""
    yield disk(patient.home.path)
    yield ledger(patient.home.ledger)
    yield from runtime(patient.library, patient.delegates)
    yield port(patient)
    yield policy(patient.home.policy)
    who, identity = _identity(patient.home)
    yield who
    if identity is None:
        for check in ("clock", "registry", "broker"):
            yield Finding(check=check, verdict="not tried", what="it needs an identity")
        return
    yield clock(Path(identity.credentials.certificate), patient.now)
    yield registry(identity)
    yield broker(identity)


def disk(home: Path) -> Finding:
    """Look whether the home can be written, and has room."""
    there = home
    while not there.exists():
        there = there.parent
    if not os.access(there, os.W_OK | os.X_OK):
        return _wrong("disk", f"{there} can't be written", "it is another user's", _AS_THE_AGENT)
    free = shutil.disk_usage(there).free
    if free < DISK_FREE_BYTES:
        return _wrong(
            "disk",
            f"{free // 1_000_000} MB are free at {there}",
            f"a model and the ledger need {DISK_FREE_BYTES // 1_000_000} MB",
            "make room: what is not the agent's own first",
        )
    return Finding(check="disk", verdict="ok", what=f"{free // 1_000_000} MB are free at {there}")


def ledger(path: Path) -> Finding:
    """Look whether the ledger is whole and of a schema that this agent knows."""
    if not path.exists():
        return Finding(check="ledger", verdict="ok", what="there is none yet")
    try:
        uri = f"{path.as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=_WAIT_S)) as database:
            [verdict] = database.execute("PRAGMA quick_check(1)").fetchone()
            [schema] = database.execute("PRAGMA user_version").fetchone()
    except sqlite3.OperationalError as error:
        return _wrong("ledger", f"{path} can't be read", str(error), _AS_THE_AGENT)
    except sqlite3.DatabaseError as error:
        verdict, schema = str(error), 0
    if verdict != "ok":
        return _wrong(
            "ledger",
            f"{path} is damaged",
            verdict,
            "start the agent again: it moves the file aside and goes on with a new one",
        )
    if schema > SCHEMA:
        return _wrong(
            "ledger",
            f"{path} is a newer agent's",
            f"its schema is {schema}, this agent knows {SCHEMA}",
            "run the newer agent",
        )
    return Finding(check="ledger", verdict="ok", what=f"whole, schema {schema}")


def runtime(library: str | None, delegates: tuple[Delegate, ...] = ()) -> Iterator[Finding]:
    """Look in children what models can run on here, and what confines them."""
    refused: list[facts.Refused] = []
    try:
        machine = asyncio.run(facts.machine(library, delegates, refused.append))
    except PersonError as error:
        yield _wrong("runtime", error.what, f"{error.reason}: {error.why}", error.hint)
        return
    works = f"{machine.library} {machine.library_version}"
    yield Finding(check="runtime", verdict="ok", what=works)
    for delegate in machine.delegates:
        what = f"{delegate.accelerator} works, by {delegate.library}"
        yield Finding(check="driver", verdict="ok", what=what)
    for each in refused:
        yield _wrong(
            "driver",
            f"{each.delegate.accelerator} can't be used",
            f"{each.reason}: {each.message}",
            "connect the device and load its kernel driver, or remove the library",
        )
    yield sandbox(machine.sandbox)


def sandbox(in_force: tuple[str, ...]) -> Finding:
    """Say what confines a model's process on this kernel, and what could as well."""
    kinds = {each.partition("-")[0] for each in in_force}
    missing = [each for each in ("landlock", "seccomp") if each not in kinds]
    if missing:
        return _wrong(
            "sandbox",
            f"models run with {', '.join(in_force)}",
            f"this kernel lacks {' and '.join(missing)}: a model could do more than it needs",
            "boot with `landlock` in the kernel's lsm= list (Linux 5.13 or newer), and seccomp on",
        )
    return Finding(check="sandbox", verdict="ok", what=", ".join(in_force))


def port(patient: Patient) -> Finding:
    """Look whether the address to serve at is free, unless an agent runs already."""
    if running(patient.home.lock):
        return Finding(check="port", verdict="ok", what="an agent runs with this home")
    where = f"{patient.host}:{patient.port}"
    try:
        [(family, kind, _, _, address), *_] = socket.getaddrinfo(
            patient.host, patient.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        hint = "choose another with --listen HOST:PORT"
        if error.errno == errno.EADDRINUSE:
            hint += f", or stop who has it: ss -ltnp 'sport = :{patient.port}'"
        return _wrong("port", f"nothing can be served at {where}", str(error), hint)
    return Finding(check="port", verdict="ok", what=f"{where} is free")


def policy(path: Path) -> Finding:
    """Say what the centre may ask of this device."""
    found = policies.read(path)
    if found.problem:
        return _wrong(
            "policy",
            "the centre may ask nothing of this device",
            found.problem,
            "say what it may, like: skerry-agent policy --allow logs --allow doctor",
        )
    return Finding(check="policy", verdict="ok", what=f"the centre may ask for {found.words()}")


def _identity(home: Home) -> tuple[Finding, Identity | None]:
    try:
        identity = load(home)
        identity.broker()  # reads its certificate and key
    except PersonError as error:
        why = f"{error.reason}: {error.why}"
        return _wrong("identity", error.what, why, error.hint), None
    answer = identity.answer
    said = f"{answer.device} of fleet {answer.fleet}"
    return Finding(check="identity", verdict="ok", what=said), identity


def clock(certificate: Path, now: str) -> Finding:
    """Look whether the certificate is valid by this device's clock, and blame the one at fault."""
    from cryptography import x509  # noqa: PLC0415  # only here, and not where an agent runs

    if not certificate.exists():
        return Finding(check="clock", verdict="not tried", what="there is no certificate")
    held = x509.load_pem_x509_certificate(certificate.read_bytes())
    begins, ends = held.not_valid_before_utc, held.not_valid_after_utc
    here = datetime.fromisoformat(now)
    window = f"the certificate is valid from {begins:%Y-%m-%d} to {ends:%Y-%m-%d}"
    if here < begins:
        return _wrong(
            "clock",
            f"it is {now} here",
            f"{window}, so this clock is behind",
            "set the clock (timedatectl set-ntp true), or fit a battery for it",
        )
    if here > ends:
        return _wrong(
            "clock",
            f"it is {now} here",
            f"{window}",
            "where the clock is right, move the identity folder away and join again with a token",
        )
    return Finding(check="clock", verdict="ok", what=f"{now}; {window}")


def registry(identity: Identity) -> Finding:
    """Ask the registry of bundles whether it is there and knows this device."""
    url = urlsplit(identity.answer.registry_url)
    connection: http.client.HTTPConnection
    host = url.hostname or ""
    try:
        if url.scheme == "https":
            context = client_context(identity.credentials)
            connection = http.client.HTTPSConnection(
                host, url.port, timeout=_WAIT_S, context=context
            )
        else:
            connection = http.client.HTTPConnection(host, url.port, timeout=_WAIT_S)
        with closing(connection):
            connection.request("GET", f"{url.path.rstrip('/')}/v2/")
            status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return _unreachable("registry", url.netloc, error)
    if status in {http.client.UNAUTHORIZED, http.client.FORBIDDEN}:
        return _wrong(
            "registry",
            f"{url.netloc} refuses this device",
            f"it answers {status}",
            "ask the fleet's operator whether this device was removed; if so, join again",
        )
    if status != http.client.OK:
        return _wrong(
            "registry",
            f"{url.netloc} is no registry",
            f"it answers {status} to /v2/",
            "ask the fleet's operator whether the centre moved",
        )
    return Finding(check="registry", verdict="ok", what=f"{url.netloc} answers")


def broker(identity: Identity) -> Finding:
    """Greet the broker, and show it this device's certificate where it wants one."""
    address = identity.broker()
    where = f"{address.host}:{address.port}"
    try:
        with socket.create_connection((address.host, address.port), timeout=_WAIT_S) as plain:
            if address.tls is None:
                return Finding(check="broker", verdict="ok", what=f"{where} answers")
            with address.tls.wrap_socket(plain, server_hostname=address.host) as encrypted:
                encrypted.settimeout(_ALERT_S)
                with suppress(TimeoutError):  # it waits for us to speak: we are let in
                    if not encrypted.recv(1):
                        raise ConnectionResetError("it hung up")
    except OSError as error:
        return _unreachable("broker", where, error)
    return Finding(check="broker", verdict="ok", what=f"{where} answers, and takes our certificate")


def _unreachable(check: str, where: str, error: Exception) -> Finding:
    """Say why nobody could be spoken to, and whose matter that is."""
    what = f"{where} can't be reached"
    if isinstance(error, ssl.SSLCertVerificationError):
        hint = "look at the clock first; else the centre has another CA now: join again"
        return _wrong(check, f"{where} can't be trusted", error.verify_message, hint)
    if isinstance(error, ssl.SSLError):
        hint = "ask the fleet's operator whether this device was removed; if so, join again"
        return _wrong(check, f"{where} refuses this device", str(error), hint)
    if isinstance(error, socket.gaierror):
        hint = "look at this machine's network and name server; the device goes on without"
        return _wrong(check, what, f"its name is not known here: {error.strerror}", hint)
    if isinstance(error, ConnectionRefusedError):
        return _wrong(check, what, "nobody listens there", "start the centre: skerry up")
    why = f"no answer in {_WAIT_S:g} s" if isinstance(error, TimeoutError) else str(error)
    hint = "look at the cable, the route and the firewall; the device goes on without"
    return _wrong(check, what, why, hint)


def _wrong(check: str, what: str, why: str, hint: str) -> Finding:
    return Finding(check=check, verdict="wrong", what=what, why=why, hint=hint)


if __name__ == "__main__":
    sys.exit(main())
