"""Digests, names and versions can't be built wrong."""

import pytest

from models.values import Datatype, ModelRef, digest_of, parse_digest, short


@pytest.mark.parametrize("name", ["a", "digits", "kws-2.int8", "a__b", "a--b", "0", "a" * 63])
def test_names_that_any_registry_takes(name: str) -> None:
    """A model's name is a path component of the OCI distribution specification."""
    assert ModelRef(name, "1.0.0") == ModelRef.parse(f"{name}:1.0.0")
    assert f"{name}:1.0.0" == str(ModelRef(name, "1.0.0"))


@pytest.mark.parametrize(
    "name", ["", "A", "a/b", "a b", "-a", "a-", "a..b", "a._b", "a___b", "a" * 64, "a\n", "é"]
)
def test_names_that_some_registry_refuses(name: str) -> None:
    """Refused before anything is built under them."""
    with pytest.raises(ValueError, match="not a model name"):
        ModelRef(name, "1.0.0")


@pytest.mark.parametrize("version", ["0.0.1", "1.4.0", "10.20.30-rc.1", "1.0.0-a-b"])
def test_versions(version: str) -> None:
    """Semantic versions, without build metadata."""
    assert version == ModelRef("a", version).version


@pytest.mark.parametrize(
    "version", ["", "1", "1.0", "1.0.0.0", "01.0.0", "1.0.0+b", "1.0.0-", "1.0.0\n", "latest"]
)
def test_what_is_no_version(version: str) -> None:
    """A digest says more than a tag that moves."""
    with pytest.raises(ValueError, match="not a version"):
        ModelRef("a", version)


def test_what_is_no_reference() -> None:
    """A name alone names no bundle."""
    with pytest.raises(ValueError, match="not name:version"):
        ModelRef.parse("digits")


def test_digests() -> None:
    """Only sha256, only lower-case."""
    digest = digest_of(b"")

    assert digest == parse_digest(digest)
    assert "sha256:e3b0…b855" == short(digest)
    assert "d-1" == short("d-1")
    for wrong in (digest.upper(), digest[:-1], digest + "0", digest + "\n", digest[7:], ""):
        with pytest.raises(ValueError, match="not a sha256 digest"):
            parse_digest(wrong)


def test_every_datatype_has_a_size() -> None:
    """0 for the one whose elements have none."""
    assert [Datatype.BYTES] == [each for each in Datatype if each.size_bytes == 0]
    assert 8 == Datatype.FP64.size_bytes
