"""`skerry site join` writes what `kubectl` reads, and says in three lines what is wrong."""

import pytest
import yaml

from fleet.cli import main
from k3s.render import render, to_yaml
from k3s.values import Grant, Rule, SecretKey, SiteConfig

LEAST = [
    "site",
    "join",
    "porto",
    "--url",
    "https://centre.example:8443",
    "--image",
    "registry.example/skerry-agent:0.1.0",
    "--token-secret",
    "skerry-join",
]


def test_it_writes_the_sites_objects(capsys: pytest.CaptureFixture[str]) -> None:
    """YAML alone on stdout; what is left to do by hand on stderr."""
    more = ["--node", "skerry/agent=yes", "--label", "shop=oslo", "--library", "tflite"]
    more += ["--accelerator", "squat.ai/edgetpu=1", "--device", "/dev/apex_0"]
    more += ["--grant", "shop:apps/deployments:get,list", "--grant", "shop:pods:get"]
    more += ["--grant", "other:/pods/log:get", "--namespace", "harbour"]
    more += ["--nodes", "3", "--valid", "2d"]
    code = main([*LEAST[:-1], "join/oslo", *more])
    out, err = capsys.readouterr()
    expected = SiteConfig(
        site="porto",
        centre_url="https://centre.example:8443",
        image="registry.example/skerry-agent:0.1.0",
        join_token=SecretKey(name="join", key="oslo"),
        namespace="harbour",
        node_selector={"skerry/agent": "yes"},
        labels={"shop": "oslo"},
        library="tflite",
        accelerators={"squat.ai/edgetpu": 1},
        devices=("/dev/apex_0",),
        grants=(
            Grant(
                namespace="shop",
                rules=(
                    Rule(group="apps", resources=("deployments",), verbs=("get", "list")),
                    Rule(group="", resources=("pods",), verbs=("get",)),
                ),
            ),
            Grant(
                namespace="other",
                rules=(Rule(group="", resources=("pods/log",), verbs=("get",)),),
            ),
        ),
    )

    assert (code, out) == (0, to_yaml(render(expected)))
    assert "install -d -m 0700 -o 10001 -g 10001 /var/lib/skerry" in err
    assert (
        "skerry token create --uses=3 --valid=2d --site=porto | "
        "kubectl -n harbour create secret generic join --from-file=oslo=/dev/stdin\n"
    ) in err


def test_the_least_is_enough(capsys: pytest.CaptureFixture[str]) -> None:
    """Four things differ from site to site; the rest has defaults."""
    assert main(LEAST) == 0
    kinds = [made["kind"] for made in yaml.safe_load_all(capsys.readouterr().out)]

    assert kinds == ["Namespace", "ServiceAccount", "ConfigMap", "DaemonSet"]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--label", "shop"], "not KEY=VALUE"),
        (["--label", "shop=a", "--label", "shop=b"], "the same key twice"),
        (["--accelerator", "squat.ai/edgetpu=one"], "not a whole number: 'one'"),
        (["--grant", "shop:pods"], "not NAMESPACE:[GROUP/]RESOURCE:VERBS"),
        (["--grant", "shop:pods:*"], "not a verb that can be granted: '*'"),
        (["--device", "/etc/shadow"], "not under /dev"),
    ],
)
def test_what_is_wrong_is_said_in_three_lines(
    capsys: pytest.CaptureFixture[str], options: list[str], why: str
) -> None:
    """No stack trace reaches a person, and nothing reaches the pipe."""
    code = main([*LEAST, *options])
    out, err = capsys.readouterr()

    assert (code, out) == (2, "")
    assert why in err
    assert len(err.splitlines()) == 3
    assert "Traceback" not in err
