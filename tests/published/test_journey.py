"""The page `docs/model-to-answer.md` is followed word for word, with a model that others made."""

import re
from pathlib import Path

import pytest

from tests.published.pages import blocks, follow, lines, own_model, typed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real("mosquitto", "unshare", "ip", "curl"),
    pytest.mark.timeout(300),
]

PAGE = "model-to-answer.md"
READY = "curl -sf http://127.0.0.1:8000/v2/models/mine/ready"
UNTIL = {
    "skerry up": "curl -sf --insecure https://127.0.0.1:8443/healthz",
    "skerry-agent run": "curl -sf http://127.0.0.1:8000/v2/health/live",
    "skerry rollout start": READY,
}


def test_an_own_model_goes_from_a_file_to_answers(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each command of the page does what it says, and the device answers with the centre gone."""
    (tmp_path / "mine.tflite").write_bytes(own_model(tmp_path_factory.mktemp("wheel")))
    (tmp_path / "ask.py").write_text("\n".join(blocks(PAGE, "python")))
    (run,) = [line for line in lines(PAGE) if line.startswith("skerry-agent run")]
    said = follow(
        [
            *typed(lines(PAGE), UNTIL),
            "python ask.py > first",
            "kill %1 %2; wait %1 %2 || true",  # the centre is gone, and the device too
            *typed([run], UNTIL),
            f"await {READY}",
            "python ask.py > second",
        ],
        tmp_path,
    )

    assert re.search(r"FORMAT +float16", said), "`model inspect`"
    assert re.search(r"WHO +1 get it", said), "`rollout plan`"
    assert re.search(r"running +mine 1\.0\.0", said), "`rollout ls`"
    assert "serves mine 1.0.0 (AS_WANTED)" in said, "`device show`"
    assert '"shape":[1,896,16]' in said, "`curl`"
    first, second = ((tmp_path / name).read_text() for name in ("first", "second"))
    assert first == second
    assert "[[[" == first[:3]
