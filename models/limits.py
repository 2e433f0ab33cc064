"""Byte limits of what a bundle is made of, each with its reason. Pure.

Writer and reader hold to the same figures, so that nobody packs what a device refuses.
"""

MANIFEST_LIMIT_BYTES = 256 * 1024
"""An OCI manifest: a few hundred bytes a layer, so several hundred layers."""

INDEX_LIMIT_BYTES = 4 * 1024 * 1024
"""The index of a layout: some 800 bytes a signed bundle, so about 5,000 of them."""

CARD_LIMIT_BYTES = 1024 * 1024
"""A model card. Drift references and long label lists are what make one grow."""

ENVELOPE_LIMIT_BYTES = 64 * 1024
"""A signature over a bundle: a statement of some hundred bytes with a few signatures."""

BLOB_LIMIT_BYTES = 512 * 1024 * 1024
"""One layer. The largest quantized edge models are tens of megabytes."""

DRIFT_SUBJECTS_LIMIT = 6
"""Numbers of a request that are watched for drift: two inputs with two each, and two outputs."""

DRIFT_BINS_LIMIT = 16
"""Bins of one such number: ten by quantiles, or one for each of at most so many classes."""
