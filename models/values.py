"""Values every room shares about models: digests, names, versions, tensors.

Pure: no disk, clock, socket or log. An invalid value can't be built.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NewType, Self, TypeAlias

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
# A path component of the OCI distribution specification, so that any registry can hold a bundle.
_NAME = re.compile(r"(?=.{1,63}\Z)[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*\Z")
# Semantic Versioning 2.0.0, without build metadata: a digest says more than "+build".
_VERSION = re.compile(
    r"(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})(-[0-9A-Za-z.-]{1,40})?\Z"
)

Digest = NewType("Digest", str)
"""`sha256:` and 64 lower-case hexadecimal digits (OCI image specification, descriptor)."""


def parse_digest(text: str) -> Digest:
    """Return `text` as a digest.

    Raises:
        ValueError: it is not `sha256:` and 64 lower-case hexadecimal digits.
    """
    if not _DIGEST.match(text):
        raise ValueError(f"not a sha256 digest: {text[:80]!r}")
    return Digest(text)


def digest_of(content: bytes) -> Digest:
    """Return the digest of `content`."""
    return Digest("sha256:" + hashlib.sha256(content).hexdigest())


def short(digest: str) -> str:
    """Return a digest cut in its middle, for people."""
    return f"{digest[:11]}…{digest[-4:]}" if len(digest) > 20 else digest  # noqa: PLR2004  # nothing to cut below


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model's name and version, written `name:version`."""

    name: str
    version: str

    def __post_init__(self) -> None:
        if not _NAME.match(self.name):
            raise ValueError(
                f"not a model name: {self.name[:80]!r} "
                "(lower-case letters and digits, single '.', '_' or '-' between them; at most 63)"
            )
        if not _VERSION.match(self.version):
            raise ValueError(f"not a version: {self.version[:80]!r} (like 1.4.0)")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the reference written as `name:version`.

        Raises:
            ValueError: it is not of that form.
        """
        name, colon, version = text.partition(":")
        if not colon:
            raise ValueError(f"not name:version: {text[:80]!r}")
        return cls(name, version)

    def __str__(self) -> str:
        return f"{self.name}:{self.version}"


Library: TypeAlias = Literal["litert", "tflite"]
"""A runtime, by the name of the extra that brings it."""

DISTRIBUTIONS: Mapping[str, str] = {"litert": "ai-edge-litert", "tflite": "tflite-runtime"}
"""Preferred first: `tflite-runtime` is the only one on 32-bit ARM, and older everywhere else."""


class Datatype(StrEnum):
    """Tensor element types, by their Open Inference Protocol v2 names."""

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    FP32 = "FP32"
    FP64 = "FP64"
    BYTES = "BYTES"

    @property
    def size_bytes(self) -> int:
        """Bytes of one element; 0 where elements have no fixed size."""
        return _SIZES[self]


_SIZES = {
    Datatype.BOOL: 1, Datatype.UINT8: 1, Datatype.UINT16: 2, Datatype.UINT32: 4, Datatype.UINT64: 8,
    Datatype.INT8: 1, Datatype.INT16: 2, Datatype.INT32: 4, Datatype.INT64: 8,
    Datatype.FP16: 2, Datatype.FP32: 4, Datatype.FP64: 8, Datatype.BYTES: 0,
}  # fmt: skip
