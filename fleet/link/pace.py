"""How fast the link goes, and why. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Batches, rates and waits of the centre's link.

    `batch_limit`, `batch_wait_s`: a commit costs milliseconds whatever it
    holds; 500 documents or 200 ms make it a few per cent of a core at 1,700
    documents a second, and 105 ms the median delay.
    `receive_maximum`: two batches, so that the broker sends the next while one
    is committed, and keeps (not we) what we can't take.
    `backlog_limit`: documents held in memory beyond that; only health sent with
    QoS 0 can get there, and health may be lost.
    `topic_limit`: of these, documents of one device: a hundred that say a hundred
    times too much leave room for three thousand others.
    `publish_limit`, `publish_per_s`: pages read from the store, and the rate at
    which a broker that lost its memory is filled: 100,000 targets in 100 s,
    while it also takes back 100,000 sessions.
    `look_again_s`: the period of looking without being woken.
    `marker_wait_s`: how long a retained marker may take. Missing it wrongly only
    publishes again what is there.
    `quiet_s`: no retained document for so long ends the reading at start.
    `connect_limit_s`: name, TCP, TLS and CONNACK together.
    """

    batch_limit: int = 500
    batch_wait_s: float = 0.2
    receive_maximum: int = 1000
    backlog_limit: int = 5000
    topic_limit: int = 20
    publish_limit: int = 200
    publish_per_s: float = 1000.0
    look_again_s: float = 30.0
    marker_wait_s: float = 1.0
    quiet_s: float = 2.0
    connect_limit_s: float = 15.0
    keepalive_s: int = 60
    reconnect_first_s: float = 0.5
    reconnect_cap_s: float = 30.0
    busy_first_s: float = 0.2
    busy_cap_s: float = 10.0


def full_jitter(attempt: int, *, first_s: float, cap_s: float, draw: float) -> float:
    """Return how long to wait before attempt number `attempt`; `draw` is in [0, 1).

    Uniform over [0, min(cap, first * 2**attempt)): who broke away together
    doesn't come back together.
    """
    return draw * min(cap_s, first_s * 2.0 ** min(attempt, 32))
