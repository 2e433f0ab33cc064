"""What is generated from the code says what the code says."""

import json

import pytest

from agent.wire.codec import SCHEMAS
from tests.reference import REFERENCE, golden, pages


def test_the_reference_pages_are_fresh() -> None:
    """`make docs` would change nothing."""
    stale = [
        str(path) for path, text in pages().items() if not path.exists() or text != path.read_text()
    ]

    assert [] == stale, "run `make docs`"


def test_no_reference_page_is_left_over() -> None:
    """A document that went took its page along."""
    assert {path for path in pages() if path.parent.name == "wire"} == set(
        (REFERENCE / "wire").iterdir()
    )


@pytest.mark.parametrize("schema", SCHEMAS)
def test_the_schema_of_a_document_names_exactly_what_is_sent(schema: str) -> None:
    """Every key of a golden document is a property in its published schema, and no other."""
    name = schema.removeprefix("skerry.").partition("/")[0]
    published = json.loads((REFERENCE / "wire" / f"{name}.json").read_text())
    documents = {path.stem: json.loads(raw) for path, raw in golden().items()}
    sent = set(documents[name])
    if name == "event":  # its health belongs to one kind only
        sent |= set(documents["event-health"])

    assert schema == published["$id"] == published["properties"]["schema"]["const"]
    assert sent == published["properties"].keys()
