"""The model of a disk: nothing that no file system could leave, and all the famous ruins."""

from collections.abc import Iterable

from tests.agent.power.disk import Disk
from tests.agent.power.recording import (
    HOME_NODE,
    Made,
    Moved,
    Operation,
    Recording,
    Removed,
    Synced,
    Written,
)

FILE, OTHER, FOLDER = 10, 11, 12


def made(name: str, node: int = FILE, *, folder: int = HOME_NODE, is_folder: bool = False) -> Made:
    return Made(folder=folder, name=name, node=node, is_folder=is_folder)


def written(data: bytes, offset: int = 0, node: int = FILE) -> Written:
    return Written(node=node, offset=offset, data=data)


def moved(old: str, name: str, *, folder: int = HOME_NODE) -> Moved:
    return Moved(source=HOME_NODE, old=old, folder=folder, name=name, node=FILE)


def synced(node: int, since: int) -> Synced:
    return Synced(node=node, path="", is_folder=node in {HOME_NODE, FOLDER}, since=since)


def left(
    operations: Iterable[Operation], before: dict[str, bytes] | None = None
) -> set[tuple[tuple[str, bytes | None], ...]]:
    """Return all that a cut after some operations may leave."""
    given = dict(enumerate((before or {}).items(), 100))
    names = {name: node for node, (name, _) in given.items()}
    contents = {node: content for node, (_, content) in given.items()}
    disk = Disk(Recording({HOME_NODE: names}, contents))
    for each in operations:
        disk.do(each)
    return {
        tuple((path, disk.content(digest) if digest else None) for path, digest in image)
        for image in disk.images()
    }


def test_what_nobody_synced_may_be_there_in_part_or_not_at_all() -> None:
    """A new name without bytes, with zeros in their place, with half of them; or no name."""
    expected = {(), *((("a", data),) for data in (b"", b"\0\0\0\0", b"ab", b"abcd"))}

    assert expected == left([made("a"), written(b"abcd")])


def test_a_synced_file_may_have_no_name_and_a_synced_name_no_bytes() -> None:
    """Content and names are durable apart."""
    assert {(), (("a", b"abcd"),)} == left([made("a"), written(b"abcd"), synced(FILE, 2)])
    assert () not in left([made("a"), written(b"abcd"), synced(HOME_NODE, 2)])
    assert (("a", b""),) in left([made("a"), written(b"abcd"), synced(HOME_NODE, 2)])


def test_both_synced_nothing_is_left_to_chance() -> None:
    """One image."""
    whole: list[Operation] = [made("a"), written(b"abcd"), synced(FILE, 2), synced(HOME_NODE, 3)]

    assert {(("a", b"abcd"),)} == left(whole)


def test_a_sync_covers_only_what_had_returned_before_it_was_called() -> None:
    """Another thread's write during an fsync is not durable by it."""
    assert {(), (("a", b""),)} < left([made("a"), written(b"abcd"), synced(FILE, 1)])


def test_writes_may_arrive_in_any_order() -> None:
    """The second without the first: zeros where the first belongs."""
    found = left([made("a"), written(b"ab"), written(b"cd", 2)])

    assert (("a", b"\0\0cd"),) in found
    assert (("a", b"ab"),) in found


def test_a_name_is_replaced_whole_or_not_at_all() -> None:
    """Temp, write, fsync, rename: the old content or the new, whether or not temp is left."""
    new: list[Operation] = [made("t"), written(b"new"), synced(FILE, 2), moved("t", "a")]
    found = left(new, {"a": b"old"})

    assert {dict(each)["a"] for each in found} == {b"old", b"new"}
    assert {b"new"} == {
        dict(each)["a"] for each in left([*new, synced(HOME_NODE, 4)], {"a": b"old"})
    }


def test_without_its_fsync_a_renamed_file_may_be_empty() -> None:
    """The famous one."""
    found = left([made("t"), written(b"new"), moved("t", "a")], {"a": b"old"})

    assert (("a", b""),) in found


def test_between_folders_a_file_is_in_one_or_both_and_never_in_neither() -> None:
    """Until the folder it came from is durable."""
    begun: list[Operation] = [
        made("f", FOLDER, is_folder=True),
        made("a"),
        written(b"x"),
        synced(FILE, 3),
        synced(HOME_NODE, 4),
        moved("a", "b", folder=FOLDER),
    ]

    def places(*syncs: Synced) -> set[tuple[str, ...]]:
        found = left([*begun, *syncs])
        return {tuple(path for path, content in image if content) for image in found}

    assert {("a",), ("a", "f/b"), ("f/b",)} == places()
    assert {("a", "f/b"), ("f/b",)} == places(synced(FOLDER, 6))
    assert {("f/b",)} == places(synced(HOME_NODE, 6))


def test_what_was_removed_may_come_back_until_its_folder_is_durable() -> None:
    """And is gone afterwards."""
    begun: list[Operation] = [
        made("a"),
        synced(HOME_NODE, 1),
        Removed(folder=HOME_NODE, name="a", node=FILE),
    ]

    assert {(), (("a", b""),)} == left(begun)
    assert {()} == left([*begun, synced(HOME_NODE, 3)])
