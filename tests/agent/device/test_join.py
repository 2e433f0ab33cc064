"""Joining over real TLS a centre that may be somebody else; what the commands tell people."""

import contextlib
import datetime as dt
import hashlib
import json
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from agent.cli import main
from agent.wire import codec, v1
from models import durable
from tests.agent.device.world import Tree

PEM = serialization.Encoding.PEM
Capsys = pytest.CaptureFixture[str]
Join = Callable[..., int]


class Ca:
    """A certificate authority of the test's own."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self.issue("ca", self.key.public_key(), ca=True)
        self.pem = self.certificate.public_bytes(PEM).decode()
        self.sha256 = self.certificate.fingerprint(hashes.SHA256()).hex()

    def issue(
        self,
        name: str,
        public: ec.EllipticCurvePublicKey,
        *,
        ca: bool = False,
        host: str = "localhost",
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)  # noqa: TID251  # a certificate needs a date
        day = dt.timedelta(days=1)

        def named(text: str) -> x509.Name:
            return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

        return (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(named("ca"))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - day)
            .not_valid_after(now + day)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
            .sign(self.key, hashes.SHA256())
        )


@dataclass
class Centre:
    """What answers; each part may be replaced."""

    ca: Ca
    url: str = ""
    requests: list[v1.JoinRequest] = field(default_factory=list)
    refuse: tuple[int, dict[str, str]] | None = None
    spoil: Callable[[dict[str, Any]], object] = lambda _: None

    @property
    def token(self) -> str:
        return f"sk1.{self.ca.sha256}.{'s' * 32}"

    def answer(self, request: v1.JoinRequest) -> bytes:
        csr = x509.load_pem_x509_csr(request.csr.encode())
        assert csr.is_signature_valid
        key = csr.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        issued = self.ca.issue("d-abc", key).public_bytes(PEM).decode()
        answer = v1.JoinAnswer(
            fleet="f",
            device="d-abc",
            certificate=issued,
            ca=self.ca.pem,
            keys=(),
            broker_url="mqtts://localhost:8883",
            registry_url=self.url,
        )
        fields = json.loads(codec.encode(answer))
        self.spoil(fields)
        return json.dumps(fields).encode()


@contextlib.contextmanager
def listening(centre: Centre, folder: Path, *, host: str = "localhost") -> Iterator[None]:
    key = ec.generate_private_key(ec.SECP256R1())
    folder.mkdir()
    (folder / "server.pem").write_bytes(
        key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + centre.ca.issue("server", key.public_key(), host=host).public_bytes(PEM)
    )

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self.say(200, centre.ca.pem.encode())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            centre.requests.append(codec.decode(body, v1.JoinRequest))
            if centre.refuse:
                status, told = centre.refuse
                self.say(status, json.dumps(told).encode())
            else:
                self.say(200, centre.answer(centre.requests[-1]))

        def say(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A client that turns away is what is tried here."""

    server = Server(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    centre.url = f"https://localhost:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def log_is_as_it_was() -> Iterator[None]:
    """`run` sends the log of its whole process to its standard error."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[Centre]:
    made = Centre(Ca())
    with listening(made, tmp_path / "centre"):
        yield made


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def join(home: Path, centre: Centre) -> Callable[..., int]:
    def run(*more: str, token: str | None = None, url: str | None = None) -> int:
        given = ["--token", token or centre.token, "--home", str(home), "--name", "kitchen"]
        return main(["join", url or centre.url, *given, *more])

    return run


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    told = capsys.readouterr()
    assert told.out == ""
    assert "Traceback" not in told.err
    return told.err.strip().splitlines()


def nothing_happened(home: Path) -> bool:
    return not home.exists() or not [path for path in home.iterdir() if "identity" in path.name]


def test_a_device_joins(join: Join, centre: Centre, home: Path, capsys: Capsys) -> None:
    """Its key is made here; what it was asked is passed on; the folder is complete."""
    assert join("--label", "room=kitchen", "--site", "north") == 0
    assert capsys.readouterr().out == "d-abc joined f as kitchen\n"
    [request] = centre.requests
    assert request.token == centre.token
    assert (request.name, request.labels, request.site) == ("kitchen", {"room": "kitchen"}, "north")
    assert request.facts["skerry/runtime"] in {"litert", "tflite"}
    identity = home / "identity"
    assert sorted(path.name for path in identity.iterdir()) == [
        "ca.pem", "cert.pem", "join.json", "key.pem",
    ]  # fmt: skip
    assert (identity / "key.pem").stat().st_mode & 0o777 == 0o600
    assert home.stat().st_mode & 0o077 == 0
    key = serialization.load_pem_private_key((identity / "key.pem").read_bytes(), None)
    certificate = x509.load_pem_x509_certificate((identity / "cert.pem").read_bytes())
    assert key.public_key() == certificate.public_key()


def test_joining_twice_is_refused(
    join: Join, home: Path, tree: Tree, centre: Centre, capsys: Capsys
) -> None:
    """With a hint; the identity that is there is untouched and no token is spent."""
    assert join() == 0
    capsys.readouterr()
    before = tree(home)
    assert join() == 6
    assert lines(capsys)[0] == "this device has joined already"
    assert tree(home) == before
    assert len(centre.requests) == 1


@pytest.mark.parametrize("token", [" ", "sk1.abc.def", "x" * 5000])
def test_what_is_no_token_is_told_so(join: Join, home: Path, capsys: Capsys, token: str) -> None:
    """Three lines: what, why, what next."""
    assert join(token=token) == 2
    told = lines(capsys)[-3:]
    assert told[0] == "this device did not join"
    assert told[1].startswith("TOKEN_UNKNOWN")
    assert "skerry token create" in told[2]
    assert nothing_happened(home)


def test_another_centre_is_not_believed(
    join: Join, centre: Centre, home: Path, capsys: Capsys
) -> None:
    """Who answers with another CA gets neither the secret nor a signing request."""
    assert join(token=f"sk1.{hashlib.sha256(b'other').hexdigest()}.{'s' * 32}") == 7
    assert lines(capsys)[-2].startswith("CA_MISMATCH")
    assert centre.requests == []
    assert nothing_happened(home)


def test_a_borrowed_ca_is_not_enough(
    join: Join, centre: Centre, home: Path, capsys: Capsys, tmp_path: Path
) -> None:
    """Who shows the right CA but isn't of it, or is another host, gets no secret either."""
    impostor = Centre(Ca())
    with listening(impostor, tmp_path / "impostor"):
        impostor.ca.pem = centre.ca.pem
        assert join(url=impostor.url) == 5
        assert lines(capsys)[-2].startswith("UNREACHABLE: no answer")
    elsewhere = Centre(centre.ca)
    with listening(elsewhere, tmp_path / "elsewhere", host="another.example"):
        assert join(url=elsewhere.url) == 5
    assert impostor.requests == elsewhere.requests == []
    assert nothing_happened(home)


@pytest.mark.parametrize("reason", ["TOKEN_USED", "TOKEN_EXPIRED", "TOKEN_UNKNOWN"])
def test_a_refusal_is_passed_on(
    join: Join, centre: Centre, home: Path, capsys: Capsys, reason: str
) -> None:
    """In the centre's own words."""
    centre.refuse = 403, {"error": "no more", "reason": reason, "next": "ask for another"}
    assert join() == 4
    assert lines(capsys)[-3:] == [
        "this device did not join",
        f"{reason}: no more",
        "ask for another",
    ]
    assert nothing_happened(home)


@pytest.mark.parametrize("spoilt", ["another key", "another name", "no json", "too much"])
def test_an_answer_that_is_not_ours_is_not_kept(
    join: Join, centre: Centre, home: Path, capsys: Capsys, spoilt: str
) -> None:
    """The certificate must be over this device's key and in its name."""
    other = ec.generate_private_key(ec.SECP256R1()).public_key()

    def spoil(fields: dict[str, Any]) -> None:
        if spoilt == "another key":
            fields["certificate"] = centre.ca.issue("d-abc", other).public_bytes(PEM).decode()
        elif spoilt == "another name":
            fields["device"] = "d-xyz"
        elif spoilt == "no json":
            fields.clear()
        else:
            fields["more"] = "x" * 20_000

    centre.spoil = spoil
    assert join() != 0
    assert lines(capsys)[-3] == "this device did not join"
    assert nothing_happened(home)


def test_a_disk_without_room_leaves_no_half_identity(
    join: Join, home: Path, capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that fails in the middle leaves nothing."""
    real, count = durable.write, 0

    def full(target: Path, content: bytes, *, mode: int = 0o644) -> None:
        nonlocal count
        count += 1
        if count == 3:
            raise OSError(28, "No space left on device")
        real(target, content, mode=mode)

    monkeypatch.setattr(durable, "write", full)
    assert join() == 1
    assert lines(capsys)[-2].startswith("DISK_FULL")
    assert nothing_happened(home)


@pytest.mark.parametrize("url", ["http://192.0.2.1", "ftp://centre", "centre"])
def test_an_address_without_protection_is_refused(
    join: Join, home: Path, capsys: Capsys, url: str
) -> None:
    """A secret goes over TLS, or nowhere."""
    assert join(url=url) == 2
    assert lines(capsys)[-2].startswith("MALFORMED")
    assert nothing_happened(home)


def test_nobody_there(join: Join, home: Path, capsys: Capsys) -> None:
    """Exit 5, and what to look at."""
    assert join(url="https://localhost:9") == 5
    what, why, hint = lines(capsys)[-3:]
    assert what == "this device did not join"
    assert (
        why == "UNREACHABLE: no answer from the centre at https://localhost:9: connection refused"
    )
    assert "check the address" in hint
    assert nothing_happened(home)


def test_plain_http_to_a_tls_port_is_told_so(
    join: Join, centre: Centre, home: Path, capsys: Capsys
) -> None:
    """The address to try instead, ready to copy."""
    plain = centre.url.replace("https", "http", 1)
    assert join(url=plain) == 5
    assert lines(capsys)[-1].endswith(f"write https: {centre.url}")
    assert nothing_happened(home)


def test_no_token_is_told_apart_from_a_wrong_one(
    join: Join, centre: Centre, capsys: Capsys
) -> None:
    """Which part is wrong, and never what it says."""
    assert join(token=" ") == 2
    assert "no token: give it by --token" in lines(capsys)[-2]
    assert join(token=f"sk1.xyz.{'s' * 32}") == 2
    assert "its second part" in lines(capsys)[-2]
    assert centre.requests == []


def test_the_agent_alone_shows_its_help_and_its_version(capsys: Capsys) -> None:
    """Nothing is wrong: help with 2, the version with 0."""
    assert main([]) == 2
    assert capsys.readouterr().out.startswith("usage: skerry-agent")
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("skerry-agent ")


def test_a_port_above_all_is_told_so(home: Path, capsys: Capsys) -> None:
    """Which rule it breaks."""
    assert main(["run", "--home", str(home), "--listen", "127.0.0.1:99999"]) == 2
    assert "the port is above 65535" in lines(capsys)[1]


@pytest.mark.parametrize("command", ["run", "status"])
def test_who_has_not_joined_is_told_how(home: Path, capsys: Capsys, command: str) -> None:
    """Exit 3, three lines."""
    assert main([command, "--home", str(home)]) == 3
    told = lines(capsys)
    assert len(told) == 3
    assert told[2].startswith("join it: skerry-agent join URL --token TOKEN")
    assert told[2].endswith("--home DIR")


def test_help_is_quick_and_loads_nothing() -> None:
    """A person who asks for help waits for no numpy."""
    code = (
        "import sys, agent.cli\n"
        "try: agent.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = ('numpy', 'cryptography', 'urllib3', 'pydantic', 'uvicorn')\n"
        "print([each for each in heavy if each in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "join" in done.stdout
    assert done.stderr.strip() == "[]"


def test_the_agent_loads_no_heavy_parts() -> None:
    """numpy, runtimes, cryptography, HTTP clients and the centre stay out of its process."""
    code = (
        "import sys, agent.run\n"
        "heavy = ('numpy', 'ai_edge_litert', 'tflite_runtime', 'cryptography', 'urllib3')\n"
        "heavy += ('kubernetes', 'fleet')\n"
        "print([each for each in heavy if each in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
