"""`skerry-agent`: one device's commands. Three lines when something is wrong, no stack trace.

Exit codes: 0 done · 1 it ran and the verdict is bad · 2 usage · 3 not found · 4 not allowed ·
5 cannot reach · 6 conflict · 7 refused by verification · 130 interrupted.

Each command imports what it needs itself: holding a busy device must not wait for an event loop.
"""

# ruff: noqa: PLC0415  # as said above

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent.errors import PersonError
from agent.wire.reasons import Reason


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    made = parser()
    arguments = made.parse_args(argv)
    if arguments.command is None:
        made.print_help()
        return 2
    try:
        return int(arguments.command(arguments))
    except PersonError as error:
        sys.stderr.write(error.lines())
        return error.code
    except KeyboardInterrupt:
        return 130


def parser() -> argparse.ArgumentParser:
    """Return what reads the words that a person types."""
    made = argparse.ArgumentParser(prog="skerry-agent", description="One device of a Skerry fleet.")
    made.set_defaults(command=None)
    made.add_argument("--version", action=_Version, help="say which version this is")
    words = made.add_subparsers(metavar="COMMAND")
    home = _default_home()

    def word(name: str, text: str) -> argparse.ArgumentParser:
        added = words.add_parser(name, help=text, description=text)
        added.add_argument(
            "--home", type=Path, default=home, help="the device's folder (default: %(default)s)"
        )
        return added

    join = word("join", "Join a fleet with a token from its operator.")
    join.add_argument("url", help="the centre's address, like https://centre.example:8443")
    join.add_argument("--token", help="the join token (default: $SKERRY_TOKEN, or standard input)")
    join.add_argument("--name", default=None, help="a name for people (default: this machine's)")
    join.add_argument(
        "--label",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a label; may be given again",
    )
    join.add_argument("--site", help="the site this device is at")
    join.add_argument("--library", choices=("litert", "tflite"), help="the model runtime to use")
    join.set_defaults(command=_join)

    run = word("run", "Run the agent in the foreground.")
    _listen(run)
    run.add_argument("--library", choices=("litert", "tflite"), help="the model runtime to use")
    _driven(run)
    run.add_argument("--socket", type=Path, metavar="PATH", help="listen on a unix socket too")
    run.set_defaults(command=_run)

    status = word("status", "Say what this device is and serves.")
    status.add_argument(
        "-o", dest="output", choices=("table", "json"), default="table", help="how data is printed"
    )
    status.set_defaults(command=_status)

    logs = word("logs", "Print this device's log, oldest first: one JSON object a line.")
    logs.add_argument("--follow", action="store_true", help="go on with what comes")
    logs.set_defaults(command=_logs)

    doctor = word("doctor", "Look for what is wrong with this device, and say what to do.")
    _listen(doctor)
    doctor.add_argument("--library", choices=("litert", "tflite"), help="the model runtime to try")
    _driven(doctor)
    doctor.add_argument(
        "-o", dest="output", choices=("table", "json"), default="table", help="how data is printed"
    )
    doctor.set_defaults(command=_doctor)

    hold = word("hold", "Hold this device as it is: nothing new is begun until it is released.")
    hold.add_argument("--reason", required=True, help="why, for whoever sees it held")
    hold.set_defaults(command=_hold)

    release = word("release", "Release a device that is held.")
    release.set_defaults(command=_release)

    policy = word("policy", "Say what the centre may ask of this device, or change it.")
    _allowing(policy)

    apply = word("apply", "Take in what a stick brings: a signed document and its bundles.")
    apply.add_argument("stick", type=Path, help="the folder that `skerry device export` wrote")
    apply.set_defaults(command=_apply)

    scrub = word("scrub", "Read all of the store again; what rotted in it is fetched anew.")
    scrub.set_defaults(command=_scrub)

    lift = word("lift-quarantine", "Let content that failed on this device be tried again.")
    lift.add_argument("digest", help="its digest, or the beginning of it, or `all`; see `status`")
    lift.set_defaults(command=_lift)
    return made


def _listen(word: argparse.ArgumentParser) -> None:
    word.add_argument(
        "--listen",
        default="127.0.0.1:8471",
        metavar="HOST:PORT",
        help="where to serve (default: %(default)s)",
    )


def _allowing(word: argparse.ArgumentParser) -> None:
    for name, what in (("--allow", "carry it out when asked"), ("--refuse", "refuse it")):
        word.add_argument(
            name, action="append", default=[], metavar="COMMAND", help=f"{what}; may be given again"
        )
    word.add_argument(
        "-o", dest="output", choices=("table", "json"), default="table", help="how data is printed"
    )
    word.set_defaults(command=_policy)


def _driven(word: argparse.ArgumentParser) -> None:
    word.add_argument(
        "--delegate",
        type=_delegate,
        action="append",
        default=[],
        metavar="NAME=LIBRARY[,KEY=VALUE...]",
        help="the driver of an accelerator: its name in model cards, its library, its options; "
        "the key `device` names a device node that it opens; may be given again "
        "(edgetpu, vx, ethos-u and teflon are found by themselves)",
    )


def _delegate(text: str) -> Any:  # noqa: ANN401  # imported on need only
    from models.delegate import parse

    try:
        return parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _default_home() -> Path:
    """Return where this machine's device lives, if nothing else is said."""
    if given := os.environ.get("SKERRY_HOME"):  # an image sets it once, for every command in it
        return Path(given)
    return Path("/var/lib/skerry") if os.geteuid() == 0 else Path.home() / ".local/share/skerry"


class _Version(argparse.Action):
    """Reads the version only when it is asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str, **more: Any) -> None:  # noqa: ANN401  # argparse's own
        super().__init__(option_strings, dest, nargs=0, **more)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        import importlib.metadata

        sys.stdout.write(f"skerry-agent {importlib.metadata.version('skerry')}\n")
        parser.exit(0)


def _join(arguments: argparse.Namespace) -> int:
    import asyncio

    from agent import facts
    from agent.home import Home
    from agent.join import Wish, join

    home = Home(arguments.home.absolute())
    try:
        machine = asyncio.run(facts.machine(arguments.library))
    except PersonError as error:
        if arguments.library:
            raise
        sys.stderr.write(f"note: {error.why}; the agent will not run without one\n")
        machine = None
    name = arguments.name or _host_name()
    answer = join(
        home,
        Wish(
            url=arguments.url,
            token=_token(arguments.token),
            name=name,
            labels=_labels(arguments.label),
            site=arguments.site,
            facts=facts.facts(machine),
        ),
    )
    sys.stdout.write(f"{answer.device} joined {answer.fleet} as {name}\n")
    sys.stderr.write(f"next: skerry-agent run --home {arguments.home}\n")
    return 0


def _run(arguments: argparse.Namespace) -> int:
    import asyncio

    from agent import log
    from agent.home import Home
    from agent.run import RunSettings, run

    host, port = _address(arguments.listen)
    log.configure(sys.stderr, log.Ring(Home(arguments.home.absolute()).log))
    asyncio.run(
        run(
            RunSettings(
                home=arguments.home.absolute(),
                host=host,
                port=port,
                library=arguments.library,
                delegates=tuple(arguments.delegate),
                socket=arguments.socket.absolute() if arguments.socket else None,
            )
        )
    )
    return 0


def _status(arguments: argparse.Namespace) -> int:
    from agent.home import Home
    from agent.status import as_json, as_text, look

    found = look(Home(arguments.home.absolute()))
    sys.stdout.write(as_json(found) if arguments.output == "json" else as_text(found))
    return 0


def _logs(arguments: argparse.Namespace) -> int:
    from agent import log
    from agent.home import Home

    folder = Home(arguments.home.absolute()).log
    try:
        for line in log.read(folder, follow=arguments.follow):
            sys.stdout.write(line)
            sys.stdout.flush()
    except BrokenPipeError:  # whoever read it has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except FileNotFoundError:
        raise PersonError(
            "there is no log",
            Reason.NOT_FOUND,
            f"no agent has written into {folder} yet",
            "name the device's folder with --home DIR, or start it: skerry-agent run",
            code=3,
        ) from None
    except OSError as error:
        raise PersonError(
            "the log can't be read",
            "NOT_ALLOWED",
            str(error),
            "do it as the user that runs the agent",
            code=4,
        ) from error
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    from agent import doctor
    from agent.clock import clock
    from agent.home import Home

    host, port = _address(arguments.listen)
    patient = doctor.Patient(
        home=Home(arguments.home.absolute()),
        host=host,
        port=port,
        library=arguments.library,
        delegates=tuple(arguments.delegate),
        now=clock(),
    )
    found = []
    for finding in doctor.examine(patient):
        found.append(finding)
        if arguments.output == "table":
            sys.stdout.write(finding.as_text())
            sys.stdout.flush()
    if arguments.output == "json":
        sys.stdout.write(doctor.as_json(found))
    return 1 if any(each.verdict == "wrong" for each in found) else 0


def _hold(arguments: argparse.Namespace) -> int:
    from agent.clock import clock
    from agent.home import Home
    from agent.technician import hold

    known = hold(Home(arguments.home.absolute()), arguments.reason, clock())
    sys.stdout.write(f"held: {arguments.reason.strip()}\n")
    sys.stderr.write("nothing new is begun here until: skerry-agent release\n" if known else _LATER)
    return 0


def _release(arguments: argparse.Namespace) -> int:
    from agent.home import Home
    from agent.technician import release

    known = release(Home(arguments.home.absolute()))
    sys.stdout.write("released\n")
    sys.stderr.write("" if known else _LATER)
    return 0


def _policy(arguments: argparse.Namespace) -> int:
    import json

    from agent import policy, technician
    from agent.home import Home
    from agent.wire.v1.command import Verb

    home = Home(arguments.home.absolute())
    wanted = dict.fromkeys(arguments.allow, True) | dict.fromkeys(arguments.refuse, False)
    unclear = set(arguments.allow) & set(arguments.refuse)
    if unknown := sorted(unclear | wanted.keys() - set(Verb)):
        raise PersonError(
            "nothing is changed",
            Reason.MALFORMED,
            f"{unknown[0][:80]!r} is " + ("both" if unclear else "no command of the centre's"),
            f"there are {', '.join(Verb)}; each is allowed or refused",
            code=2,
        )
    with technician.in_words(home, "the policy is not changed"):
        now = (
            policy.change(home.policy, {Verb(name): how for name, how in wanted.items()})
            if wanted
            else policy.read(home.policy)
        )
    if arguments.output == "json":
        said = {"schema": "skerry.agent-policy/1", "allowed": dict(now.allowed)}
        sys.stdout.write(json.dumps({**said, "problem": now.problem or None}, indent=2) + "\n")
    else:
        for verb, allowed in now.allowed.items():
            sys.stdout.write(f"{verb:10} {'allowed' if allowed else 'refused'}\n")
        sys.stderr.write(f"it can't be read: {now.problem}\n" if now.problem else "")
    return 1 if now.problem else 0


def _apply(arguments: argparse.Namespace) -> int:
    from agent.home import Home
    from agent.stick import apply

    found = apply(Home(arguments.home.absolute()), arguments.stick.absolute())
    for bundle in found.brought:
        sys.stdout.write(f"brought: {bundle}\n")
    sys.stdout.write(f"{'applied' if found.new else 'held already'}: {found.order}\n")
    sys.stderr.write("see what comes of it: skerry-agent status\n" if found.known else _LATER)
    return 0


def _scrub(arguments: argparse.Namespace) -> int:
    from agent import scrub, technician
    from agent.home import Home
    from models.errors import ModelError

    home = Home(arguments.home.absolute())
    with technician.in_words(home, "the store is not read again"):
        try:
            found = scrub.look(home.store, wait=lambda _: None)
        except ModelError as error:
            raise PersonError(
                "the store is not read again",
                error.reason,
                str(error),
                f"look at {home.store} and the disk it is on",
                code=1,
            ) from error
    for bundle, parts in found.bundles.items():
        for part in parts:
            sys.stdout.write(f"rotten: {part} of {bundle}\n")
    for part in found.loose:
        sys.stdout.write(f"rotten: {part}, which nothing needs\n")
    whole = "" if found.bundles or found.loose else ", all whole"
    sys.stdout.write(f"read: {found.read_bytes} bytes{whole}\n")
    if not found.bundles:
        return 1 if found.loose else 0
    known = technician.say_rotten(home, found.bundles)
    sys.stderr.write("it is fetched again when the network allows\n" if known else _LATER)
    return 1


def _lift(arguments: argparse.Namespace) -> int:
    from agent.home import Home
    from agent.technician import lift

    digests, known = lift(Home(arguments.home.absolute()), arguments.digest)
    for digest in digests:
        sys.stdout.write(f"lifted: {digest}\n")
    sys.stderr.write("it is tried again when it is next rolled out\n" if digests else _NOTHING)
    sys.stderr.write("" if known else _LATER)
    return 0


_NOTHING = "nothing is in quarantine here\n"
_LATER = "no agent runs here: it looks when it is started\n"


def _address(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    digits = port.isascii() and port.isdigit()
    above = digits and int(port) > 65535  # noqa: PLR2004  # a port number
    if not colon or not digits or above:
        raise PersonError(
            "this address can't be used",
            Reason.MALFORMED,
            f"--listen is {listen!r}" + (": the port is above 65535" if above else ""),
            "write it as HOST:PORT, like 127.0.0.1:8471",
            code=2,
        )
    return host.strip("[]"), int(port)


def _token(given: str | None) -> str:
    token = given or os.environ.get("SKERRY_TOKEN") or ""
    if not token and not sys.stdin.isatty():
        token = sys.stdin.read(1024)
    return token.strip()


def _labels(pairs: Sequence[str]) -> dict[str, str]:
    labels = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise PersonError(
                "this device did not join",
                Reason.MALFORMED,
                f"--label is {pair[:80]!r}",
                "write it as KEY=VALUE, like --label room=kitchen",
                code=2,
            )
        labels[key] = value
    return labels


def _host_name() -> str:
    """Return this machine's name as a device's: what has another form is rewritten."""
    import socket

    name = re.sub(r"[^a-z0-9._-]+", "-", socket.gethostname().lower())[:63].strip("._-")
    return name or "device"
