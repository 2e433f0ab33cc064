"""What the local page promises beside what is on it: it answers, is bounded, lets nothing in."""

import asyncio
import re
import threading
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.page.drawing import draw
from agent.page.front import Front, is_ours
from agent.page.look import Reading
from agent.page.markup import Markup, tag
from agent.page.seen import Seen
from agent.serving.oip import Message, Receive, Scope, Send
from agent.serving.server import serve
from agent.state import Note, rot_note
from agent.wire import v1
from agent.wire.phases import Phase
from tests.agent.looks import DIGITS, LOOKS, UNREADABLE, WELL, event, seen

PAGE_LIMIT_BYTES = 256 * 1024


class Reader(HTMLParser):
    """Reads a page as a browser would: its texts, its elements and their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.texts: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)
        self.close()

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((name, dict(attributes)))


@given(text=st.text(), value=st.text())
def test_text_stays_text(text: str, value: str) -> None:
    """Whatever a text is, what is read is one element, with the text in it as it can be seen."""
    read = Reader(tag("p", text, title=value))

    assert [("p", {"title": _visible(value)})] == read.elements
    assert _visible(text) == "".join(read.texts)


def _visible(text: str) -> str:
    turned = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f"
    unseen = [chr(each) for each in (*range(32), *range(127, 160))] + ["\u2028", "\u2029"]
    for each in turned:
        text = text.replace(each, "\N{REPLACEMENT CHARACTER}")
    for each in unseen:
        text = text.replace(each, " ")
    return text


def test_only_what_was_made_here_is_markup() -> None:
    """An element in an element stays one; a text that looks like one does not become one."""
    assert "<p><b>x</b>&lt;b&gt;</p>" == tag("p", tag("b", "x"), "<b>", None, [[]])
    assert isinstance(tag("p"), Markup)
    assert '<p class="a" aria-label="&quot;">' == tag("p", cls="a", aria_label='"')[:-4]


def test_a_page_is_bounded_however_much_there_is() -> None:
    """As many deployments, quarantines and transitions as there can be, each text at its limit."""
    sizes = {name: len(draw(look, "").encode()) for name, look in LOOKS.items()}

    assert 100_000 < sizes["fullest"] < PAGE_LIMIT_BYTES
    assert sizes["well"] < 10_000
    read = Reader(draw(LOOKS["fullest"], ""))
    assert 8 == read.texts.count("failing") + read.texts.count("degraded")
    assert 1 == sum(bool(re.fullmatch(r"and \d+ more", text)) for text in read.texts)
    assert {"script", "img", "form", "input"}.isdisjoint(name for name, _ in read.elements)
    assert all("on" not in name[:2] for _, each in read.elements for name in each)


def test_settings_stay_off_the_page() -> None:
    """A deployment's settings may be its owner's business: none of them is drawn."""
    settings = v1.DeploymentSettings(
        values={"greeting": "hunter2", "key": v1.SecretRef(secret="k9")}
    )
    told = replace(DIGITS, wanted=replace(DIGITS.wanted, settings=settings))
    page = draw(seen(told), "")

    assert "digits:1.4.0" in page
    assert not {"greeting", "hunter2", "k9"} & set(re.findall(r"\w+", page))


@pytest.mark.parametrize("kind", [each for each in v1.EventKind if each != "health"])
def test_all_that_happens_is_said_in_words(kind: v1.EventKind) -> None:
    """A transition's kind is for programs."""
    told = event(1, "09:00:00", kind, deployment="digits", revision=1, phase=Phase.COMMITTED)

    assert kind not in Reader(draw(seen(DIGITS, past=[told]), "")).texts


def test_what_happened_is_told_with_its_numbers() -> None:
    """Those that the sentence asks for; what else a transition carries is in its message."""
    refused = event(
        9,
        "11:50:00",
        v1.EventKind.PHASE,
        deployment="digits",
        revision=2,
        phase=Phase.REFUSED,
        reason="SHADOW_DISAGREED",
        parameters={"agreed": "3", "compared": "9", "spare": "7"},
    )
    page = draw(seen(DIGITS, past=[refused]), "")
    assert "3 of 9 agreed." in page
    assert "spare" not in page


def test_a_candidate_in_its_shadow_says_what_it_waits_for() -> None:
    """Not for itself: for requests."""
    assert "It needs requests" in draw(seen(replace(DIGITS, phase=Phase.SHADOWING)), "")


@pytest.mark.parametrize(
    ("note", "became"),
    [
        (rot_note(DIGITS.wanted.bundle.digest, DIGITS, ("sha256:0b",)), "rotted in the store."),
        (rot_note(DIGITS.wanted.bundle.digest, DIGITS), "is whole in the store again."),
    ],
)
def test_what_became_of_the_store_is_told(note: Note, became: str) -> None:
    """Not only that something did."""
    told = event(
        9,
        "11:50:00",
        note.kind,
        deployment=note.deployment,
        digest=note.digest,
        parameters=note.parameters,
    )
    texts = Reader(draw(seen(DIGITS, past=[told]), "")).texts
    assert became in " ".join(texts)


def test_what_cannot_be_read_is_said_and_hides_nothing_else() -> None:
    """A disk that hangs costs the transitions and the measurements, not the verdict."""
    page = draw(UNREADABLE, "")

    assert 2 == page.count("be read just now")
    assert "It serves all that is wanted of it." in page
    assert "digits:1.4.0 serves" in page


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("127.0.0.1", True),
        ("127.0.0.1:8471", True),
        ("[fe80::1]:8471", True),
        ("[::1]", True),
        ("localhost:8471", True),
        ("LOCALHOST", True),
        ("porto-cam-07:8471", True),
        ("porto-cam-07.local", True),
        ("agent.site.svc.cluster.local:80", True),
        ("", True),
        ("evil.example", False),
        ("evil.example:8471", False),
        ("127.0.0.1.evil.example", False),
        ("local.evil.example:80", False),
        ("notlocal.evil", False),
        ("evil.example.", False),
        ("1.2.3.4.5", False),
    ],
)
def test_a_name_of_the_wide_world_is_none_of_ours(host: str, ours: bool) -> None:  # noqa: FBT001  # a table
    """Addresses and names of a site are; what somebody can register and point here is not."""
    assert ours is is_ours(host)


async def _behind(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def _ask(front: Front, method: str = "GET", query: bytes = b"") -> int:
    told: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("nothing that is sent is read")

    async def send(message: Message) -> None:
        told.append(message)

    scope = {"raw_path": b"/", "method": method, "query_string": query, "headers": []}
    await front(scope, receive, send)
    status: int = told[0]["status"]
    return status


@pytest.mark.looptime
async def test_however_many_look_it_is_looked_once_a_second() -> None:
    """A crowd of browsers costs a device no more than one."""
    looks = 0

    async def see() -> Seen:
        nonlocal looks
        looks += 1
        await asyncio.sleep(0.1)
        return WELL

    front = Front(see, _behind)
    async with asyncio.TaskGroup() as group:
        for _ in range(50):
            group.create_task(_ask(front), name="look")
    assert 1 == looks
    assert 405 == await _ask(front, "POST")
    assert 200 == await _ask(front)
    assert 1 == looks
    await asyncio.sleep(1.01)
    assert 200 == await _ask(front)
    assert 2 == looks


async def test_a_disk_that_hangs_holds_nobody_up(release: threading.Event) -> None:
    """What is read comes late or not at all; one thread waits for it, and the next look has it."""
    reads: list[int] = []

    def read() -> str:
        reads.append(1)
        release.wait(30)
        return "read"

    now = asyncio.get_running_loop().time
    reading = Reading(read)
    assert [None, None, None] == [await reading.by(now() + 0.02) for _ in range(3)]
    assert [1] == reads
    release.set()
    assert "read" == await reading.by(now() + 10)
    assert "read" == await reading.by(now() + 10)
    assert [1, 1] == reads


@pytest.fixture
def release() -> threading.Event:
    return threading.Event()


async def test_a_unix_socket_shows_it_too(tmp_path: Path) -> None:
    """Where there is no port, as `curl --unix-socket` asks: without a name that matters."""
    heard: asyncio.Queue[tuple[str, ...]] = asyncio.Queue()
    path = tmp_path / "agent.sock"

    async def see() -> Seen:
        return WELL

    async with asyncio.TaskGroup() as group:
        serving = group.create_task(
            serve(
                Front(see, _behind),
                host=None,
                port=0,
                unix_path=path,
                on_listening=heard.put_nowait,
            ),
            name="serve",
        )
        await heard.get()
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        serving.cancel()

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"</html>\n")
