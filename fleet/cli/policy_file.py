"""`--policy-file FILE`: a policy of one's own, as YAML; what is wrong is told with its line."""

from pathlib import Path
from typing import Annotated, Any

import typer

from fleet.cli.yaml_documents import Reading, documents_in

PolicyFileOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="How it spreads, as a document of your own (YAML), instead of --policy.",
    ),
]


def policy_in(path: Path | None) -> dict[str, Any] | None:
    """Return what is in a policy file, checked; the centre checks it again.

    Raises:
        CommandError: it can't be read, or says what no policy can be; with line and field.
    """
    if path is None:
        return None
    from fleet.api.policies import PolicyWish  # noqa: PLC0415  # for those who give a file

    next_step = "write it as docs/rollouts.md, 'A policy of your own', shows"
    reading = Reading(path=path, what="a policy", next_step=next_step)
    first, *more = documents_in(reading)
    if more:
        why = f"MALFORMED: line {more[0].line}: a second document; skerry apply takes several"
        raise reading.wrong(why)
    return first.checked(PolicyWish).model_dump(mode="json")
