"""One document of every type with every field set, and the barest one: the golden files' values."""

from agent.wire import v1
from agent.wire.codec import Document
from agent.wire.phases import Phase
from agent.wire.reasons import Reason

AT = "2026-11-23T09:30:00Z"
BUNDLE = v1.BundleRef(digest="sha256:" + "ab" * 32, name="digits", version="1.4.0")
OLDER = v1.BundleRef(digest="sha256:" + "cd" * 32, name="digits", version="1.3.2")
VARIANT = "sha256:" + "ef" * 32
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
REQUEST = "-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----\n"
PUBLIC_KEY = "-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----\n"
FACTS = {"skerry/architecture": "aarch64", "skerry/runtime": "ai-edge-litert 2.3.0"}
PROBLEM = v1.Problem(
    reason=Reason.GOLDEN_MISMATCH,
    message="output 0 differs by 9 at most, 2 allowed",
    parameters={"vectors": "16", "largest": "9"},
)
CONDITION = v1.Condition(
    type="Deferred",
    reason=Reason.REGISTRY_UNREACHABLE,
    since=AT,
    parameters={"registry": "centre.example"},
)

FULL: dict[str, Document] = {
    "desired": v1.Desired(
        fleet="north",
        target="d-7f3a",
        order=v1.Order(epoch=1, generation=42),
        issued_at=AT,
        deployments=(
            v1.Deployment(
                name="reader",
                bundle=BUNDLE,
                revision=7,
                settings=v1.DeploymentSettings(
                    threads=2,
                    workers=2,
                    timeout_s=2.5,
                    probation_s=600.0,
                    values={
                        "threshold": 0.8,
                        "top": 3,
                        "mirror": False,
                        "unit": "°C",
                        "upload-key": v1.SecretRef(secret="upload"),
                    },
                ),
                unit="line-1",
                trace_id=TRACE,
            ),
            v1.Deployment(name="wake", bundle=OLDER, revision=1),
        ),
        settings=v1.DeviceSettings(
            health_period_s=30.0,
            reconnect_cap_s=300.0,
            download_rate_bytes_per_s=200_000,
            download_windows=(
                v1.Window(days=(v1.Weekday.MON, v1.Weekday.FRI), start="22:00", end="05:00"),
            ),
            maintenance_windows=(v1.Window(days=(v1.Weekday.SAT,), start="02:00", end="04:00"),),
            time_zone="Europe/Berlin",
            values={"log-level": "info"},
        ),
        agent_version="0.1.0",
    ),
    "site-desired": v1.SiteDesired(
        fleet="north",
        target="s-harbour",
        order=v1.Order(epoch=1, generation=3),
        issued_at=AT,
        releases=(
            v1.ReleaseRef(name="gateway", digest="sha256:" + "12" * 32, version="2", revision=5),
        ),
    ),
    "reported": v1.Reported(
        fleet="north",
        device="d-7f3a",
        session=12,
        observed=v1.Order(epoch=1, generation=42),
        deployments=(
            v1.ReportedDeployment(
                name="reader",
                revision=7,
                digest=BUNDLE.digest,
                phase=Phase.FETCHING,
                active=v1.Active(
                    revision=6,
                    bundle=OLDER,
                    variant=VARIANT,
                    runtime="tflite-runtime 2.14.0",
                    accelerator="cpu",
                ),
                conditions=(CONDITION,),
                last_error=PROBLEM,
            ),
        ),
        conditions=(CONDITION,),
        hold=v1.Hold(reason="belt is being changed", since=AT),
        quarantined=(v1.Quarantined(digest=OLDER.digest, reason=Reason.GOLDEN_MISMATCH, since=AT),),
        last_error=PROBLEM,
        agent_version="0.0.1",
    ),
    "site-reported": v1.SiteReported(
        fleet="north",
        site="s-harbour",
        device="d-7f3a",
        term=4,
        observed=v1.Order(epoch=1, generation=3),
        releases=(
            v1.ReportedRelease(
                name="gateway",
                revision=5,
                digest="sha256:" + "12" * 32,
                phase="applied",
                conditions=(CONDITION,),
                last_error=PROBLEM,
            ),
        ),
    ),
    "birth": v1.Birth(
        fleet="north", device="d-7f3a", session=12, agent_version="0.0.1", at=AT, facts=FACTS
    ),
    "death": v1.Death(fleet="north", device="d-7f3a", session=12),
    "health": v1.Health(
        fleet="north",
        device="d-7f3a",
        session=12,
        at=AT,
        period_s=60.0,
        cpu_ratio=0.31,
        memory_used_bytes=412_000_000,
        memory_total_bytes=1_024_000_000,
        temperature_c=61.5,
        throttled=False,
        disk_free_bytes=7_000_000_000,
        disk_total_bytes=16_000_000_000,
        accelerator="cpu",
        accelerator_c=48.5,
        outbox=3,
        told=990,
        deployments=(
            v1.DeploymentHealth(
                name="reader",
                revision=7,
                digest=BUNDLE.digest,
                requests=130,
                errors=2,
                restarts=1,
                latency=v1.LatencySketch(count=128, buckets={-52: 100, -51: 20, -40: 7, -3: 1}),
                drift=(v1.DriftSketch(subject="input-0-mean", counts=(4, 90, 34, 0)),),
                shadow=v1.Shadowed(compared=37, agreed=36, wanted=100),
            ),
        ),
    ),
    "event": v1.Event(
        fleet="north",
        device="d-7f3a",
        ledger="l-01",
        number=991,
        kind=v1.EventKind.PHASE,
        at=AT,
        deployment="reader",
        revision=7,
        digest=BUNDLE.digest,
        phase=Phase.REFUSED,
        reason=Reason.GOLDEN_MISMATCH,
        count=2,
        message="the incumbent still serves",
        parameters={"vectors": "16"},
        first=990,
        session=12,
        trace_id=TRACE,
    ),
    "acked": v1.Acked(fleet="north", device="d-7f3a", ledger="l-01", number=990),
    "command": v1.Command(
        fleet="north",
        target="d-7f3a",
        id="c-1",
        verb=v1.Verb.LOGS,
        issued_at=AT,
        expires_at="2026-11-23T09:35:00Z",
        parameters={"lines": "200"},
    ),
    "result": v1.Result(
        fleet="north",
        device="d-7f3a",
        id="c-1",
        status=v1.ResultStatus.FAILED,
        at=AT,
        answer={"lines": "17"},
        blob="sha256:" + "34" * 32,
        problem=PROBLEM,
    ),
    "join-request": v1.JoinRequest(
        token="k7T2",
        csr=REQUEST,
        name="belt-3",
        labels={"hall": "2"},
        facts=FACTS,
        site="s-harbour",
    ),
    "join-answer": v1.JoinAnswer(
        fleet="north",
        device="d-7f3a",
        certificate=CERTIFICATE,
        ca=CERTIFICATE,
        keys=(
            v1.TrustedKey(id="56" * 32, use="bundle", key=PUBLIC_KEY),
            v1.TrustedKey(id="78" * 32, use="desired", key=PUBLIC_KEY),
        ),
        broker_url="mqtts://centre.example:8883",
        registry_url="https://centre.example:8443",
        site="s-harbour",
    ),
    "renew-request": v1.RenewRequest(device="d-7f3a", csr=REQUEST),
    "renew-answer": v1.RenewAnswer(device="d-7f3a", certificate=CERTIFICATE, ca=CERTIFICATE),
    "approval": v1.Approval(
        request="belt-3", state=v1.ApprovalState.REJECTED, at=AT, by="ada", reason="not ours"
    ),
    "revocations": v1.RevocationList(
        fleet="north",
        number=2,
        revoked=(v1.Revocation(device="d-0bad", serial="5f2c", at=AT, reason="stolen"),),
    ),
}
"""Every document type by the name in its schema id, every field set."""

BARE: dict[str, Document] = {
    "desired": v1.Desired(
        fleet="north", target="d-7f3a", order=v1.Order(epoch=0, generation=1), issued_at=AT
    ),
    "site-desired": v1.SiteDesired(
        fleet="north", target="s-harbour", order=v1.Order(epoch=0, generation=1), issued_at=AT
    ),
    "reported": v1.Reported(fleet="north", device="d-7f3a", session=1),
    "site-reported": v1.SiteReported(fleet="north", site="s-harbour", device="d-7f3a", term=1),
    "health": v1.Health(fleet="north", device="d-7f3a", session=1, at=AT, period_s=60.0),
    "event": v1.Event(
        fleet="north", device="d-7f3a", ledger="l-01", number=1, kind=v1.EventKind.BOOT, at=AT
    ),
    "command": v1.Command(
        fleet="north",
        target="d-7f3a",
        id="c-2",
        verb=v1.Verb.DOCTOR,
        issued_at=AT,
        expires_at=AT,
    ),
    "result": v1.Result(
        fleet="north", device="d-7f3a", id="c-2", status=v1.ResultStatus.DONE, at=AT
    ),
    "join-request": v1.JoinRequest(token="k7T2", csr=REQUEST, name="belt-3"),
    "join-answer": v1.JoinAnswer(
        fleet="north",
        device="d-7f3a",
        certificate=CERTIFICATE,
        ca=CERTIFICATE,
        keys=(),
        broker_url="mqtt://127.0.0.1:1883",
        registry_url="http://127.0.0.1:8080",
    ),
    "approval": v1.Approval(request="belt-3", state=v1.ApprovalState.PENDING, at=AT),
    "revocations": v1.RevocationList(fleet="north", number=0),
}
"""The types with optional fields, none of them set."""

WAITED: dict[str, Document] = {
    "event-health": v1.Event(
        fleet="north",
        device="d-7f3a",
        ledger="l-01",
        number=992,
        kind=v1.EventKind.HEALTH,
        at=AT,
        session=12,
        health=v1.Health(
            fleet="north",
            device="d-7f3a",
            session=12,
            at=AT,
            period_s=60.0,
            outbox=2,
            told=991,
            deployments=(
                v1.DeploymentHealth(
                    name="reader",
                    revision=7,
                    digest=BUNDLE.digest,
                    requests=130,
                    errors=2,
                    latency=v1.LatencySketch(count=128, buckets={-52: 100, -51: 28}),
                ),
            ),
        ),
    ),
}
"""Health as it travels when it had to wait for a connection: it belongs to no other event."""

SAMPLES = FULL | {f"{name}-bare": document for name, document in BARE.items()} | WAITED
