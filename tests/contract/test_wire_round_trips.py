"""Whatever is a valid document comes back from its bytes as it was."""

import json
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agent.wire import v1
from agent.wire.codec import Document, WireError, decode, encode
from agent.wire.limits import SKETCH_BUCKETS_LIMIT
from agent.wire.packing import PACKED_LIMIT, pack, unpack
from agent.wire.phases import Phase
from agent.wire.reasons import Reason
from tests.contract.samples import SAMPLES

names = st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?", fullmatch=True)
ids = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
devices = ids.map("d-{}".format)
digests = st.binary(min_size=32, max_size=32).map(lambda raw: f"sha256:{raw.hex()}")
texts = st.text(st.characters(codec="utf-8"), max_size=60)
times = st.datetimes().map(lambda at: at.strftime("%Y-%m-%dT%H:%M:%SZ").zfill(20))
wholes = st.integers(0, 2**53 - 1)
counts = st.integers(1, 2**53 - 1)
pairs = st.dictionaries(texts, texts, max_size=3)
orders = st.builds(v1.Order, epoch=wholes, generation=counts)
bundles = st.builds(v1.BundleRef, digest=digests, name=names, version=texts)
numbers = st.floats(allow_nan=False, allow_infinity=False)
plain_names = st.sampled_from(["threshold", "top", "mirror", "unit", "größe"])
settings_values = st.dictionaries(
    plain_names,
    st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | numbers
    | texts
    | st.builds(v1.SecretRef, secret=names),
    max_size=4,
)
deployments = st.builds(
    v1.Deployment,
    name=names,
    bundle=bundles,
    revision=counts,
    settings=st.builds(
        v1.DeploymentSettings,
        threads=st.integers(1, 64),
        workers=st.none() | st.integers(1, 16),
        timeout_s=st.floats(0.001, 3600),
        probation_s=st.floats(0, 86400),
        values=settings_values,
    ),
    unit=st.none() | names,
)
windows = st.builds(
    v1.Window,
    days=st.lists(st.sampled_from(tuple(v1.Weekday)), min_size=1, unique=True).map(tuple),
    start=st.sampled_from(["00:00", "21:59"]),
    end=st.sampled_from(["05:00", "24:00"]),
)
desired = st.builds(
    v1.Desired,
    fleet=ids,
    target=devices,
    order=orders,
    issued_at=times,
    deployments=st.lists(deployments, max_size=4, unique_by=lambda each: each.name).map(tuple),
    settings=st.builds(
        v1.DeviceSettings,
        health_period_s=st.floats(1, 86400),
        reconnect_cap_s=st.floats(0.5, 3600),
        download_rate_bytes_per_s=st.none() | st.integers(1024, 2**53 - 1),
        download_windows=st.lists(windows, max_size=4).map(tuple),
        maintenance_windows=st.lists(windows, max_size=3).map(tuple),
        time_zone=st.sampled_from(["UTC", "Etc/GMT+12", "America/Argentina/ComodRivadavia"]),
        values=settings_values,
    ),
    agent_version=st.none() | texts,
)
problems = st.builds(v1.Problem, reason=st.sampled_from(Reason), message=texts, parameters=pairs)
reported = st.builds(
    v1.Reported,
    fleet=ids,
    device=devices,
    session=wholes,
    observed=st.none() | orders,
    deployments=st.lists(
        st.builds(
            v1.ReportedDeployment,
            name=names,
            revision=counts,
            digest=digests,
            phase=st.sampled_from(Phase),
            last_error=st.none() | problems,
        ),
        max_size=4,
        unique_by=lambda each: each.name,
    ).map(tuple),
    hold=st.none() | st.builds(v1.Hold, reason=texts, since=times),
    last_error=st.none() | problems,
)
transition = st.builds(
    v1.Event,
    fleet=ids,
    device=devices,
    ledger=texts,
    number=counts,
    kind=st.sampled_from(sorted(set(v1.EventKind) - {v1.EventKind.HEALTH})),
    session=counts,
    at=times,
    deployment=st.none() | names,
    revision=st.none() | counts,
    digest=st.none() | digests,
    phase=st.none() | st.sampled_from(Phase),
    reason=st.none() | st.sampled_from(Reason),
    count=counts,
    message=texts,
    parameters=pairs,
)
buckets = st.dictionaries(
    st.integers(-200, 200), st.integers(1, 10**7), max_size=SKETCH_BUCKETS_LIMIT
)
measured = st.builds(
    v1.DeploymentHealth,
    name=names,
    revision=counts,
    digest=digests,
    requests=counts,
    errors=counts,
    # Few: what a sketch loses when it is packed is another property's.
    latency=st.dictionaries(st.integers(-90, -80), st.integers(1, 63)).map(
        lambda found: v1.LatencySketch(count=sum(found.values()), buckets=found)
    ),
)
waited = st.builds(
    lambda told, outbox, parts: replace(
        told,
        kind=v1.EventKind.HEALTH,
        health=v1.Health(
            fleet=told.fleet,
            device=told.device,
            session=told.session,
            at=told.at,
            period_s=60.0,
            outbox=outbox,
            told=told.number,
            deployments=tuple(parts),
        ),
    ),
    transition,
    counts,
    st.lists(measured, max_size=3),
)
event = transition | waited


@given(desired | reported | event)
def test_a_valid_document_comes_back_as_it_was(document: Document) -> None:
    """Reading undoes writing."""
    assert document == decode(encode(document), type(document))


@given(st.binary(max_size=600))
def test_random_bytes_are_refused_and_nothing_else_happens(raw: bytes) -> None:
    """No bytes get past the reader, and none make it fail in another way."""
    with pytest.raises(WireError):
        decode(raw, *{type(document) for document in SAMPLES.values()})


@given(st.sampled_from(sorted(SAMPLES)), st.data())
def test_a_damaged_document_is_refused_or_is_another_valid_one(
    name: str, draw: st.DataObject
) -> None:
    """One changed byte never makes the reader fail in another way than by refusing."""
    raw = bytearray(encode(SAMPLES[name]))
    raw[draw.draw(st.integers(0, len(raw) - 1))] = draw.draw(st.integers(0, 255))
    try:
        document = decode(bytes(raw), type(SAMPLES[name]))
    except WireError:
        return

    assert decode(encode(document), type(document)) == document


@given(buckets)
def test_a_sketch_comes_back_whole_or_with_only_its_lowest_buckets_collapsed(
    sketch: dict[int, int],
) -> None:
    """No request is lost, and what stays apart stays exact."""
    text = pack(sketch)
    back = unpack(text)

    assert len(text) <= PACKED_LIMIT
    assert sum(sketch.values()) == sum(back.values())
    above = sorted(back)[1:]
    assert {index: sketch[index] for index in above} == {index: back[index] for index in above}


@given(st.integers(-200, 200))
def test_sixty_four_neighbouring_buckets_of_thousands_fit_whole(lowest: int) -> None:
    """The full sketch of half a million requests needs no collapsing."""
    sketch = {lowest + step: 8191 for step in range(SKETCH_BUCKETS_LIMIT)}

    assert sketch == unpack(pack(sketch))


@given(st.text(st.sampled_from("AB/+z09=-"), max_size=300) | texts)
def test_a_text_that_is_no_sketch_is_refused(text: str) -> None:
    """Unpacking either gives buckets or says that the text is none."""
    try:
        sketch = unpack(text)
    except ValueError:
        return

    assert sketch == unpack(pack(sketch))


@given(event, st.sampled_from(["NaN", "Infinity", "-Infinity", "1e999", "-1e999"]))
def test_a_number_that_json_has_no_word_for_is_refused(document: v1.Event, word: str) -> None:
    """NaN and infinity are refused wherever they stand, even where nothing reads them."""
    raw = encode(document)
    unread = raw[:-1] + f',"later":{word}}}'.encode()
    with pytest.raises(WireError, match="not JSON"):
        decode(unread, v1.Event)


@given(st.sampled_from([float("nan"), float("inf"), float("-inf")]))
def test_a_number_that_json_has_no_word_for_is_not_sent(number: float) -> None:
    """The writer is as strict as the reader."""
    health = SAMPLES["health"]
    assert isinstance(health, v1.Health)
    with pytest.raises(WireError, match="JSON can't hold"):
        encode(replace(health, cpu_ratio=number))


@given(desired)
def test_the_two_orders_of_fields_read_the_same(document: v1.Desired) -> None:
    """A reader doesn't depend on where in its object a field stands."""
    raw = encode(document)
    assume(b'"agent_version"' not in raw)
    head, comma, rest = raw.partition(b",")

    assert document == decode(b"{" + rest[:-1] + comma + head[1:] + b"}", v1.Desired)


def test_health_that_waited_since_drift_was_a_list_is_still_read() -> None:
    """It was always empty; a device that was upgraded may have such in its outbox."""
    health = SAMPLES["health"]
    assert isinstance(health, v1.Health)
    told = json.loads(encode(health))
    for part in told["deployments"]:
        part["drift"] = []

    read = decode(json.dumps(told).encode(), v1.Health)

    assert [()] * len(health.deployments) == [each.drift for each in read.deployments]
