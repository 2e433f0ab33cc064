"""Names of the facts that the centre decides by. Pure.

A device may say others: those are for selectors and people.
"""

ARCHITECTURE = "skerry/architecture"
"""As `platform.machine()` says it: `x86_64`, `aarch64`, `armv7l`."""

MEMORY_MIB = "skerry/memory_mib"
"""What the machine has, in whole MiB."""

RUNTIME = "skerry/runtime"
"""`litert` or `tflite`: the one that this device's workers load."""

RUNTIME_VERSION = "skerry/runtime_version"

ACCELERATORS = "skerry/accelerators"
"""Sorted, joined by `_` (a label's value may hold no comma). Absent where there is only the CPU."""

SANDBOX = "skerry/sandbox"
"""What confines each model's process there, joined by `_`: it depends on the kernel."""

LEDGER = "skerry/ledger"
"""The id of the device's ledger: sessions and events are numbered within it.

The centre takes a birth whose ledger is another for news even when its session
number is lower: the device lost its ledger and counts from 1 again.
"""
