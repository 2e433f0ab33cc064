"""Receivers with an authority of their own: told where it is named, and only there."""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fleet import clock
from fleet.identity import authority as identity
from fleet.identity.places import Home
from fleet.store.engine import Store
from tests.fleet.centre.listeners import SECRET, hook, post
from tests.fleet.centre.outlook import Outlook
from tests.fleet.centre.test_receivers import WAIT_S, alertmanager, webhook, write
from tests.fleet.centre.test_receivers import telling as told_at_a_time

UNTRUSTED = "its certificate is not trusted"
NAME_IT = "name the authority that it is of: ca = FILE"


@pytest.fixture
def outlook(store: Store) -> Outlook:
    return Outlook(store)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """What somebody else's servers are known by, for the names of this machine."""
    made = tmp_path_factory.mktemp("theirs")
    identity.init(made, fleet="theirs", hosts=["127.0.0.1"], now=clock.now())
    return Home(made)


@pytest.fixture
def file(tmp_path: Path, theirs: Home) -> Path:
    key = tmp_path / "key"
    key.write_bytes(SECRET)
    key.chmod(0o600)
    (tmp_path / "theirs.pem").write_bytes(theirs.ca.read_bytes())
    return tmp_path / "receivers.toml"


def tls(theirs: Home) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(theirs.server, theirs.server_key)
    return context


@asynccontextmanager
async def tried(outlook: Outlook, file: Path, text: str) -> AsyncIterator[str]:
    """Send a test to the receiver `ops` of a file, and say why it was not taken."""
    write(file, text)
    async with told_at_a_time(outlook, file) as (made, _):
        yield await made.test("ops", actor="anna")


async def test_a_webhook_of_a_private_authority_is_told_where_it_is_named(
    outlook: Outlook, file: Path, theirs: Home
) -> None:
    """And refused by who does not know it, with the words that say what to do."""
    async with hook(tls=tls(theirs)) as ours:
        async with tried(outlook, file, webhook("ops", ours.url)) as error:
            assert UNTRUSTED in error
            assert error.endswith(NAME_IT)
            assert 0 == ours.asked
        async with tried(outlook, file, webhook("ops", ours.url, 'ca = "theirs.pem"')) as error:
            assert ("", 1) == (error, ours.asked)


async def test_an_authority_that_is_named_is_the_only_one(
    outlook: Outlook, file: Path, theirs: Home, tmp_path: Path
) -> None:
    """A server of another one is a stranger, and so is one of another name."""
    identity.init(tmp_path / "other", fleet="other", hosts=["127.0.0.1"], now=clock.now())
    trusts = 'ca = "theirs.pem"'
    async with hook(tls=tls(Home(tmp_path / "other"))) as other, hook(tls=tls(theirs)) as ours:
        async with tried(outlook, file, webhook("ops", other.url, trusts)) as error:
            assert UNTRUSTED in error
        elsewhere = ours.url.replace("127.0.0.1", "0.0.0.0")  # noqa: S104  # another name of it
        async with tried(outlook, file, webhook("ops", elsewhere, trusts)) as error:
            assert "IP address mismatch" in error
    assert 0 == other.asked + ours.asked


@pytest.mark.parametrize("security", ["tls", "starttls"])
async def test_a_mail_server_of_a_private_authority_is_told_where_it_is_named(
    outlook: Outlook, file: Path, theirs: Home, security: str
) -> None:
    """From the first byte, or after STARTTLS; no password is said to who is not trusted."""
    context = tls(theirs)
    first, later = (context, None) if security == "tls" else (None, context)
    async with post(tls=first, starttls=later) as ours:
        text = (
            f'[receiver.ops]\nkind = "mail"\nhost = "127.0.0.1"\nsecurity = "{security}"\n'
            f'port = {ours.port}\nfrom = "skerry@sea.example"\nto = "a@ops.example"\n'
        )
        if later is not None:
            text += 'user = "skerry"\npassword_file = "key"\n'
        async with tried(outlook, file, text) as error:
            assert UNTRUSTED in error
            assert error.endswith(NAME_IT)
            assert ([], []) == (ours.letters, ours.passwords)
        async with tried(outlook, file, f'{text}ca = "theirs.pem"\n') as error:
            assert "" == error
            assert 1 == len(ours.letters)
    if later is not None:
        said = [base64.b64decode(each) for each in ours.passwords]
        assert [b"\0skerry\0" + SECRET] == said


@pytest.mark.real("prometheus-alertmanager")
async def test_a_real_alertmanager_of_a_private_authority_is_told(
    outlook: Outlook, file: Path, theirs: Home, tmp_path: Path
) -> None:
    """Debian's, with a certificate that only we know."""
    with alertmanager(tmp_path, theirs) as url:
        text = f'[receiver.ops]\nkind = "alertmanager"\nurl = "{url}"\n'
        write(file, f'{text}ca = "theirs.pem"\n')
        async with told_at_a_time(outlook, file) as (made, _):
            errors = ["?"]
            async with asyncio.timeout(WAIT_S):
                while errors[-1]:
                    errors.append(await made.test("ops", actor="anna"))
        assert not any(UNTRUSTED in each for each in errors)
        async with tried(outlook, file, text) as error:
            assert UNTRUSTED in error


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "can't be read: No such file or directory"),
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"hello", "has no certificate, as PEM"),
        (b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n", "has no certificate"),
        (b"\xff\0\xfe", "has no certificate"),
        (b"x" * ((1 << 20) + 1), "has more than 1048576 bytes"),
    ],
    ids=["none", "empty", "blank", "words", "broken", "bytes", "long"],
)
async def test_a_file_that_names_no_authority_is_refused(
    outlook: Outlook, file: Path, theirs: Home, content: bytes | None, why: str
) -> None:
    """With its name; nothing is sent, and nobody else's authorities are taken instead."""
    ca = file.with_name("ca.pem")
    if content is not None:
        ca.write_bytes(content)
    async with hook(tls=tls(theirs)) as ours:
        async with tried(outlook, file, webhook("ops", ours.url, 'ca = "ca.pem"')) as error:
            assert why in error
            assert "ca.pem" in error
        assert 0 == ours.asked
