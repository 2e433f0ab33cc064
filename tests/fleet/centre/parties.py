"""What the tests of the centre share: devices that ask to join, their requests and tokens."""

import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from agent.wire import codec, facts, v1
from agent.wire.phases import Phase
from fleet.clock import written
from fleet.identity.authority import Authority
from fleet.identity.join import new_id
from fleet.identity.tokens import JoinToken
from fleet.store import arrivals, bundles, desired, devices, tokens
from fleet.store.engine import Store
from models import card_codec
from tests.fleet.deciding.paper import Paper

NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
SECRET = "s" * 32
FACTS = {
    facts.ARCHITECTURE: "x86_64",
    facts.MEMORY_MIB: "512",
    facts.RUNTIME: "litert",
    facts.RUNTIME_VERSION: "2.3.0",
}
Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


def request_of(key: Key, name: str = "whoever-i-like") -> str:
    """Return a signing request for a key, which asks for a name of its own."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    request = builder.sign(key, algorithm)
    return request.public_bytes(serialization.Encoding.PEM).decode()


def new_request() -> str:
    """Return a signing request for a fresh P-256 key."""
    return request_of(ec.generate_private_key(ec.SECP256R1()))


def write_key(path: Path, key: Key) -> None:
    """Put a private key where an HTTP client can find it."""
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(pem)


def certify(authority: Authority, folder: Path, device: str) -> tuple[Path, Path]:
    """Return a device's certificate and key as files. They are valid today, so issued today."""
    key = ec.generate_private_key(ec.SECP256R1())
    issued = authority.issue(request_of(key), device, now=dt.datetime.now(dt.UTC))  # noqa: TID251  # TLS reads the clock
    paths = folder / f"{device}.pem", folder / f"{device}.key"
    paths[0].write_text(issued.certificate)
    write_key(paths[1], key)
    return paths


def add_token(
    store: Store,
    authority: Authority,
    *,
    uses: int = 1,
    valid: dt.timedelta = dt.timedelta(hours=1),
    site: str | None = None,
    labels: dict[str, str] | None = None,
    secret: str = SECRET,
) -> JoinToken:
    """Return a join token that the store knows."""
    token = JoinToken(ca_sha256=authority.ca_sha256, secret=secret)
    with store.write() as connection:
        place = None
        if site is not None:
            place = devices.site_named(connection, site, new_id=new_id("s-"), now=written(NOW)).id
        tokens.add(
            connection,
            tokens.Token(
                id=token.id,
                hash=token.hash,
                site=place,
                labels=labels or {},
                uses=0,
                uses_limit=uses,
                created_at=written(NOW),
                expires_at=written(NOW + valid),
            ),
        )
    return token


def ask(token: JoinToken | str, **changes: object) -> v1.JoinRequest:
    """Return a device's request to join."""
    fields: dict[str, object] = {
        "token": str(token),
        "csr": new_request(),
        "name": "buoy",
        "facts": FACTS,
        **changes,
    }
    return v1.JoinRequest(**fields)  # type: ignore[arg-type]


def add_devices(
    store: Store,
    ids: Sequence[str],
    known: Mapping[str, str] = FACTS,
    *,
    joined: dt.datetime = NOW,
) -> None:
    """Put devices into the store as if they had joined. `known` is what they say of themselves."""
    with store.write() as connection:
        for device in ids:
            devices.add(
                connection,
                devices.Device(
                    id=device,
                    name=f"name-{device}",
                    site=None,
                    site_name=None,
                    labels={},
                    facts=known,
                    serial="1",
                    certificate_expires_at=written(NOW),
                    joined_at=written(joined),
                ),
            )


def add_bundles(store: Store, *versions: str) -> None:
    """Publish versions of the bundle `digits`."""
    paper = Paper()
    with store.write() as connection:
        for version in versions:
            ref = paper.bundle(version)
            published = bundles.PublishedBundle(
                digest=ref.digest,
                name=ref.name,
                version=version,
                card=card_codec.render(paper.card(ref)),
                published_at=written(NOW),
            )
            bundles.add(connection, published)


def come(
    store: Store, fleet: str, *ids: str, session: int = 1, known: Mapping[str, str] = FACTS
) -> None:
    """Let devices connect."""
    births = [
        v1.Birth(
            fleet=fleet,
            device=device,
            session=session,
            agent_version="1",
            at=written(NOW),
            facts=dict(known),
        )
        for device in ids
    ]
    with store.write() as connection:
        arrivals.commit(connection, births, now=written(NOW))


def go(store: Store, fleet: str, *ids: str, session: int = 1) -> None:
    """Let the broker say that devices have gone."""
    deaths = [v1.Death(fleet=fleet, device=device, session=session) for device in ids]
    with store.write() as connection:
        arrivals.commit(connection, deaths, now=written(NOW))


def say(
    store: Store,
    fleet: str,
    *ids: str,
    phase: Phase = Phase.COMMITTED,
    reason: str | None = None,
    numbers: Mapping[str, str] | None = None,
    hold: str | None = None,
    session: int = 1,
) -> None:
    """Let devices report how far they are with all that is wanted of them."""
    reports = []
    for device in ids:
        with store.read() as connection:
            held = desired.held(connection, device)
        document = None if held is None else codec.decode(held.payload, v1.Desired)
        reports.append(
            v1.Reported(
                fleet=fleet,
                device=device,
                session=session,
                observed=None if document is None else document.order,
                hold=None if hold is None else v1.Hold(reason=hold, since=written(NOW)),
                deployments=tuple(
                    v1.ReportedDeployment(
                        name=each.name,
                        revision=each.revision,
                        digest=each.bundle.digest,
                        phase=phase,
                        last_error=None
                        if reason is None
                        else v1.Problem(reason=reason, parameters=numbers or {}),
                    )
                    for each in (() if document is None else document.deployments)
                ),
            )
        )
    with store.write() as connection:
        arrivals.commit(connection, reports, now=written(NOW))
