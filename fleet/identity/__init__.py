"""Who is who in a fleet: its authority, its devices' certificates, the tokens they join with.

`places` says where each file of a centre's home is; `authority` makes and uses
the fleet's CA and keys; `tokens` is the text a device joins with; `join` lets
one device in.
"""
