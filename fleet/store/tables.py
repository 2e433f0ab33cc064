"""The tables of the store. `SCHEMA` is the migration that makes them.

Documents are kept as the bytes that were sent: what was signed or said is never
re-serialised. Times are RFC 3339 in UTC, as text, and order nothing.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

SCHEMA = "0012"
"""The newest migration this program knows."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _device(*, key: bool = True) -> Column[str]:
    return Column("device", String(64), ForeignKey("devices.id"), primary_key=key, nullable=False)


sites = Table(
    "sites",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("created_at", String(32), nullable=False),
)

devices = Table(
    "devices",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(64), nullable=False, index=True),
    Column("site", String(64), ForeignKey("sites.id")),
    Column("labels", JSON, nullable=False),
    Column("facts", JSON, nullable=False),
    Column("serial", String(64), nullable=False),
    Column("certificate_expires_at", String(32), nullable=False),
    Column("joined_at", String(32), nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("site", String(64), ForeignKey("sites.id")),
    Column("labels", JSON, nullable=False),
    Column("uses", Integer, nullable=False),
    Column("uses_limit", Integer, nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("expires_at", String(32), nullable=False),
)

bundles = Table(
    "bundles",
    metadata,
    Column("digest", String(80), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("version", String(64), nullable=False),
    Column("card", LargeBinary, nullable=False),
    Column("published_at", String(32), nullable=False),
    UniqueConstraint("name", "version"),
)

desired = Table(
    "desired",
    metadata,
    Column("target", String(64), primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("issued_at", String(32), nullable=False),
    Column("position", BigInteger, nullable=False, unique=True),
)
"""`position` is the number of the change that put the document in (`store_state.position`)."""

store_state = Table(
    "store_state",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("position", BigInteger, nullable=False),
)
"""One row: the id this store was made with, and the position of its latest change."""

reported = Table(
    "reported",
    metadata,
    _device(),
    Column("session", BigInteger, nullable=False),
    Column("epoch", BigInteger),
    Column("generation", BigInteger),
    Column("document", LargeBinary, nullable=False),
    Column("received_at", String(32), nullable=False),
)

presence = Table(
    "presence",
    metadata,
    _device(),
    Column("session", BigInteger, nullable=False),
    Column("online", Boolean, nullable=False),
    Column("since", String(32), nullable=False),
    Column("agent_version", String(256), nullable=False),
    Column("facts", JSON, nullable=False),
)

events = Table(
    "events",
    metadata,
    _device(),
    Column("ledger", String(256), primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("first", BigInteger, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("late", Boolean, nullable=False),
    Column("document", LargeBinary, nullable=False),
    Column("received_at", String(32), nullable=False),
)

acked = Table(
    "acked",
    metadata,
    _device(),
    Column("ledger", String(256), primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("begun_at", String(32), nullable=False, server_default=""),
)
"""`begun_at` is when the first of a ledger was acknowledged."""

health = Table(
    "health",
    metadata,
    _device(),
    Column("ledger", String(256)),
    Column("number", BigInteger, nullable=False),
    Column("late", Boolean, nullable=False),
    Column("document", LargeBinary, nullable=False),
    Column("received_at", String(32), nullable=False),
)

drift = Table(
    "drift",
    metadata,
    _device(),
    Column("deployment", String(64), primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("digest", String(80), nullable=False),
    Column("ledger", String(256)),
    Column("told_at", String(32)),
    Column("since", String(32), nullable=False),
    Column("counts", JSON, nullable=False),
    Column("judged", JSON, nullable=False),
    Column("tellings", JSON, nullable=False),
)
"""`counts` and `judged` are of all `tellings`, which are read only where one more is told."""

policies = Table(
    "policies",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("document", JSON, nullable=False),
    Column("written_at", String(32), nullable=False),
)

rollouts = Table(
    "rollouts",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("plan_digest", String(80), nullable=False),
    Column("state", String(32), nullable=False),
    Column("is_open", Boolean, nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("number", BigInteger, nullable=False, server_default="0"),
    Column("policy", String(64), nullable=False, server_default=""),
    Column("settings_given", Boolean, nullable=False, server_default="0"),
    Column("revision", String(32), nullable=False, server_default=""),
    Column("head", Text, nullable=False, server_default=""),
    Column("wish", String(80), nullable=False, server_default="", index=True),
)
"""How far each is without its targets (`head`); another `revision` means that anything of it moved.

A revision is drawn, not counted: that of a transaction which was taken back never comes again.
The `wish` is the digest of what is wanted of whom (`fleet.rollouts.declared`).
"""

rollout_plans = Table(
    "rollout_plans",
    metadata,
    Column("rollout", String(64), ForeignKey("rollouts.id"), primary_key=True),
    Column("document", Text, nullable=False),
)
"""Apart from the rollouts: a plan has a step for each device, and is read when somebody asks."""

rollout_targets = Table(
    "rollout_targets",
    metadata,
    Column("rollout", String(64), ForeignKey("rollouts.id"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("target", String(64), nullable=False),
    Column("wave", Integer, nullable=False),
    Column("place", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("content", Integer, nullable=False),
    Column("document", Text, nullable=False),
    UniqueConstraint("rollout", "target"),
)
"""`position` is the target's in the plan, `place` that in its wave; `content` says what it gets."""

rollout_contents = Table(
    "rollout_contents",
    metadata,
    Column("rollout", String(64), ForeignKey("rollouts.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("document", Text, nullable=False),
)
"""What targets get and had before: once for all of a rollout that get the same."""

commands = Table(
    "commands",
    metadata,
    Column("id", String(64), primary_key=True),
    _device(key=False),
    Column("verb", String(32), nullable=False),
    Column("parameters", JSON, nullable=False),
    Column("actor", String(256), nullable=False),
    Column("issued_at", String(32), nullable=False),
    Column("expires_at", String(32), nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("position", BigInteger, nullable=False, unique=True),
    Column("result", LargeBinary),
    Column("answered_at", String(32)),
    Column("answer", LargeBinary),
)
"""`answer` is a long one, as the device packed it; `result` says how it ended."""

audit = Table(
    "audit",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("at", String(32), nullable=False),
    Column("actor", String(256), nullable=False),
    Column("action", String(64), nullable=False),
    Column("subject", String(256), nullable=False),
    Column("reason", Text, nullable=False),
    Column("before", JSON(none_as_null=True)),
    Column("after", JSON(none_as_null=True)),
    Index("ix_audit_subject", "subject"),
)

alerts = Table(
    "alerts",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("rule", String(64), nullable=False),
    Column("scope", String(16), nullable=False),
    Column("subject", String(256), nullable=False),
    Column("severity", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("ended_at", String(32)),
    Column("position", BigInteger, nullable=False, index=True),
    Column("document", Text, nullable=False),
)
"""`position` is that of its last news among all news; 0: there was none, and it is not listed."""

silences = Table(
    "silences",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("rule", String(64)),
    Column("site", String(256)),
    Column("bundle", String(256)),
    Column("until", String(32), nullable=False),
    Column("actor", String(256), nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", String(32), nullable=False),
)

receivers = Table(
    "receivers",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("since", BigInteger, nullable=False),
)
"""Who is told of alerts, and the position of the last news before they were."""

told = Table(
    "told",
    metadata,
    Column("receiver", String(64), primary_key=True),
    Column("alert", String(64), primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("holder", String(64)),
    Column("until", String(32)),
)
"""The last news of an alert that a receiver has taken: what is above it is yet to be told.

0: it has taken none. `holder` is the centre that tells it now, and `until` when no other may.
"""

health_days = Table(
    "health_days",
    metadata,
    _device(),
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("step_s", Integer, nullable=False),
    Column("slots", LargeBinary, nullable=False),
)
"""`day` is counted from 1970; `slots` are as `fleet.health.days` packs them."""

health_open = Table(
    "health_open",
    metadata,
    _device(),
    Column("begin", BigInteger, nullable=False),
    Column("slot", LargeBinary, nullable=False),
    Column("seen", LargeBinary, nullable=False),
)
"""The slot that is being filled, from which second on, and the marks of the last documents."""

away = Table(
    "away",
    metadata,
    _device(),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("since", String(32), nullable=False),
    Column("until", String(32)),
    Column("spans", Integer, nullable=False),
    Column("away_s", BigInteger, nullable=False),
)
"""Row 0 of a device sums up the spans that are no longer kept."""

events_kept = Table(
    "events_kept",
    metadata,
    _device(),
    Column("transitions", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
)
"""How many transitions of a device are in `events`, and how many bytes they have."""

events_summed = Table(
    "events_summed",
    metadata,
    _device(),
    Column("kind", String(32), primary_key=True),
    Column("count", BigInteger, nullable=False),
    Column("first_at", String(32), nullable=False),
    Column("last_at", String(32), nullable=False),
)
"""The transitions of a device that are no longer kept, by kind; when they came, by our clock."""

touched = Table(
    "touched",
    metadata,
    Column("device", String(64), primary_key=True),
    Column("part", String(16), primary_key=True),
    Column("number", BigInteger, nullable=False, index=True),
)
"""What `fleet.store.touched` keeps: the last transaction that wrote a part of a device."""

words_now = Table(
    "words_now",
    metadata,
    _device(),
    Column("number", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", String(256), nullable=False),
    Column("subject", String(256), nullable=False),
    Column("since", String(32), nullable=False),
)
"""The state word of each device, since when, and the how manieth of its words it is."""

words_past = Table(
    "words_past",
    metadata,
    _device(),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("state", String(16), nullable=False),
    Column("reason", String(256), nullable=False),
    Column("subject", String(256), nullable=False),
    Column("since", String(32), nullable=False),
    Column("until", String(32), nullable=False),
)

words_summed = Table(
    "words_summed",
    metadata,
    _device(),
    Column("state", String(16), primary_key=True),
    Column("spans", Integer, nullable=False),
    Column("lasted_s", BigInteger, nullable=False),
    Column("since", String(32), nullable=False),
    Column("until", String(32), nullable=False),
)
"""What is no longer kept of a device's words, by state."""

watches = Table(
    "watches",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("since", String(32), nullable=False),
    Column("until", String(32), nullable=False),
)
"""When the centre looked at its devices; between two of these nobody knows how they were."""
