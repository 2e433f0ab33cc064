"""Trust is made once, certificates say who a device is and no more, tokens let in whom they say."""

import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from agent.wire import codec, v1
from agent.wire.reasons import Reason
from fleet.identity import authority as identity
from fleet.identity.authority import Authority, server_names
from fleet.identity.errors import JoinRefusedError, TrustExistsError, TrustMissingError
from fleet.identity.join import Reachable, join, new_id
from fleet.identity.places import Home
from fleet.identity.tokens import JoinToken
from fleet.store import audit, devices, tokens
from fleet.store.engine import Store
from fleet.store.errors import TokenRefusedError
from tests.fleet.centre.parties import NOW, add_token, ask, new_request, request_of

DEVICE = "d-abcdefghijklmnop"
REACHABLE = Reachable(broker_url="mqtts://centre.example:8883", registry_url="https://c.example")


def let_in(request: v1.JoinRequest, authority: Authority, store: Store) -> v1.JoinAnswer:
    return join(request, authority=authority, store=store, reachable=REACHABLE, now=NOW)


def common_name(certificate: x509.Certificate) -> str:
    [attribute] = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(attribute.value)


def test_all_keys_are_made_for_the_owner_alone(home: Home) -> None:
    """Nobody else on the machine reads a key or the operator's token."""
    files = [*home.trust.iterdir(), home.operator_token]

    assert 11 == len(files)
    assert {0o600} == {stat.S_IMODE(file.stat().st_mode) for file in files}
    assert 0o700 == stat.S_IMODE(home.trust.stat().st_mode)
    assert {"centre.example", "localhost", "127.0.0.1", "::1"} == server_names(home)


def test_trust_is_never_overwritten(home: Home) -> None:
    """A second init changes no byte: devices trust what is there."""
    before = {path: path.read_bytes() for path in home.path.rglob("*") if path.is_file()}

    with pytest.raises(TrustExistsError):
        identity.init(home.path, fleet="other", hosts=[], now=NOW)

    assert before == {path: path.read_bytes() for path in home.path.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("fleet", "host"), [("No Id", "ok.example"), ("ok", "no host"), ("ok", "*.x"), ("ok", "")]
)
def test_a_wrong_fleet_or_host_makes_nothing(tmp_path: Path, fleet: str, host: str) -> None:
    """What can't be certified is said before a key is made."""
    with pytest.raises(ValueError, match="not a"):
        identity.init(tmp_path / "home", fleet=fleet, hosts=[host], now=NOW)

    assert not (tmp_path / "home").exists()


def test_an_init_that_was_cut_off_is_begun_anew(tmp_path: Path) -> None:
    """What a crash left in the middle of it is not taken for trust, and doesn't hinder."""
    left = tmp_path / "home" / ".trust-being-made" / "trust"
    left.mkdir(parents=True)
    (left / "ca.key").write_bytes(b"half")

    identity.init(tmp_path / "home", fleet="harbour", hosts=[], now=NOW)

    assert "harbour" == Authority.load(tmp_path / "home").fleet
    assert not left.exists()


def test_a_home_without_keys_is_said(tmp_path: Path) -> None:
    """An empty or damaged home is named, not guessed at."""
    with pytest.raises(TrustMissingError):
        Authority.load(tmp_path)

    identity.init(tmp_path / "home", fleet="harbour", hosts=[], now=NOW)
    Home(tmp_path / "home").bundle_public.write_bytes(b"garbage")
    with pytest.raises(TrustMissingError):
        Authority.load(tmp_path / "home")


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["P-256", "P-384", "Ed25519"],
)
def test_a_certificate_says_who_a_device_is_and_no_more(
    authority: Authority, key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
) -> None:
    """Its name is the id the centre gave, whatever the request asked for; it is a client's only."""
    issued = authority.issue(request_of(key, name="centre"), DEVICE, now=NOW)

    certificate = x509.load_pem_x509_certificate(issued.certificate.encode())
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.pem.encode()))
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert DEVICE == common_name(certificate)
    assert [ExtendedKeyUsageOID.CLIENT_AUTH] == list(usage)
    assert (False, True) == (basic.value.ca, basic.critical)
    assert NOW + timedelta(days=730) == certificate.not_valid_after_utc == issued.expires_at
    assert f"{certificate.serial_number:x}" == issued.serial


def test_only_strong_modern_keys_are_certified(authority: Authority) -> None:
    """RSA and other curves are refused with CSR_INVALID, as is what is no request at all."""
    weak = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    odd = ec.generate_private_key(ec.SECP256K1())
    wrong = [request_of(weak), request_of(odd), "-----BEGIN CERTIFICATE REQUEST-----\nx", ""]

    reasons = []
    for request in wrong:
        with pytest.raises(JoinRefusedError) as refused:
            authority.issue(request, DEVICE, now=NOW)
        reasons.append(refused.value.reason)

    assert [Reason.CSR_INVALID] * 4 == reasons


def test_a_request_must_be_signed_by_its_own_key(authority: Authority) -> None:
    """Nobody gets a certificate over a key that is somebody else's."""
    request = x509.load_pem_x509_csr(new_request().encode())
    raw = bytearray(request.public_bytes(Encoding.DER))
    raw[-1] ^= 1
    forged = x509.load_der_x509_csr(bytes(raw)).public_bytes(Encoding.PEM)

    with pytest.raises(JoinRefusedError) as refused:
        authority.issue(forged.decode(), DEVICE, now=NOW)

    assert Reason.CSR_INVALID == refused.value.reason


def test_a_device_gets_all_it_needs_to_live_alone(authority: Authority, store: Store) -> None:
    """Its id, its certificate, whom to trust, where to dial; token and audit say how it came."""
    token = add_token(store, authority, site="porto", labels={"room": "oven", "tier": "lab"})

    answer = let_in(ask(token, labels={"room": "mine", "own": "yes"}), authority, store)

    assert answer == codec.decode(codec.encode(answer), v1.JoinAnswer)
    assert ("harbour", REACHABLE.broker_url) == (answer.fleet, answer.broker_url)
    assert {"bundle", "desired"} == {key.use for key in answer.keys}
    certificate = x509.load_pem_x509_certificate(answer.certificate.encode())
    assert answer.device == common_name(certificate)
    with store.read() as connection:
        device = devices.named(connection, answer.device)
        [entry] = audit.latest(connection, limit=10, about=answer.device)
    assert "porto" == device.site_name
    assert {"room": "oven", "tier": "lab", "own": "yes"} == device.labels
    assert ("join", token.id) == (entry.action, entry.actor)


def test_a_site_may_be_the_device_s_wish_where_the_token_says_none(
    authority: Authority, store: Store
) -> None:
    """Two devices that name the same site share it; the token's own site wins."""
    free = add_token(store, authority, uses=2)
    bound = add_token(store, authority, site="porto", secret="b" * 32)

    one = let_in(ask(free, site="lerwick"), authority, store)
    two = let_in(ask(free, site="lerwick", name="two"), authority, store)
    three = let_in(ask(bound, site="lerwick", name="three"), authority, store)

    assert one.site == two.site
    assert three.site not in {None, one.site}


def refusal(request: v1.JoinRequest, authority: Authority, store: Store) -> Reason:
    with pytest.raises(JoinRefusedError) as refused:
        let_in(request, authority, store)
    return refused.value.reason


def test_tokens_that_let_nobody_in_say_why(authority: Authority, store: Store) -> None:
    """Unknown, of another fleet, malformed, used, expired: each by its reason; nobody is added."""
    used = add_token(store, authority)
    let_in(ask(used), authority, store)
    old = add_token(store, authority, valid=timedelta(), secret="o" * 32)
    unknown = JoinToken(ca_sha256=authority.ca_sha256, secret="u" * 32)
    foreign = JoinToken(ca_sha256="0" * 64, secret="s" * 32)
    texts: list[JoinToken | str] = [unknown, foreign, "sk1.x", used, old]

    reasons = [refusal(ask(text), authority, store) for text in texts]

    assert [
        Reason.TOKEN_UNKNOWN,
        Reason.TOKEN_UNKNOWN,
        Reason.TOKEN_UNKNOWN,
        Reason.TOKEN_USED,
        Reason.TOKEN_EXPIRED,
    ] == reasons
    with store.read() as connection:
        assert 1 == len(devices.every(connection))


def test_a_refused_request_uses_nothing_up(authority: Authority, store: Store) -> None:
    """A bad signing request leaves the token as it was."""
    token = add_token(store, authority)
    bad = request_of(rsa.generate_private_key(public_exponent=65537, key_size=2048))

    assert Reason.CSR_INVALID == refusal(ask(token, csr=bad), authority, store)

    with store.read() as connection:
        assert [0] == [each.uses for each in tokens.every(connection)]
        assert [] == list(devices.every(connection))
    let_in(ask(token), authority, store)


def test_a_name_that_is_taken_is_refused_and_uses_nothing_up(
    authority: Authority, store: Store
) -> None:
    """Two devices of one name could never be told apart by it; an id as a name is no better."""
    token = add_token(store, authority, uses=5)
    first = let_in(ask(token, name="pi-1"), authority, store)

    for name in ("pi-1", first.device):
        assert Reason.NAME_TAKEN == refusal(ask(token, name=name), authority, store)

    with store.read() as connection:
        assert [1] == [each.uses for each in tokens.every(connection)]
        assert [first.device] == [each.id for each in devices.every(connection)]


@pytest.mark.parametrize(("uses", "askers"), [(1, 8), (3, 8)])
def test_of_concurrent_joins_exactly_as_many_win_as_there_are_uses(
    authority: Authority, store: Store, uses: int, askers: int
) -> None:
    """Counting a use is one statement, so a race has no second winner."""
    token = add_token(store, authority, uses=uses)
    requests = [ask(token, name=f"buoy-{number}") for number in range(askers)]

    def attempt(request: v1.JoinRequest) -> Reason | None:
        try:
            let_in(request, authority, store)
        except JoinRefusedError as error:
            return error.reason
        return None

    with ThreadPoolExecutor(askers) as pool:
        outcomes = list(pool.map(attempt, requests))

    assert uses == outcomes.count(None)
    assert askers - uses == outcomes.count(Reason.TOKEN_USED)
    with store.read() as connection:
        assert uses == len(devices.every(connection))
        assert [uses] == [each.uses for each in tokens.every(connection)]


def test_the_statement_itself_refuses_a_use_too_many(authority: Authority, store: Store) -> None:
    """Even unchecked before, a use beyond the limit is not counted."""
    token = add_token(store, authority)
    with store.write() as connection:
        tokens.use(connection, token.hash, now="2026-03-01T12:00:00Z")

    with pytest.raises(TokenRefusedError), store.write() as connection:
        tokens.use(connection, token.hash, now="2026-03-01T12:00:00Z")

    with store.read() as connection:
        assert [1] == [each.uses for each in tokens.every(connection)]


def test_the_secret_is_kept_nowhere(authority: Authority, store: Store, home: Home) -> None:
    """Whoever steals the database can't join with it."""
    token = add_token(store, authority, secret="findme" * 5)
    with store.write() as connection:
        connection.exec_driver_sql("SELECT 1")

    raw = b"".join(path.read_bytes() for path in home.path.glob("store.db*"))
    assert token.hash.encode() in raw
    assert b"findme" not in raw
    assert "findme" not in repr(token)


@given(st.text(max_size=120))
def test_a_token_s_text_is_read_strictly(text: str) -> None:
    """What is read as a token is written back as it was; all else is refused."""
    try:
        token = JoinToken.parse(text)
    except ValueError:
        return
    assert text == str(token)


def test_ids_are_opaque_and_new() -> None:
    """A thousand ids are all different and fit a topic."""
    ids = {new_id("d-") for _ in range(1000)}

    assert 1000 == len(ids)
    for device in ids:
        v1.Death(fleet="harbour", device=device, session=1)
