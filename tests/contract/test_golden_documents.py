"""The exact bytes of every document. A changed golden file is a breaking change: say so in an ADR.

To write the files of a change that is meant: `python -m tests.reference --golden`.
"""

import json
from pathlib import Path

import pytest

from agent.wire.codec import SCHEMAS, WireError, decode, encode, limit_bytes, schema_of
from agent.wire.reasons import Reason
from tests.contract.samples import BARE, FULL, SAMPLES

GOLDEN = Path(__file__).parent / "golden" / "v1"
every_sample = pytest.mark.parametrize("name", SAMPLES)
every_type = pytest.mark.parametrize("name", FULL)


def golden(name: str) -> bytes:
    return (GOLDEN / f"{name}.json").read_bytes()


def refused(raw: bytes, name: str) -> Reason:
    """Return the reason for which `raw` is refused as a document of the sample's type."""
    with pytest.raises(WireError) as caught:
        decode(raw, type(SAMPLES[name]))
    return caught.value.reason


def test_every_document_type_has_a_sample_with_every_field() -> None:
    """No type is left out of this contract, and none of its fields."""
    assert [schema_of(type(document)) for document in FULL.values()] == list(SCHEMAS)
    for name, document in FULL.items():
        fields = set(type(document).__dataclass_fields__) | {"schema"}
        written = set(json.loads(golden(name)))
        if name == "event":  # of one kind only, and then there is nothing else
            written |= set(json.loads(golden("event-health")))

        assert fields == written


def test_no_golden_file_is_without_its_sample() -> None:
    """What lies in the folder is what is tested."""
    assert sorted(SAMPLES) == sorted(path.stem for path in GOLDEN.iterdir())


@every_sample
def test_a_document_is_sent_as_exactly_these_bytes(name: str) -> None:
    """The writer's bytes are the golden file's."""
    assert golden(name) == encode(SAMPLES[name])


@every_sample
def test_these_bytes_are_read_as_exactly_this_document(name: str) -> None:
    """The reader's value is the sample."""
    assert SAMPLES[name] == decode(golden(name), type(SAMPLES[name]))


@every_sample
def test_unknown_fields_are_ignored_at_every_level(name: str) -> None:
    """A newer writer may say more than this reader understands."""

    def widened(tree: object) -> object:
        if isinstance(tree, list):
            return [widened(item) for item in tree]
        if isinstance(tree, dict):
            deeper = {key: widened(value) for key, value in tree.items()}
            free = tree.keys() & {"skerry/architecture", "vectors", "registry", "hall", "lines"}
            settings = tree.keys() & {"threshold", "log-level", "secret"}
            sketches = tree.keys() & {"input-0-mean"}
            if free or settings or sketches or not tree:
                return deeper
            return {**deeper, "later": {"than": [1]}}
        return tree

    raw = json.dumps(widened(json.loads(golden(name)))).encode()

    assert b'"later"' in raw
    assert SAMPLES[name] == decode(raw, type(SAMPLES[name]))


@every_sample
def test_every_truncation_is_refused_and_named(name: str) -> None:
    """A document cut anywhere is refused as malformed, by that error and no other."""
    raw = golden(name)
    for length in range(len(raw)):
        assert refused(raw[:length], name) is Reason.MALFORMED


@every_sample
def test_trailing_bytes_are_refused(name: str) -> None:
    """One document is one JSON text."""
    assert refused(golden(name) + b"{}", name) is Reason.MALFORMED


@every_type
def test_a_document_one_byte_over_its_limit_is_refused_unread(name: str) -> None:
    """Space is counted before anything is parsed: at the limit it is read, above it is not."""
    raw = golden(name)
    most = limit_bytes(type(FULL[name]))
    padding = b" " * (most - len(raw))

    assert FULL[name] == decode(raw + padding, type(FULL[name]))
    assert refused(raw + padding + b" ", name) is Reason.TOO_LARGE


@every_type
def test_a_hundred_megabytes_are_refused_by_their_length_alone(name: str) -> None:
    """What is too large is not even looked at."""
    assert refused(bytes(100_000_000), name) is Reason.TOO_LARGE


@every_type
@pytest.mark.parametrize(
    "schema", ["skerry.unknown/v1", "skerry.desired/v9", "", None, 7, ["skerry.desired/v1-draft"]]
)
def test_another_schema_is_refused(name: str, schema: object) -> None:
    """A document is what its schema id says, and nothing is guessed."""
    raw = json.dumps({**json.loads(golden(name)), "schema": schema}).encode()

    assert refused(raw, name) is Reason.UNKNOWN_SCHEMA


@every_type
def test_a_document_of_another_type_is_refused(name: str) -> None:
    """A valid document on the wrong topic is not obeyed."""
    for other in FULL:
        if other != name and len(golden(other)) <= limit_bytes(type(FULL[name])):
            assert refused(golden(other), name) is Reason.UNKNOWN_SCHEMA


@every_type
def test_one_of_several_expected_types_is_found_by_its_schema(name: str) -> None:
    """Topics that carry two types (birth, death) are read in one call."""
    expected = [type(document) for document in FULL.values()]

    assert FULL[name] == decode(golden(name), *expected)


@pytest.mark.parametrize("name", sorted(set(FULL) - {"approval", "revocations"} - set(BARE)))
def test_a_missing_field_is_refused_by_name(name: str) -> None:
    """Nothing that has no default is made up."""
    tree = json.loads(golden(name))
    for field in set(tree) - {"schema"}:
        raw = json.dumps({key: value for key, value in tree.items() if key != field}).encode()
        cls = type(FULL[name])
        if cls.__dataclass_fields__[field].default is None:
            continue
        with pytest.raises(WireError, match=field):
            decode(raw, cls)


@every_type
def test_types_are_strict(name: str) -> None:
    """A number in quotes is no number, a fraction no whole one, and a list no mapping."""
    document = FULL[name]
    for field, value in json.loads(golden(name)).items():
        if field == "schema":
            continue
        wrong: list[object] = [[[]], 7.5, True, "\N{SNOWMAN}" * 300]
        if isinstance(value, float):
            wrong.remove(7.5)
        if isinstance(value, bool):
            wrong.remove(True)
        if isinstance(value, int | float):
            wrong.append(str(value))
        if document.__dataclass_fields__[field].default is not None:
            wrong.append(None)
        for other in wrong:
            raw = json.dumps({**json.loads(golden(name)), field: other}).encode()

            assert refused(raw, name) is Reason.MALFORMED, (field, other)
