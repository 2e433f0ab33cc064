"""What Mosquitto is told: its configuration and access rules, as text. Pure.

Per version: 2.0 has `acl_file`; 2.1 calls it deprecated in favour of a plugin
with the same file format, and 3.0 removes it, so the plugin is used where it is
found. Everything else means the same in both.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from agent.wire.limits import PACKET_LIMIT_BYTES
from agent.wire.topics import DEVICE_READS, DEVICE_WRITES, ROOT
from agent.wire.v1.checks import check_fleet
from fleet.broker.settings import TlsFiles

Version = tuple[int, int, int]

OLDEST: Version = (2, 0, 0)
PLUGIN_SINCE: Version = (2, 1, 0)
NO_ACL_FILE_SINCE: Version = (3, 0, 0)

QUEUED_LIMIT = 300_000
"""Messages kept for a client that is away or slow. Three minutes of 100,000 devices' health.

The default of 1,000 dropped nine of ten acknowledged messages in a one-second burst.
"""

QUEUED_LIMIT_BYTES = 512 * 1024 * 1024
"""The same in bytes, so that 8 KB documents can't make it 2.4 GB."""

AUTOSAVE_S = 300
"""How often the memory is saved: half a second of standing still at 100,000 devices.

What a crash loses of it the centre publishes again, because its marker goes back with it.
"""

_VERSION = re.compile(r"mosquitto version (\d+)\.(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """What is written into the broker's folder."""

    configuration: str
    access: str


def parse_version(text: str) -> Version | None:
    """Return the version in what `mosquitto -h` prints; None where there is none."""
    found = _VERSION.search(text)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def render(
    *,
    fleet: str,
    home: Path,
    host: str,
    port: int,
    tls: TlsFiles,
    version: Version,
    acl_plugin: Path | None = None,
    as_root: bool = False,
) -> Files:
    """Return the files of a broker for one fleet.

    Raises:
        ValueError: a path that the line format can't hold, or a version without access rules.
    """
    check_fleet(fleet)
    access = home / "access"
    for path in (home, tls.ca, tls.certificate, tls.key):
        # One option a line, its value the rest of it: no quoting.
        if str(path).strip() != str(path) or not str(path).isprintable():
            raise ValueError(f"Mosquitto can't read a path like {str(path)[:200]!r}")
    lines = [
        "# Written by Skerry at every start: changes made here are lost.",
        f"# For Mosquitto {'.'.join(map(str, version))}.",
        *(["user root"] if as_root else []),
        "allow_anonymous false",
        *_access_lines(version, access, acl_plugin),
        "persistence true",
        f"persistence_location {home}/",
        f"autosave_interval {AUTOSAVE_S}",
        f"max_packet_size {PACKET_LIMIT_BYTES}",
        f"max_queued_messages {QUEUED_LIMIT}",
        f"max_queued_bytes {QUEUED_LIMIT_BYTES}",
        "persistent_client_expiration 7d",
        "set_tcp_nodelay true",
        "connection_messages false",
        "log_dest stderr",
        "log_timestamp false",
        "log_type error",
        "log_type warning",
        "log_type notice",
        "",
        f"listener {port} {host}",
        f"cafile {tls.ca}",
        f"certfile {tls.certificate}",
        f"keyfile {tls.key}",
        "require_certificate true",
        "use_identity_as_username true",
        "use_username_as_clientid true",
    ]
    return Files(configuration="\n".join(lines) + "\n", access=_access(fleet))


def _access_lines(version: Version, access: Path, plugin: Path | None) -> list[str]:
    if version >= PLUGIN_SINCE and plugin is not None:
        return [f"global_plugin {plugin}", f"plugin_opt_acl_file {access}"]
    if version >= NO_ACL_FILE_SINCE:
        raise ValueError(
            f"Mosquitto {'.'.join(map(str, version))} needs its plugin mosquitto_acl_file.so"
        )
    return [f"acl_file {access}"]


def _access(fleet: str) -> str:
    """Return the access rules: `%u` is the certificate's common name, the fleet is written out.

    The client's id is never asked: a client chooses it (and here it is replaced
    by the common name, so that nobody can take over another's session).
    """
    lines = [
        "# Written by Skerry at every start: changes made here are lost.",
        "user centre",
        f"topic readwrite {ROOT}/{fleet}/#",
        "",
        "# Looks on: a certificate with this name is for people and their tools.",
        "user observer",
        f"topic read {ROOT}/{fleet}/#",
        "",
        "# A device: its own topics, and each in one direction only.",
        *(f"pattern read {ROOT}/{fleet}/%u/{kind}" for kind in DEVICE_READS),
        *(f"pattern write {ROOT}/{fleet}/%u/{kind}" for kind in DEVICE_WRITES),
    ]
    return "\n".join(lines) + "\n"
