"""Who may see the pages, what they may send, and what goes out with every answer."""

import datetime as dt
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2 as httpx
import pytest

from fleet.identity.authority import Authority
from fleet.identity.places import Home
from fleet.kept import Memory
from fleet.page.session import inside
from fleet.rollouts.states import WaveState
from fleet.store import audit, policies, rollouts
from fleet.store.engine import Store
from tests.fleet.centre.served import OPERATOR, TOKEN, Served, serving
from tests.fleet.deciding.paper import NOW
from tests.page.scene import fill

PAGES = [
    "/",
    "/alerts",
    "/alerts/a-golden",
    "/devices",
    "/devices/d-7",
    "/bundles",
    "/bundles/digits:1.5.0",
    "/rollouts",
    "/rollouts/new",
    "/rollouts/r-41",
]


class Clock:
    """The centre's clock, moved by hand."""

    now = NOW

    def __call__(self) -> dt.datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def served(home: Home, store: Store, clock: Clock) -> AsyncIterator[Served]:
    fill(store)
    authority = Authority.load(home.path)
    async with serving(home, authority, store, clock, pages=True) as centre:
        yield centre


@pytest.fixture
async def stranger(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=served.plain, trust_env=False) as client:
        yield client


@pytest.fixture
async def operator(stranger: httpx.AsyncClient, served: Served) -> httpx.AsyncClient:
    answer = await stranger.post("/sign-in", data={"token": TOKEN}, headers=origin(served))
    assert 303 == answer.status_code
    return stranger


def origin(served: Served) -> dict[str, str]:
    return {"Origin": served.plain}


async def test_a_stranger_sees_the_sign_in_page_alone(stranger: httpx.AsyncClient) -> None:
    """And is brought back to where they wanted to go; live parts and the stream say 401."""
    for page in PAGES:
        answer = await stranger.get(page)
        assert (303, f"/sign-in?next={page.replace('/', '%2F').replace(':', '%3A')}") == (
            answer.status_code,
            answer.headers["location"],
        )
    live = await stranger.get("/", headers={"skerry-live": "1"})
    stream = await stranger.get("/stream")
    token = await stranger.get("/", headers=OPERATOR)

    assert (401, 401, 303) == (live.status_code, stream.status_code, token.status_code)


async def test_a_wrong_token_opens_nothing(stranger: httpx.AsyncClient, served: Served) -> None:
    """No cookie is given, and the page says what to do."""
    answer = await stranger.post("/sign-in", data={"token": "x" * 43}, headers=origin(served))

    assert (401, None) == (answer.status_code, answer.headers.get("set-cookie"))
    assert "TOKEN_UNKNOWN" in answer.text
    assert "x" * 43 not in answer.text


async def test_the_cookie_is_for_this_browser_and_this_site(
    stranger: httpx.AsyncClient, served: Served
) -> None:
    """No script reads it, no other site sends it, and over TLS only TLS carries it."""
    form = {"token": TOKEN, "next": "/devices?field=state=ok"}
    plain = await stranger.post("/sign-in", data=form, headers=origin(served))
    async with served.client() as client:
        tls = await client.post("/sign-in", data=form, headers={"Origin": served.url})

    for answer in (plain, tls):
        cookie = answer.headers["set-cookie"]
        assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
        assert TOKEN not in cookie
        assert "/devices?field=state=ok" == answer.headers["location"]
    assert "Secure" not in plain.headers["set-cookie"]
    assert tls.headers["set-cookie"].endswith("Secure")


@pytest.mark.parametrize(
    "sent",
    [{}, {"Origin": "null"}, {"Origin": "https://evil.example"}, {"Origin": "http://127.0.0.1"}],
)
async def test_a_form_of_another_site_changes_nothing(
    operator: httpx.AsyncClient, store: Store, sent: dict[str, str]
) -> None:
    """Even with the cookie: the origin must be ours, whole."""
    with store.read() as connection:
        before = audit.latest(connection, limit=50)
    for path in (
        "/rollouts/r-41/pause",
        "/rollouts/new",
        "/alerts/a-golden/ack",
        "/alerts/a-golden/silence",
        "/sign-out",
        "/sign-in",
    ):
        answer = await operator.post(path, data={"reason": "x", "token": TOKEN}, headers=sent)
        assert 403 == answer.status_code
    with store.read() as connection:
        after = audit.latest(connection, limit=50)

    assert before == after
    assert 200 == (await operator.get("/")).status_code


async def test_a_session_ends_by_a_word_and_by_itself(
    operator: httpx.AsyncClient, served: Served, clock: Clock
) -> None:
    """Signed out, a copy of the cookie is worth nothing; after a day's work neither."""
    (copy,) = [f"{each.name}={each.value}" for each in operator.cookies.jar]
    await operator.post("/sign-out", headers=origin(served))
    async with httpx.AsyncClient(base_url=served.plain, trust_env=False) as thief:
        stolen = await thief.get("/", headers={"Cookie": copy})
        forged = await thief.get("/", headers={"Cookie": copy[:-1] + "0"})
        again = await thief.post("/sign-in", data={"token": TOKEN}, headers=origin(served))
        clock.now = NOW + dt.timedelta(hours=13)
        old = await thief.get("/")

    assert [303, 303, 303, 303] == [answer.status_code for answer in (stolen, forged, again, old)]
    assert "/sign-in?next=%2F" == old.headers["location"]


@pytest.mark.parametrize("path", [*PAGES, "/sign-in", "/nowhere", "/devices/nobody"])
async def test_every_answer_has_the_strict_headers(operator: httpx.AsyncClient, path: str) -> None:
    """Nothing from elsewhere, nothing inline, in no frame, in no cache."""
    answer = await operator.get(path)

    assert (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ) == answer.headers["content-security-policy"]
    assert ("nosniff", "same-origin", "no-store") == tuple(
        answer.headers[name]
        for name in ("x-content-type-options", "referrer-policy", "cache-control")
    )
    assert " style=" not in answer.text
    assert "<script>" not in answer.text


async def test_errors_are_pages_and_the_api_keeps_its_own(operator: httpx.AsyncClient) -> None:
    """What happened, the code, the next step; JSON for who asks the API."""
    nobody = await operator.get("/devices/nobody")
    nowhere = await operator.get("/nowhere")
    api = await operator.get("/api/v1/nowhere")

    assert (404, 404, 404) == (nobody.status_code, nowhere.status_code, api.status_code)
    assert "no device &#39;nobody&#39;" in nobody.text
    assert "skerry device ls" in nobody.text
    assert "there is no page /nowhere" in nowhere.text
    assert "NOT_FOUND" == api.json()["reason"]
    assert 401 == (await operator.get("/api/v1/fleet")).status_code  # a cookie opens no API


@pytest.mark.parametrize(
    ("wish", "status", "told"),
    [
        ({"selector": "all"}, 400, "starts only from a plan that was seen"),
        ({"selector": "(", "if_plan": "sha256:abcdef"}, 422, "SELECTOR_MALFORMED"),
        ({"selector": "all", "if_plan": "sha256:abcdef"}, 409, "PLAN_CHANGED"),
        ({"selector": "all", "if_plan": "sha256:abcdef", "soak_s": "x"}, 422, "soak_s"),
        ({"selector": "all", "if_plan": "sha256:abcdef", "steps": "5000"}, 422, "type 5000"),
        ({"devices": "nobody", "if_plan": "sha256:abcdef"}, 404, "no device &#39;nobody&#39;"),
    ],
)
async def test_what_can_not_start_says_so_where_it_was_asked(
    operator: httpx.AsyncClient,
    served: Served,
    store: Store,
    *,
    wish: dict[str, str],
    status: int,
    told: str,
) -> None:
    """With what is wrong, and the form as it was; nothing is started."""
    with store.read() as connection:
        before = len(rollouts.every(connection))
    form = {"bundle": "digits:1.5.0", **wish}
    answer = await operator.post("/rollouts/new", data=form, headers=origin(served))
    with store.read() as connection:
        after = len(rollouts.every(connection))

    assert (status, before) == (answer.status_code, after)
    assert told in answer.text


async def test_a_plan_says_how_it_will_serve(operator: httpx.AsyncClient) -> None:
    """What a device keeps unasked, too."""
    answer = await operator.get(
        "/rollouts/new", params={"bundle": "digits:1.5.0", "selector": "all"}
    )
    told = answer.text.partition("How it will serve")[2].partition("Waves and gates")[0]
    assert "the default settings</li>" in told


async def test_a_page_offers_the_words_that_a_rollout_waits_for(
    operator: httpx.AsyncClient, served: Served, store: Store
) -> None:
    """A form for each word that can be said now, and for no other; a promotion says why."""
    waiting = (await operator.get("/rollouts/r-39")).text
    moving = (await operator.get("/rollouts/r-41")).text
    assert ('id="say-approve"' in waiting, 'id="say-approve"' in moving) == (True, False)
    assert 'id="say-promote"' in moving
    assert 'id="say-retry"' not in moving
    form = {"reason": "looked at it"}
    unsaid = await operator.post("/rollouts/r-41/promote", data={}, headers=origin(served))
    said = await operator.post("/rollouts/r-41/promote", data=form, headers=origin(served))
    assert (422, 303) == (unsaid.status_code, said.status_code)
    with store.read() as connection:
        (last, *_) = audit.latest(connection, limit=9, about="r-41")
        waves = Memory().read(connection, "r-41").waves
    assert ("rollout.promote", "looked at it") == (last.action, last.reason)
    assert WaveState.PASSED is waves[1].state
    assert "let a wave pass early" in (await operator.get("/rollouts/r-41")).text


@pytest.mark.parametrize(
    ("word", "reason", "status", "told"),
    [
        ("abort", "  ", 422, "needs a reason"),
        ("resume", "", 409, "ILLEGAL_STATE"),
        ("dance", "", 404, "there is no page /rollouts/r-41/dance"),
        ("pause", "x" * 1001, 413, "1000 characters"),
    ],
)
async def test_a_word_that_can_not_be_said_changes_nothing(
    operator: httpx.AsyncClient,
    served: Served,
    store: Store,
    *,
    word: str,
    reason: str,
    status: int,
    told: str,
) -> None:
    """It says why, and what can be said; a rollout that is not there is not found."""
    with store.read() as connection:
        before = rollouts.named(connection, "r-41")
    sent = {"data": {"reason": reason}, "headers": origin(served)}
    answer = await operator.post(f"/rollouts/r-41/{word}", **sent)  # type: ignore[arg-type]
    nowhere = await operator.post("/rollouts/r-0/pause", **sent)  # type: ignore[arg-type]
    with store.read() as connection:
        after = rollouts.named(connection, "r-41")

    assert (status, before.state) == (answer.status_code, after.state)
    assert told in answer.text
    assert nowhere.status_code in (404, 413)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/devices?x=1", "/devices?x=1"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("/a\r\nSet-Cookie: x", "/"),
        ("", "/"),
    ],
)
def test_nobody_is_sent_elsewhere(path: str, expected: str) -> None:
    """After signing in, a browser stays on this centre."""
    assert expected == inside(path)


async def test_what_devices_say_is_only_text(operator: httpx.AsyncClient, store: Store) -> None:
    """A name that is a script is shown as it is written."""
    with store.write() as connection:
        connection.exec_driver_sql(
            "UPDATE devices SET name = '<script>alert(1)</script>' WHERE id = 'd-1'"
        )
    for path in ("/", "/devices", "/devices/d-1"):
        answer = await operator.get(path)
        assert "<script>alert" not in answer.text
        assert "&lt;script&gt;alert" in answer.text


def test_no_file_of_the_page_names_another_place() -> None:
    """Templates, styles and scripts ask for nothing that isn't beside them."""
    room = Path(__file__).parents[2] / "fleet" / "page"
    files = [*room.glob("static/*"), *room.glob("templates/*")]
    text = "\n".join(path.read_text() for path in files).replace("http://www.w3.org/2000/svg", "")

    assert "//" not in "".join(line for line in text.splitlines() if "http" in line)
    assert 10_000 > (room / "static" / "skerry.js").stat().st_size


async def test_a_policy_that_is_kept_is_offered_beside_those_built_in(
    operator: httpx.AsyncClient, store: Store
) -> None:
    """By its name, where a rollout is planned."""
    kept = policies.KeptPolicy(name="nightly", document={"waves": [1]}, written_at="")
    with store.write() as connection:
        policies.put(connection, kept)
    page = (await operator.get("/rollouts/new")).text

    assert "<option>nightly</option>" in page
    assert "<option selected>careful</option>" in page
