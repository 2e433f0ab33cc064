"""Reading a `.tflite` file without a runtime: what goes in and out, what it needs, and whether it is whole.

Pure Python and pure: no runtime, no numpy, no flatbuffers package. A file is
checked as far as its structure goes, in time and memory bounded by its size; a
file that passes is *not* therefore safe to run (facts of its operators'
options and weights are the runtime's to judge, in a child process).
"""

from models.tflite.values import TfliteFile, WeightSpan


def read(raw: bytes) -> TfliteFile:
    """Return what the file in `raw` says of itself.

    Raises:
        RefusedError: `MODEL_MALFORMED`: it is damaged or no TFLite file. `MODEL_TOO_LARGE`: it is,
            or it asks for, more than any edge device has. `MODEL_UNSUPPORTED`: it is whole, and
            beyond what Skerry serves.
    """
    from models.tflite.reading import read_file  # noqa: PLC0415

    return read_file(raw)


__all__ = ["TfliteFile", "WeightSpan", "read"]
