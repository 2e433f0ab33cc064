"""What the wire refuses, and that all which should fit does: bytes, nesting, secrets."""

import base64
import json
from dataclasses import replace

import pytest

from agent.health import with_shadows
from agent.state import Compared, accepted
from agent.wire import v1
from agent.wire.codec import WireError, decode, encode
from agent.wire.limits import (
    DEPLOYMENTS_LIMIT,
    DOCUMENT_LIMIT_BYTES,
    DRIFT_COUNT_LIMIT,
    DRIFT_COUNTS_LIMIT,
    DRIFT_NAME_LIMIT,
    DRIFT_SUBJECTS_LIMIT,
    HEALTH_DEPLOYMENT_LIMIT_BYTES,
    HEALTH_DEVICE_LIMIT_BYTES,
    HEALTH_DRIFT_LIMIT_BYTES,
    SIGNED_LIMIT_BYTES,
    SKETCH_BUCKETS_LIMIT,
    WINDOWS_LIMIT,
)
from agent.wire.phases import Phase
from agent.wire.reasons import Reason
from agent.wire.shed import shed, shed_desired, shed_waiting
from models import limits as models_limits
from models.drift import Measure, Subject
from tests.contract.samples import AT, BUNDLE, CONDITION, FULL, TRACE, VARIANT, WAITED

LONGEST_NAME = "n" * 63


def in_envelope(payload: bytes, signatures: int) -> bytes:
    """Return the largest DSSE envelope that an Ed25519-signed document may get."""
    return json.dumps(
        {
            "payloadType": "application/vnd.skerry.site-desired.v1+json",
            "payload": base64.b64encode(payload).decode(),
            "signatures": [{"keyid": "ab" * 32, "sig": base64.b64encode(bytes(64)).decode()}]
            * signatures,
        }
    ).encode()


def full_health(name_length: int, counts: int) -> v1.Health:
    """Return a device with 16 deployments, each with 64 buckets of `counts` requests."""
    sketch = v1.LatencySketch(
        count=counts * SKETCH_BUCKETS_LIMIT,
        buckets=dict.fromkeys(range(-90, -90 + SKETCH_BUCKETS_LIMIT), counts),
    )
    health = FULL["health"]
    assert isinstance(health, v1.Health)
    return replace(
        health,
        fleet="f" * 30,
        device="d-" + "d" * 30,
        session=2**40,
        cpu_ratio=0.123456789012345,
        temperature_c=-61.1,
        accelerator_c=-61.1,
        accelerator="a" * 40,
        outbox=10**6,
        deployments=tuple(
            v1.DeploymentHealth(
                name=f"{number:02}".ljust(name_length, "n"),
                revision=999,
                digest=BUNDLE.digest,
                requests=9_999_999,
                errors=9_999_999,
                restarts=999,
                latency=sketch,
            )
            for number in range(DEPLOYMENTS_LIMIT)
        ),
    )


@pytest.mark.parametrize("counts", [1, 63, 8191, 10**6])
def test_sixteen_deployments_with_full_sketches_fit_one_health_document(counts: int) -> None:
    """512 bytes for the device, 512 for each deployment, 8 KB for all: with the longest names."""
    health = full_health(63, counts)
    raw = encode(health)
    tree = json.loads(raw)
    parts = tree.pop("deployments")

    assert len(raw) <= DOCUMENT_LIMIT_BYTES
    assert len(json.dumps(tree, separators=(",", ":"))) <= HEALTH_DEVICE_LIMIT_BYTES
    for part in parts:
        assert len(json.dumps(part, separators=(",", ":"))) <= HEALTH_DEPLOYMENT_LIMIT_BYTES
    back = decode(raw, v1.Health).deployments[0].latency
    assert counts * SKETCH_BUCKETS_LIMIT == back.count
    if counts <= 8191:
        assert health.deployments[0].latency == back


def waited(health: v1.Health) -> v1.Event:
    return v1.Event(
        fleet=health.fleet,
        device=health.device,
        ledger="l-" + "a" * 16,
        number=10**9,
        kind=v1.EventKind.HEALTH,
        at=AT,
        session=2**40,
        health=health,
    )


@pytest.mark.parametrize("counts", [1, 63, 8191])
def test_sixteen_deployments_with_full_sketches_fit_an_event(counts: int) -> None:
    """Health that waited has room for its number beside all that it says."""
    event = waited(full_health(63, counts))

    assert event is shed_waiting(event)
    assert len(encode(event)) <= DOCUMENT_LIMIT_BYTES


MOST_DRIFT = tuple(
    v1.DriftSketch(
        subject=f"{number}".ljust(DRIFT_NAME_LIMIT, "n"),
        counts=(DRIFT_COUNT_LIMIT,) * DRIFT_COUNTS_LIMIT,
    )
    for number in range(DRIFT_SUBJECTS_LIMIT)
)


@pytest.mark.parametrize("counts", [8191, 10**6])
@pytest.mark.parametrize("fleet", ["f" * 30, "f" * 3])
def test_beside_sixteen_full_deployments_there_is_room_for_one_drift(
    counts: int, fleet: str
) -> None:
    """As much drift as a deployment may have fits the fullest document, also when it waited."""
    health = replace(full_health(63, counts), fleet=fleet)
    first, *others = health.deployments
    event = waited(replace(health, deployments=(replace(first, drift=MOST_DRIFT), *others)))

    assert event is shed_waiting(event)
    assert event.health is not None
    part = json.loads(encode(event.health))["deployments"][0]
    size = len(json.dumps({"drift": part["drift"]}, separators=(",", ":")))
    assert HEALTH_DRIFT_LIMIT_BYTES - 3 <= size <= HEALTH_DRIFT_LIMIT_BYTES
    back = decode(encode(event), v1.Event)
    assert back.health is not None
    assert MOST_DRIFT == back.health.deployments[0].drift


def test_a_card_and_the_wire_mean_the_same_by_many() -> None:
    """What a card may have of drift may travel."""
    assert DRIFT_SUBJECTS_LIMIT == models_limits.DRIFT_SUBJECTS_LIMIT
    assert DRIFT_COUNTS_LIMIT == models_limits.DRIFT_BINS_LIMIT + 1
    assert len(str(Subject("output", 99, Measure.DEVIATION))) <= DRIFT_NAME_LIMIT


@pytest.mark.parametrize(("name_length", "told"), [(8, 16), (63, 11)])
def test_how_far_shadows_are_is_told_where_there_is_room(name_length: int, told: int) -> None:
    """Of sixteen at once as many as fit, also where the document has to wait."""
    health = full_health(name_length, 10**6)
    settings = v1.DeploymentSettings(shadow=v1.ShadowSettings(requests=9_999_999))
    records = {
        each.name: accepted(
            v1.Deployment(name=each.name, bundle=BUNDLE, revision=999, settings=settings), AT
        )
        for each in health.deployments
    }
    seen = Compared(requests=9_999_998, agreed=9_999_998)
    fuller = with_shadows(health, records, dict.fromkeys(records, seen))

    done = [each.shadow for each in fuller.deployments if each.shadow is not None]
    assert told == len(done)
    assert {v1.Shadowed(compared=9_999_998, agreed=9_999_998, wanted=9_999_999)} == set(done)
    event = waited(fuller)
    assert event == shed_waiting(event)
    back = decode(encode(fuller), v1.Health)
    assert [each.shadow for each in fuller.deployments] == [
        each.shadow for each in back.deployments
    ]
    assert health == with_shadows(health, {}, dict.fromkeys(records, seen))


def test_health_that_waited_sheds_its_drift_until_it_fits() -> None:
    """A document that has more drift than fits goes without; all else that it says always stays."""
    health = full_health(63, 8191)
    drift = MOST_DRIFT
    drifted = replace(
        health, deployments=tuple(replace(part, drift=drift) for part in health.deployments)
    )

    event = shed_waiting(waited(drifted))
    assert waited(health) == event

    busiest = waited(full_health(63, 10**6))
    assert busiest is shed_waiting(busiest)
    assert len(encode(busiest)) <= DOCUMENT_LIMIT_BYTES


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": v1.EventKind.BOOT},
        {"health": None},
        {"device": "d-other"},
        {"fleet": "south"},
    ],
    ids=str,
)
def test_health_goes_with_its_kind_and_its_device(changes: dict[str, object]) -> None:
    """No other event carries health, and nobody tells another's."""
    event = WAITED["event-health"]
    assert isinstance(event, v1.Event)
    with pytest.raises(ValueError, match="health"):
        replace(event, **changes)  # type: ignore[arg-type]


def test_one_deployment_cannot_use_up_the_others_room() -> None:
    """A part over its own limit is refused, though the document would have room for it."""
    health = full_health(20, 1)
    greedy = replace(health.deployments[0], digest="sha256:" + "0" * 64, requests=2**53 - 1)
    fits = replace(health, deployments=(greedy,))

    assert fits == decode(encode(fits), v1.Health)
    with pytest.raises(WireError, match="the device's part") as caught:
        encode(replace(health, accelerator="a" * 256, fleet="f" * 63, device="d-" + "d" * 61))
    assert Reason.TOO_LARGE is caught.value.reason


def full_desired(deployments: int, settings: int = 0) -> v1.Desired:
    return v1.Desired(
        fleet="f" * 30,
        target="d-" + "d" * 30,
        order=v1.Order(epoch=9, generation=10**6),
        issued_at=AT,
        deployments=tuple(
            v1.Deployment(
                name=f"{number:02}-reader-of-belts",
                bundle=v1.BundleRef(digest=BUNDLE.digest, name="belt-reader", version="10.20.30"),
                revision=999,
                settings=v1.DeploymentSettings(
                    values={f"threshold-{index}": 0.25 for index in range(settings)}
                ),
                trace_id=TRACE,
                unit="line-1",
            )
            for number in range(deployments)
        ),
        agent_version="10.20.30",
    )


def test_sixteen_deployments_fit_one_signed_envelope() -> None:
    """A full device with a threshold each fits 8 KB as sent, signed by three keys."""
    raw = encode(full_desired(DEPLOYMENTS_LIMIT, settings=1))

    assert len(in_envelope(raw, 3)) <= DOCUMENT_LIMIT_BYTES


@pytest.mark.parametrize("split", [0, 3, WINDOWS_LIMIT])
def test_sixteen_deployments_and_all_windows_fit_one_signed_envelope(split: int) -> None:
    """The most windows on the most days, in the longest zone there is, beside a full device."""
    window = v1.Window(days=tuple(v1.Weekday), start="22:00", end="05:00")
    settings = v1.DeviceSettings(
        health_period_s=86399.5,
        reconnect_cap_s=3599.5,
        download_rate_bytes_per_s=10**12,
        download_windows=(window,) * (WINDOWS_LIMIT - split),
        maintenance_windows=(window,) * split,
        time_zone="America/Argentina/ComodRivadavia",
    )
    fullest = replace(full_desired(DEPLOYMENTS_LIMIT, settings=1), settings=settings)
    raw = encode(shed_desired(fullest))

    assert len(in_envelope(raw, 3)) <= DOCUMENT_LIMIT_BYTES
    with pytest.raises(ValueError, match="8 windows of both kinds; at most 7"):
        replace(settings, maintenance_windows=(window,) * (split + 1))


def test_a_trace_goes_before_anything_that_a_device_obeys() -> None:
    """All that fit stay; then that of the newest revision alone; what is obeyed stays whole."""
    roomy = full_desired(DEPLOYMENTS_LIMIT, settings=1)
    assert roomy is shed_desired(roomy)

    full = full_desired(DEPLOYMENTS_LIMIT, settings=2)
    first, *others = full.deployments
    full = replace(full, deployments=(replace(first, revision=1000), *others))
    fits = shed_desired(full)
    assert fits == full
    assert [TRACE, *[None] * 15] == [each.trace_id for each in fits.deployments]
    assert fits == decode(encode(fits), v1.Desired)


@pytest.mark.parametrize("trace_id", ["", "0" * 32, "A" * 32, "a" * 31, "a" * 33, "a" * 32 + "\n"])
def test_what_is_no_trace_is_refused(trace_id: str) -> None:
    """Thirty-two digits as W3C Trace Context writes them, in what is obeyed and what is told."""
    deployment = full_desired(1).deployments[0]
    event = FULL["event"]
    assert isinstance(event, v1.Event)
    with pytest.raises(ValueError, match="not a trace's id"):
        replace(deployment, trace_id=trace_id)
    with pytest.raises(ValueError, match="not a trace's id"):
        replace(event, trace_id=trace_id)


def test_the_largest_document_that_may_be_signed_fits_its_envelope() -> None:
    """The limit before signing is right for whatever is in the document."""
    assert len(in_envelope(bytes(SIGNED_LIMIT_BYTES), 3)) <= DOCUMENT_LIMIT_BYTES
    with pytest.raises(WireError, match="at most 5632") as caught:
        encode(full_desired(DEPLOYMENTS_LIMIT, settings=9))
    assert Reason.TOO_LARGE is caught.value.reason


def full_report(name_length: int) -> v1.Reported:
    """Return a device on which everything has something to say of itself."""
    words = {f"parameter-{number}": "p" * 200 for number in range(8)}
    condition = replace(CONDITION, parameters=words)
    problem = v1.Problem(reason=Reason.LOAD_FAILED, message="m" * 256, parameters=words)
    bundle = replace(BUNDLE, name="b" * name_length, version="10.20.30")
    return v1.Reported(
        fleet="north",
        device="d-7f3a",
        session=10**6,
        observed=v1.Order(epoch=9, generation=10**6),
        conditions=(condition, condition),
        last_error=problem,
        deployments=tuple(
            v1.ReportedDeployment(
                name=f"{number:02}".ljust(name_length, "n"),
                revision=999,
                digest=BUNDLE.digest,
                phase=Phase.FETCHING,
                active=v1.Active(
                    revision=998,
                    bundle=bundle,
                    variant=VARIANT,
                    runtime="tflite-runtime 2.14.0",
                    accelerator="cpu",
                ),
                conditions=(condition,),
                last_error=problem,
            )
            for number in range(DEPLOYMENTS_LIMIT)
        ),
    )


@pytest.mark.parametrize("name_length", [10, 63])
def test_a_full_report_sheds_words_until_it_fits(name_length: int) -> None:
    """Whatever a device has to say, name, revision, digest and phase of each deployment arrive."""
    report = full_report(name_length)
    with pytest.raises(WireError, match="at most 8192"):
        encode(report)
    lighter = decode(encode(shed(report)), v1.Reported)

    def said(whole: v1.Reported) -> list[tuple[str, int, str, Phase]]:
        return [(each.name, each.revision, each.digest, each.phase) for each in whole.deployments]

    assert said(report) == said(lighter)
    assert report.observed == lighter.observed
    if name_length == 10:
        assert [each.active for each in report.deployments] == [
            each.active for each in lighter.deployments
        ]


def test_a_report_that_fits_is_left_as_it_is() -> None:
    """Nothing is shed without need."""
    report = FULL["reported"]
    assert isinstance(report, v1.Reported)

    assert report is shed(report)


def test_a_seventeenth_deployment_is_refused() -> None:
    """The limit holds in the value itself, for writer and reader."""
    with pytest.raises(ValueError, match="17 deployments; at most 16"):
        full_desired(DEPLOYMENTS_LIMIT + 1)


@pytest.mark.parametrize("depth", [150, 1000, 2800])
@pytest.mark.parametrize("brackets", ["[]", "{}"])
def test_deep_nesting_is_refused(depth: int, brackets: str) -> None:
    """Brackets upon brackets end in a refusal, not in an exhausted stack."""
    left = "[" if brackets == "[]" else '{"a":'
    inner = left * min(depth, 8000 // len(left) // 2)
    raw = b'{"schema":"skerry.death/v1-draft","fleet":' + inner.encode()
    with pytest.raises(WireError) as caught:
        decode(raw, v1.Death)
    assert Reason.MALFORMED is caught.value.reason
    closed = raw + b"0" + (b"]" if brackets == "[]" else b"}") * (inner.count(left)) + b"}"
    with pytest.raises(WireError) as caught:
        decode(closed, v1.Death)
    assert Reason.MALFORMED is caught.value.reason


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b'"desired"',
        b"{}{}",
        b"\xff\xfe{\x00}\x00",
        b"\xef\xbb\xbf{}",
        b'{"schema":"skerry.death/v1-draft","fleet":"\xff"}',
        b'{"schema":"skerry.death/v1-draft","session":' + b"9" * 5000 + b"}",
        b"{'schema': 1}",
    ],
)
def test_what_is_not_json_in_utf8_is_refused(raw: bytes) -> None:
    """Anything but one JSON object in plain UTF-8 is refused with a reason."""
    with pytest.raises(WireError) as caught:
        decode(raw, v1.Death, v1.Birth)
    assert caught.value.reason in {Reason.MALFORMED, Reason.UNKNOWN_SCHEMA}


@pytest.mark.parametrize("name", ["password", "API_KEY", "db-passwd", "auth_token", "ClientSecret"])
def test_a_plain_secret_is_neither_sent_nor_obeyed(name: str) -> None:
    """A setting that looks like a secret must name one that the device holds."""
    desired = full_desired(1)
    settings = v1.DeploymentSettings(values={name: "hunter2"})
    leaking = replace(desired, deployments=(replace(desired.deployments[0], settings=settings),))
    with pytest.raises(WireError, match=name) as caught:
        encode(leaking)
    assert Reason.SECRET_IN_DOCUMENT is caught.value.reason
    assert "hunter2" not in str(caught.value)

    tree = json.loads(encode(desired))
    tree["deployments"][0]["settings"]["values"] = {name: "hunter2"}
    with pytest.raises(WireError, match=name) as caught:
        decode(json.dumps(tree).encode(), v1.Desired)
    assert Reason.SECRET_IN_DOCUMENT is caught.value.reason
    assert "hunter2" not in str(caught.value)

    tree["deployments"][0]["settings"]["values"] = {name: {"secret": "its-name"}}
    read = decode(json.dumps(tree).encode(), v1.Desired)
    assert {name: v1.SecretRef(secret="its-name")} == read.deployments[0].settings.values


def test_a_private_key_under_any_name_is_refused() -> None:
    """What a value is says more than what it is called; so for commands."""
    desired = full_desired(1)
    key = "-----BEGIN EC PRIVATE KEY-----\nMHcC\n-----END EC PRIVATE KEY-----"
    with pytest.raises(WireError) as caught:
        encode(replace(desired, settings=v1.DeviceSettings(values={"broker": key})))
    assert Reason.SECRET_IN_DOCUMENT is caught.value.reason

    command = FULL["command"]
    assert isinstance(command, v1.Command)
    with pytest.raises(WireError) as caught:
        encode(replace(command, parameters={"password": "x"}))
    assert Reason.SECRET_IN_DOCUMENT is caught.value.reason


@pytest.mark.parametrize(
    "number", [2**53, -(2**53), float("nan"), float("inf"), float("-inf")], ids=str
)
def test_a_setting_no_json_reader_would_keep_cannot_be_built(number: float) -> None:
    """Whole numbers have 53 bits, others are finite."""
    with pytest.raises(ValueError, match="setting 'top' is"):
        v1.DeploymentSettings(values={"top": number})


@pytest.mark.parametrize("workers", [0, 17])
def test_a_deployment_has_from_one_to_sixteen_workers(workers: int) -> None:
    """Each is a process: a slip of the finger must not fill a device with them."""
    with pytest.raises(ValueError, match="it must be from 1 to 16"):
        v1.DeploymentSettings(workers=workers)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ([{"subject": "input-0-mean", "counts": [1, 2]}], "not an object of texts"),
        ({"input-0-mean": [1, 2]}, "not a text"),
        ({"input-0-mean": ""}, "0 bins"),
        ({"input-0-mean": "A" * 24}, "18 bins"),
        ({"input-0-mean": "gICAAQ"}, "at most 2097151"),
        ({"input-0-mean": "gA"}, "ends early"),
        ({"Input": "AA"}, "not a name"),
        ({"n" * 21: "AA"}, "more than 20 characters"),
        ({f"n-{number}": "AA" for number in range(7)}, "7 drifts; at most 6"),
    ],
)
def test_a_drift_sketch_that_is_none_is_refused(wrong: object, why: str) -> None:
    """Whatever a device sends: a bounded object of short texts, or a refusal."""
    tree = json.loads(encode(FULL["health"]))
    tree["deployments"][0]["drift"] = wrong
    with pytest.raises(WireError, match=why) as caught:
        decode(json.dumps(tree).encode(), v1.Health)
    assert Reason.MALFORMED is caught.value.reason


def test_a_sketch_in_any_form_but_its_text_is_refused() -> None:
    """There is one form of a sketch on the wire."""
    alone, waiting = (json.loads(encode(d)) for d in (FULL["health"], WAITED["event-health"]))
    for wrong in ({"count": 1, "buckets": {"0": 1}}, None, 7, "!", "A" * 177, "gICAgICAgICAgAE"):
        for tree, health in ((alone, alone), (waiting, waiting["health"])):
            health["deployments"][0]["latency"] = wrong
            with pytest.raises(WireError) as caught:
                decode(json.dumps(tree).encode(), v1.Health, v1.Event)
            assert Reason.MALFORMED is caught.value.reason
