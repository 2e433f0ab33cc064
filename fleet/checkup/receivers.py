"""Whether those who are to be told of alerts take what they are told. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from fleet.checkup.finding import Finding, ok, wrong
from fleet.wording import count

_CHECK = "alerts"


def judge(found: Mapping[str, Any]) -> Iterator[Finding]:
    """Judge the receivers as a centre shows them; nothing is said where there are none.

    Raises:
        ValueError: no centre answers so.
    """
    try:
        said = list(_judged(str(found["error"]), list(found["receivers"])))
    except (KeyError, TypeError) as error:
        raise ValueError(f"a centre's answer has another shape: {error}") from error
    yield from said


def _judged(error: str, receivers: list[Mapping[str, Any]]) -> Iterator[Finding]:
    if error:
        hint = "mend the file; until then those are told that it named before"
        yield wrong(_CHECK, "receivers.toml can't be read", error, hint)
    failing = [each for each in receivers if each["failing_since"]]
    for each in failing:
        yield wrong(
            _CHECK,
            f"{each['name']} ({each['kind']}) does not take alerts, {each['waiting']} wait",
            f"{each['error']}, since {each['failing_since']}",
            f"mend it, then try it: skerry alert test {each['name']}",
        )
    if receivers and not failing and not error:
        who = (
            "1 receiver takes" if len(receivers) == 1 else f"{count(len(receivers))} receivers take"
        )
        yield ok(_CHECK, f"{who} what is told")
