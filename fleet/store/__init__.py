"""The store: what the centre knows, in one database. It is the truth; retained topics are a cache.

`engine.Store` opens it and hands out transactions; one module a subject has the
functions that run inside one (`devices`, `tokens`, `bundles`, `desired`,
`reported`, `presence`, `events`, `health`, `rollouts`, `audit`), so that what
belongs together commits together. All of it blocks: call it through a thread.
"""
