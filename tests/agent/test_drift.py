"""Drift is counted where requests are answered, and told once an hour: nothing twice, none lost."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.drift import AROUND_BYTES, HOUR_S, Counts, Waiting, added, told
from agent.wire import v1
from agent.wire.codec import encode
from agent.wire.limits import DOCUMENT_LIMIT_BYTES, DRIFT_COUNT_LIMIT
from agent.wire.shed import shed_waiting
from models.build.reference import _edges, _reference
from models.card import DriftReference, Tensor
from models.card_codec import render
from models.drift import Bins, Watch, subjects
from models.values import Datatype
from tests.agent.packages import Array, Package, dense_net, packaged
from tests.agent.served import digits
from tests.contract.test_wire_limits import MOST_DRIFT, full_health, waited

# The planner

OLD, NEW = "sha256:" + "a" * 64, "sha256:" + "b" * 64
HEALTH = full_health(8, 1)
NAMES = [part.name for part in HEALTH.deployments]
DIGEST = HEALTH.deployments[0].digest


def lean(*names: str, digest: str = DIGEST) -> v1.Health:
    """Return a document of some deployments, quiet ones."""
    parts = (
        v1.DeploymentHealth(name=name, revision=1, digest=digest, requests=0, errors=0)
        for name in names
    )
    return replace(HEALTH, deployments=tuple(parts))


def totals(counts: Mapping[str, Counts]) -> dict[tuple[str, str], tuple[int, ...]]:
    """Return what there is by deployment and subject, without what is nothing."""
    return {
        (name, subject): each
        for name, subjects_ in counts.items()
        for subject, each in subjects_.items()
        if any(each)
    }


def plus(
    one: dict[tuple[str, str], tuple[int, ...]], other: dict[tuple[str, str], tuple[int, ...]]
) -> dict[tuple[str, str], tuple[int, ...]]:
    return {
        key: tuple(map(sum, zip(*(each[key] for each in (one, other) if key in each), strict=True)))
        for key in one.keys() | other.keys()
    }


def in_document(health: v1.Health) -> dict[tuple[str, str], tuple[int, ...]]:
    return {
        (part.name, each.subject): each.counts for part in health.deployments for each in part.drift
    }


counted = st.dictionaries(
    st.sampled_from(NAMES),
    st.fixed_dictionaries(
        {},
        optional={
            "input-0-mean": st.tuples(*[st.integers(0, 2**23)] * 3),
            "output-0-class": st.tuples(*[st.integers(0, 50)] * 17),
        },
    ),
    max_size=16,
)
periods = st.lists(
    st.tuples(st.sampled_from([1.0, 60.0, 900.0, 4000.0]), counted, st.sampled_from([1, 8191])),
    max_size=12,
)


@settings(deadline=None)
@given(periods)
def test_counts_add_up_whatever_happens_when(
    script: list[tuple[float, dict[str, Counts], int]],
) -> None:
    """What was counted was told once or still waits, and each document fits, also as an event."""
    waiting: Waiting = {}
    now = 0.0
    put: dict[tuple[str, str], tuple[int, ...]] = {}
    out: dict[tuple[str, str], tuple[int, ...]] = {}
    begun: dict[str, float] = {}
    for passed, new, busy in script:
        now += passed
        plain = full_health(63, busy)
        plain = replace(
            plain,
            deployments=tuple(
                replace(part, name=name)
                for part, name in zip(plain.deployments, NAMES, strict=True)
            ),
        )
        before = waiting
        given_now = [(name, DIGEST, counts) for name, counts in new.items()]
        health, waiting = told(plain, waiting, given_now, now)
        put, out = plus(put, totals(new)), plus(out, in_document(health))

        assert plain == replace(
            health, deployments=tuple(replace(part, drift=()) for part in health.deployments)
        )
        assert put == plus(out, totals({name: each.counts for name, each in waiting.items()}))
        event = waited(health)
        assert event is shed_waiting(event)
        for name in {part.name for part in health.deployments if part.drift}:
            assert now - begun[name] >= HOUR_S
        begun = {name: begun.get(name, now) if name in before else now for name in waiting}


def test_sixteen_that_began_together_come_to_speak_apart() -> None:
    """In the fullest documents one after the other, each an hour after its last, in order."""
    health = full_health(63, 8191)
    names = [part.name for part in health.deployments]
    most = {each.subject: each.counts for each in MOST_DRIFT}
    waiting: Waiting = {}
    spoke: dict[str, list[int]] = {name: [] for name in names}
    for minute in range(200):
        new = [(name, DIGEST, most) for name in names] if minute in {0, 90} else []
        document, waiting = told(health, waiting, new, 60.0 * minute)
        speaking = [part.name for part in document.deployments if part.drift]
        assert len(speaking) <= 1
        for name in speaking:
            spoke[name].append(minute)

    assert {name: [60 + place, 150 + place] for place, name in enumerate(names)} == spoke
    assert not waiting


def test_a_small_one_does_not_overtake_a_large_one_that_waits() -> None:
    """Else the largest would wait for as long as there are others."""
    full = full_health(63, 8191)
    first, second, third, *_ = (part.name for part in full.deployments)
    most = {each.subject: each.counts for each in MOST_DRIFT}
    _, waiting = told(full, {}, [(first, DIGEST, most), (second, DIGEST, most)], 0.0)
    _, waiting = told(full, waiting, [(third, DIGEST, {"input-0-mean": (1, 0)})], 1.0)

    for late, names in enumerate(([first], [second, third])):
        health, waiting = told(full, waiting, [], HOUR_S + 1 + late)
        assert names == [part.name for part in health.deployments if part.drift]


def test_where_there_is_room_all_that_is_due_goes_along() -> None:
    """Quiet deployments need no queue."""
    new = [(name, DIGEST, {"input-0-mean": (5, 0, 1)}) for name in NAMES]
    health, waiting = told(lean(*NAMES), {}, new, 0.0)
    assert not any(part.drift for part in health.deployments)
    assert 16 == len(waiting)

    health, waiting = told(lean(*NAMES), waiting, [], HOUR_S)
    assert all(part.drift for part in health.deployments)
    assert not waiting


def test_an_endless_stream_is_told_in_documents_that_fit() -> None:
    """A count beyond what a document carries is told by the next one."""
    counts = {"input-0-mean": (2 * DRIFT_COUNT_LIMIT + 7, 3)}
    _, waiting = told(lean("a"), {}, [("a", DIGEST, counts)], 0.0)
    said = []
    for period in range(4):
        health, waiting = told(lean("a"), waiting, [], HOUR_S + period)
        said.append(dict(in_document(health)))

    most = DRIFT_COUNT_LIMIT
    assert [(most, 3), (most, 0), (7, 0)] == [each["a", "input-0-mean"] for each in said[:3]]
    assert {} == said[3]
    assert not waiting


def test_what_was_counted_of_another_bundle_is_dropped() -> None:
    """Its bins are not this one's; a deployment that is gone takes its counts along."""
    counts = {"input-0-mean": (1, 2)}
    _, waiting = told(lean("a", "b", digest=OLD), {}, [("a", OLD, counts), ("b", OLD, counts)], 0.0)
    late = [("a", OLD, counts), ("a", NEW, counts)]
    health, waiting = told(lean("a", digest=NEW), waiting, late, HOUR_S)
    assert {} == in_document(health)
    assert {"a": counts} == {name: each.counts for name, each in waiting.items()}
    health, _ = told(lean("a", digest=NEW), waiting, [], 2 * HOUR_S)
    assert {("a", "input-0-mean"): (1, 2)} == in_document(health)


def test_bins_that_are_others_are_not_added() -> None:
    """Only the newer can be meant."""
    assert {"x": (1, 2), "y": (4, 4), "z": (1,)} == added(
        {"x": (5, 5, 5), "y": (1, 1), "z": (1,)}, {"x": (1, 2), "y": (3, 3)}
    )


def test_what_an_event_has_around_its_health_is_allowed_for() -> None:
    """With the longest names that a device's part has room for."""
    few = {"accelerator": "cpu", "accelerator_c": None, "session": 9, "outbox": 9}
    health = replace(lean("a"), fleet="f" * 63, device="d-" + "d" * 61, **few)  # type: ignore[arg-type]  # each of its type
    event = replace(waited(health), number=2**53 - 1, ledger="l-" + "a" * 40)

    assert len(encode(event)) - len(encode(health)) <= AROUND_BYTES < DOCUMENT_LIMIT_BYTES


# The worker


def watched(package: Package, inputs: list[Array], outputs: list[Array]) -> Package:
    """Return the package with a drift reference of these requests in its card."""
    card, classes = package.card, outputs[0].size
    subjects_ = subjects(card.inputs, card.outputs, 0)
    watch = Watch(card.inputs, card.outputs, subjects_)
    columns = zip(
        *(watch.numbers([one], [two]) for one, two in zip(inputs, outputs, strict=True)),
        strict=True,
    )
    references = [
        DriftReference(
            subject="output-0-class",
            edges=tuple(place + 0.5 for place in range(classes - 1)),
            shares=(1 / classes,) * classes,
            samples=len(inputs),
        )
    ] + [
        _reference(str(subject), _edges(column, grain=0.0), column)
        for subject, column in list(zip(subjects_, map(list, columns), strict=True))[1:]
    ]
    card = replace(card, drift=tuple(references))
    (package.folder / "card.json").write_bytes(render(card))
    return replace(package, card=card)


async def test_each_good_answer_is_in_one_bin_of_each_subject(dense: Package) -> None:
    """Counted in the worker, by the card's bins, as they would be counted here."""
    raw = dense.raw()
    inputs = dense.inputs(300, seed=2)
    package = watched(dense, inputs, [raw(each) for each in inputs])
    bins = Bins(package.card.inputs, package.card.outputs, package.card.drift)
    asked = dense.inputs(200, seed=3) + [np.full((1, 64), 90, np.int8)] * 50
    wanted = [Counter[int]() for _ in bins.sizes]
    for each in asked:
        for counter, place in zip(wanted, bins.sort([each], [raw(each)]), strict=True):
            counter[place] += 1

    async with digits(package) as served:
        for each in asked:
            assert 200 == (await served.infer(each))[0]
        assert 400 == (await served.infer(asked[0][:, :9]))[0]
        (counts,) = served.board.take_counts()
        assert () == served.board.take_counts()

    assert 251 == counts.requests
    assert list(bins.sizes) == list(counts.drift)
    assert ["output-0-class", "input-0-mean", "input-0-deviation"] == list(counts.drift)
    for (subject, size), counter in zip(bins.sizes.items(), wanted, strict=True):
        assert [counter[place] for place in range(size)] == list(counts.drift[subject])
        assert 250 == sum(counts.drift[subject])
    assert counts.drift["input-0-deviation"][0] >= 50  # nothing varies in a stuck input
    assert 0 == counts.drift["input-0-deviation"][-1]


async def test_no_number_has_a_bin_and_a_batch_is_its_first_row(tmp_path: Path) -> None:
    """NaN and infinity are answered and counted; a batch is one request."""
    varies = Tensor(name="x", datatype=Datatype.FP32, shape=(-1, 8))
    package = packaged(
        dense_net((8, 4), varies=True),
        tmp_path / "net",
        inputs=(varies,),
        outputs=(Tensor(name="y", datatype=Datatype.FP32, shape=(-1, 4)),),
        largest=1e-3,
    )
    raw = package.raw()
    rows = [np.full((1, 8), each, np.float32) for each in np.linspace(0, 1, 100)]
    package = watched(package, rows, [raw(each) for each in rows])
    middle, high = rows[50], np.full((3, 8), 9, np.float32)
    batch = np.concatenate([middle, high])

    async with digits(package) as served:
        for each in (batch, high, np.full((1, 8), np.nan), np.full((2, 8), -np.inf)):
            body = json_head(each.shape)
            status, _, _ = await served.http(
                "POST",
                "/v2/models/digits/infer",
                body + each.astype(np.float32).tobytes(),
                {"Inference-Header-Content-Length": str(len(body))},
            )
            assert 200 == status
        (counts,) = served.board.take_counts()

    means = counts.drift["input-0-mean"]
    assert [1, 1, 2] == [means[5], means[9], means[10]]
    assert 4 == sum(means)
    assert 2 == counts.drift["output-0-class"][-1]


def json_head(shape: tuple[int, ...]) -> bytes:
    size = 4 * int(np.prod(shape))
    given = {
        "name": "x",
        "datatype": "FP32",
        "shape": list(shape),
        "parameters": {"binary_data_size": size},
    }
    wanted = {"name": "y", "parameters": {"binary_data": True}}
    return json.dumps({"inputs": [given], "outputs": [wanted]}).encode()
