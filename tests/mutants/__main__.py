"""List the traps that are planted here, or plant each and see that its test turns red.

    python -m tests.mutants --list
    python -m tests.mutants [NAME ...]      (make mutants)

Exit code 0: each was seen. 1: one was not, or could not be tried.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutants.planted import Fate, Mutant, Outcome, copied, mutants, run, tried

_AT_ONCE = 2
_LINES_TOLD = 15


def main(words: Sequence[str] | None = None) -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description="Plant each known trap, and see it caught.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these")
    parser.add_argument("--list", action="store_true", help="say what there is, and try nothing")
    asked = parser.parse_args(words)
    known = {mutant.name: mutant for mutant in mutants()}
    unknown = [name for name in asked.names if name not in known]
    if unknown:
        parser.error(f"no mutant {', '.join(unknown)}; --list says which there are")
    chosen = [known[name] for name in asked.names] or list(known.values())
    if asked.list:
        for mutant in chosen:
            _tell(f"{mutant.name}\n    {mutant.trap}\n    {mutant.red}")
        return 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as place:
        return _try_all(chosen, Path(place))


def _try_all(chosen: Sequence[Mutant], place: Path) -> int:
    """Try the tests on the tree as it is, where none may be red; then each on its mutant."""
    sound = run(copied(place / "sound"), *sorted({mutant.red for mutant in chosen}))
    if sound.returncode:
        _tell("without any mutant a test is red already:")
        _tell(sound.stdout + sound.stderr)
        return 1
    width = max(len(mutant.name) for mutant in chosen)
    missed: list[Outcome] = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for outcome in pool.map(lambda mutant: tried(mutant, place / mutant.name), chosen):
            mutant = outcome.mutant
            _tell(f"{mutant.name:{width}}  {outcome.fate:11}  {mutant.red}")
            if outcome.fate is not Fate.KILLED:
                missed.append(outcome)
    for outcome in missed:
        _tell(f"\n{outcome.mutant.name} ({outcome.fate}): {outcome.mutant.trap}")
        _tell("\n".join(outcome.told.splitlines()[-_LINES_TOLD:]))
    _tell(f"\n{len(chosen)} planted, {len(chosen) - len(missed)} seen")
    return 1 if missed else 0


def _tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
