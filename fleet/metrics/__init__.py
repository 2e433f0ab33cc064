"""What a Prometheus is told of the centre: populations, never individuals.

Rules:
- No label names a device, a serial number, an address, a digest, a user or a path.
- A label value that a user made has one of few slots (`fleet.metrics.slots`); what finds none is
  counted as `other`. So the number of series has a bound, whatever the fleet is like.
- A scrape reads nothing of the store: the fleet is looked at beside it, and shared with the page.
- Only what is known is told. What this centre does not measure has no metric, rather than a zero.

`docs/reference/metrics.md` is generated from `fleet.metrics.families`.
"""
