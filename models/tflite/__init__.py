"""Reading a `.tflite` file without a runtime: what goes in and out, what it needs, if it is whole.

Pure Python and pure: no runtime, no numpy, no flatbuffers package. A file is
checked as far as its structure goes, in time and memory bounded by its size. A
file that passes is *not* therefore safe to run: a model is a program, and what
its operators make of their options and weights shows only in a child process.
"""

from models.tflite.reading import read
from models.tflite.values import TfliteFile, WeightSpan

__all__ = ["TfliteFile", "WeightSpan", "read"]
