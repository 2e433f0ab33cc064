"""Byte limits and periods of the wire, each with its reason.

Pure. Both sides import these, so that nobody sends what the other refuses.
"""

DOCUMENT_LIMIT_BYTES = 8 * 1024
"""Any MQTT document as sent, envelope included: what the strictest cloud bridge carries (AWS's)."""

SIGNED_LIMIT_BYTES = 5632
"""A document that travels signed, before its envelope: in base64, with a type and room for three
signatures (old key, new key, offline key), it has at most `DOCUMENT_LIMIT_BYTES`."""

HEALTH_DEVICE_LIMIT_BYTES = 512
"""The device's own part of a health document."""

HEALTH_DEPLOYMENT_LIMIT_BYTES = 512
"""Each deployment's part of a health document."""

HEALTH_DRIFT_LIMIT_BYTES = 576
"""Beside it, one deployment's drift, once an hour. There is always room for one deployment's."""

PACKET_LIMIT_BYTES = 16 * 1024
"""MQTT 5 Maximum Packet Size asked of the broker: a document, its topic and properties."""

DEPLOYMENTS_LIMIT = 16
"""Deployments on one device: 16 health parts and 16 reported ones still fit their documents."""

WORKERS_LIMIT = 16
"""Processes that answer for one deployment: each has a runtime and a model of its own in memory."""

QUARANTINED_LIMIT = 16
"""Contents in quarantine that a device tells of, the newest: a plan leaves it out for those."""

SKETCH_BUCKETS_LIMIT = 64
"""Buckets of a latency sketch; the lowest are collapsed into one above that."""

SKETCH_INDEX_LIMIT = 4096
"""Of an index's absolute value: gamma ** 4096 seconds is longer than anything lasts."""

DRIFT_SUBJECTS_LIMIT = 6
"""Numbers of a request that one deployment's drift tells of, as many as a card has."""

DRIFT_NAME_LIMIT = 20
"""Characters of its name: `input-99-deviation` has 18."""

DRIFT_COUNTS_LIMIT = 16 + 1
"""Bins of one of them: a card's most, and one for what is no number."""

DRIFT_COUNT_LIMIT = 2**21 - 1
"""Requests in one bin of one document, three bytes packed: more is told by the next one."""

FACTS_LIMIT = 32
LABELS_LIMIT = 32
TEXT_LIMIT = 256
"""Characters of any free text in a document (messages, label values): it is shown, never parsed."""

JOIN_LIMIT_BYTES = 16 * 1024
"""A join request or answer over HTTP: a signing request, keys, certificates and facts."""

ANSWER_LIMIT_BYTES = 1024 * 1024
"""A long answer to a command, packed, as it goes to the centre over HTTP: 50,000 lines of log."""

OUTBOX_LIMIT_BYTES = 4 * 1024 * 1024
"""What a device keeps to tell: some 20,000 transitions, or three days of health at a document a
minute with one deployment. Beyond that the oldest health is dropped, then the rest is summed up."""

REPLAY_PER_S = 20
"""Events a device sends in a second when it has many: a day of health, a document a minute, is told
in a bit more than a minute, at some 20 KB a second of a thin uplink. 500 devices that come back
together then send what one centre was seen to commit, 10,000 a second; more of them are held up by
what is not acknowledged yet (the ledger's window)."""

REPORTS_PER_S = 1.0
REPORTS_BURST = 32
"""How often a device says what it is: two changes of each of 16 deployments at once, and then once
a second, always the latest. 8 KB a second is what a storm on a device may cost its uplink."""

WINDOWS_LIMIT = 7
"""Of one device, of both kinds together: with all of them, sixteen deployments still fit their
signed document."""

DOWNLOAD_RATE_LEAST_BYTES_PER_S = 1024
"""Of downloads that are held back: below it a connection looks dead to both of its ends."""

HEALTH_PERIOD_S = 60.0
