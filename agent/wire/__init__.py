"""What a device says and obeys: topics, documents, codecs, reason codes, the phase table.

The side that lives longest in the field owns the language, so the wire lives
with the agent and the centre speaks it through this one door. Values are
standard-library dataclasses in `v1`; pydantic stands only in `codec`. Readable
pages of all this are generated into `docs/reference/`.
"""
