"""The page `docs/join-a-site.md` is followed word for word: a shed, a cable, a cluster's YAML."""

import base64
import re
import stat
from pathlib import Path

import pytest
import yaml

from tests.published.pages import blocks, follow, lines, own_model, typed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real("mosquitto", "unshare", "ip", "curl"),
    pytest.mark.timeout(300),
]

BEFORE, PAGE = "model-to-answer.md", "join-a-site.md"
ANSWERS = "curl -sf http://127.0.0.1:{}/v2/models/mine/ready"
BOTH = [f"await {ANSWERS.format(port)}" for port in (8001, 8002)]
UNTIL = {
    "skerry up": "curl -sf --insecure https://127.0.0.1:8443/healthz",
    "skerry-agent run --home shed-1": "curl -sf http://127.0.0.1:8001/v2/health/live",
    "skerry-agent run --home shed-2": "curl -sf http://127.0.0.1:8002/v2/health/live",
    "skerry rollout start": ANSWERS.format(8001),
}


def test_a_shed_joins_answers_alone_and_catches_up(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Up to the cable; then it is cut, one device is started again, and it is plugged in."""
    (tmp_path / "mine.tflite").write_bytes(own_model(tmp_path_factory.mktemp("wheel")))
    (asking,) = blocks(BEFORE, "python")
    (tmp_path / "ask.py").write_text(asking.replace("127.0.0.1:8000", "127.0.0.1:8001"))
    before = lines(BEFORE)
    begun = before[: next(n for n, line in enumerate(before) if line.startswith("skerry-agent"))]
    page = lines(PAGE)
    cable = next(n for n, line in enumerate(page) if line.startswith("skerry device history"))
    (up,) = [line for line in begun if line.startswith("skerry up")]
    (first,) = [line for line in page if line.startswith("skerry-agent run --home shed-1")]
    said = follow(
        [
            *typed(begun, UNTIL),
            *typed(page[:cable], UNTIL),
            *BOTH,
            "python ask.py > first",
            "kill %1; wait %1 || true",  # the cable: neither centre nor broker
            *BOTH,
            "python ask.py > alone",
            "kill %2; wait %2 || true",
            *typed([first], UNTIL),
            *BOTH,
            "python ask.py > again",
            "skerry-agent status --home shed-1",
            *typed([up], UNTIL),
            "await sh -c 'skerry fleet status | grep \"2 ok\"'",
            "await sh -c 'skerry device history shed-1 | grep late'",
            *typed(page[cable:], UNTIL),
        ],
        tmp_path,
    )

    assert re.search(r"shed-1 +shed ", said), "`device ls` names the site"
    assert '"name":"mine"' in said, "`curl`"
    first, alone, again = ((tmp_path / name).read_text() for name in ("first", "alone", "again"))
    assert "[" in first
    assert first == alone == again, "with the cable pulled, and started again so"
    assert re.search(r"late.*the agent started", said), "`device history`: what happened alone"
    assert "DEVICES  2   ✓ 2 ok" in said, "`fleet status`"
    assert 0o600 == stat.S_IMODE((tmp_path / "porto.yaml").stat().st_mode)
    made = {
        each["kind"]: each for each in yaml.safe_load_all((tmp_path / "porto.yaml").read_text())
    }
    assert base64.b64decode(made["Secret"]["data"]["token"]).startswith(b"sk1.")
    assert "https://centre.example:8443" == made["ConfigMap"]["data"]["CENTRE_URL"]
