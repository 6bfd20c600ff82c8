"""When keys are fetched, what is kept while they can't be, and that a storm costs one fetch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from proxy.core.errors import UpstreamRefused
from proxy.core.headers import Headers
from proxy.core.model import Reason, Reply, Request
from proxy.core.settings import TokenSettings
from proxy.core.tokenkeys import MAX_BYTES, KeySet
from proxy.core.tokens import Identity, Rejected, Unproven, Verifier
from proxy.jwks import KEPT, KeyServer, fetch_from, lifetime, pause, split_url
from tests.keys import jwk, jwks, token

NOW = 1_000_000.0
Answer = tuple[int, dict[str, str], bytes] | Exception


class Clockwork:
    """A key server that answers as told, and a clock that moves by pauses only.

    Each pause of the loop is noted in `asked` as (seconds, can it be woken) and lasts until `step`.
    """

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.fetches = 0
        self.seconds = 0.0
        self.fetching = asyncio.Event()
        self.gate: asyncio.Event | None = None
        self.pauses: asyncio.Queue[tuple[float, asyncio.Event, asyncio.Event]] = asyncio.Queue()
        self.sets: list[KeySet] = []
        self.server = KeyServer(
            self.fetch, self.sets.append, now=self.now, clock=lambda: self.seconds, pause=self.pause
        )

    def now(self) -> float:
        """The wall clock."""
        return NOW + self.seconds

    async def fetch(self) -> tuple[int, Headers, bytes]:
        """The next answer; the last one is repeated."""
        self.fetches += 1
        self.fetching.set()
        if self.gate is not None:
            await self.gate.wait()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        status, headers, body = answer
        return status, Headers((name.encode(), value.encode()) for name, value in headers.items()), body

    async def pause(self, seconds: float, wake: asyncio.Event) -> None:
        """Lasts until the test lets it end or something wakes it."""
        over = asyncio.Event()
        await self.pauses.put((seconds, wake, over))
        waits = [asyncio.ensure_future(event.wait()) for event in (wake, over)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def paused(self) -> float:
        """The seconds of the pause that begins next; it has not ended."""
        seconds, _, self.over = await asyncio.wait_for(self.pauses.get(), 5)
        return seconds

    async def step(self) -> float:
        """Lets the pause that begins next last its full time; its seconds."""
        seconds = await self.paused()
        self.seconds += seconds
        self.over.set()
        return seconds


def good(*names: str, **headers: str) -> Answer:
    """A key set whose kids are the names of the keys."""
    return 200, headers, jwks(*(jwk(name, name) for name in names))


@asynccontextmanager
async def running(*answers: Answer) -> AsyncIterator[Clockwork]:
    """The loop at work on a clock of its own."""
    works = Clockwork(*answers)
    async with works.server:
        yield works


def kids(keys: KeySet) -> list[str | None]:
    """The names of the keys."""
    return [key.kid for key in keys.keys]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 300),
        ({"Cache-Control": "max-age=600"}, 600),
        ({"Cache-Control": "public, max-age=600", "Age": "100"}, 500),
        ({"Cache-Control": "max-age=600", "Expires": "0"}, 600),
        ({"Cache-Control": "max-age=0"}, 30),
        ({"Cache-Control": "max-age=x"}, 30),
        ({"Cache-Control": "max-age=999999999999"}, 3600),
        ({"Cache-Control": "max-age=600, no-cache"}, 30),
        ({"Cache-Control": "no-store"}, 30),
        ({"Cache-Control": "public"}, 300),
        ({"Expires": "Thu, 01 Jan 1970 00:10:00 GMT", "Date": "Thu, 01 Jan 1970 00:00:00 GMT"}, 600),
        ({"Expires": "Mon, 12 Jan 1970 13:56:40 GMT"}, 600),
        ({"Expires": "0"}, 30),
        ({"Age": "100"}, 200),
        ({"Age": "x"}, 300),
    ],
)
async def test_a_set_is_fetched_again_before_it_is_too_old(headers: dict[str, str], seconds: float) -> None:
    """RFC 9111 §4.2.1, bounded by 30 s and an hour; five minutes where nothing is said."""
    raw = Headers((name.encode(), value.encode()) for name, value in headers.items())

    assert seconds == lifetime(raw, NOW)
    async with running(good("rsa", **headers)) as works:
        assert seconds == await works.step()
        await works.paused()
        assert 2 == works.fetches


async def test_a_set_says_when_it_was_true_and_when_it_is_dead() -> None:
    """What a cache had kept for 100 s was true 100 s ago; a set lives for a day after its fetch."""
    async with running(good("rsa", Age="100")) as works:
        await works.step()
        await works.paused()

    assert [(NOW - 100, NOW + KEPT), (NOW + 100, NOW + 200 + KEPT)] == [
        (keys.as_of, keys.dead) for keys in works.sets
    ]


async def test_a_removed_key_goes_with_the_next_fetch() -> None:
    """And so do the tokens that were remembered for it."""
    async with running(good("rsa", "p256"), good("p256")) as works:
        verifier = Verifier(TokenSettings(jwks_url="u", algorithms=("RS256",)), works.server.unknown_kid)
        works.server._use = verifier.use
        await works.paused()
        text = token("rsa", "RS256", "rsa", iat=1)
        assert isinstance(verifier.verify(text, works.now()), Identity)
        works.seconds += 300
        works.over.set()
        await works.paused()

        assert Rejected(Reason.TOKEN_SIGNATURE) == verifier.verify(text, works.now())


FAILURES: list[tuple[Answer, str]] = [
    (UpstreamRefused("Upstream could not be reached.", executed=False), "Upstream could not be reached."),
    (TimeoutError(), "no answer in time"),
    (RuntimeError("the text of an error may quote anything"), "RuntimeError"),
    ((500, {}, b""), "status 500"),
    ((302, {"Location": "http://127.0.0.1:1/"}, b""), "status 302"),
    ((304, {}, b""), "status 304"),
    ((200, {}, b"<html>"), "not a JSON object"),
    ((200, {}, b"{}"), "not a JWK set: it has no list 'keys'"),
    ((200, {}, b" " * (MAX_BYTES + 1)), "larger than 256 KiB"),
]


@pytest.mark.parametrize(("answer", "sentence"), FAILURES)
async def test_the_last_good_set_is_kept_while_the_server_fails(answer: Answer, sentence: str) -> None:
    """The failure is counted and told, tried again soon, and over with the next good answer."""
    async with running(good("rsa"), answer, answer, good("p256")) as works:
        assert [300, 1, 2] == [await works.step() for _ in range(3)]
        await works.paused()
        health = works.server.health()

    assert [["rsa"], ["p256"]] == [kids(keys) for keys in works.sets]
    assert {"ok": 2, "failed": 2} == works.server.counters()
    assert ("ok", 1, None) == (health["status"], health["keys"], health["error"])


@pytest.mark.parametrize(("answer", "sentence"), FAILURES)
async def test_a_server_that_never_answers_is_asked_less_and_less(
    answer: Answer, sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Up to once in 30 s; there are no keys, and one log line says why."""
    async with running(answer) as works:
        assert [1, 2, 4, 8, 16, 30, 30] == [await works.step() for _ in range(7)]
        await works.paused()
        health = works.server.health()

    assert not works.server.ready
    assert {
        "status": "no keys yet",
        "keys": 0,
        "unusable": 0,
        "age_seconds": None,
        "error": sentence,
    } == health
    assert [("token keys could not be fetched", sentence)] == [
        (record.getMessage(), record.__dict__["error"]) for record in caplog.records
    ]


async def test_a_server_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fetch has a deadline of its own."""
    monkeypatch.setattr("proxy.jwks.PATIENCE", 0.0)
    works = Clockwork(good("rsa"))
    works.gate = asyncio.Event()
    await works.server.refresh()

    assert ("no answer in time", []) == (works.server.error, works.sets)


async def test_ready_once_there_was_a_key() -> None:
    """A set without a usable key is none; one that is emptied later does not stop the service."""
    async with running(good(), good("rsa1024"), good("rsa"), good()) as works:
        ready = []
        for _ in range(4):
            await works.paused()
            ready.append((works.server.ready, works.server.health()["status"]))
            works.over.set()

    assert [(False, "no keys yet"), (False, "no keys yet"), (True, "ok"), (True, "no keys")] == ready


async def test_a_storm_of_unknown_kids_costs_one_fetch() -> None:
    """However many tokens come, before, while and after, fetches are 30 s apart."""
    async with running(good("rsa"), good("rsa", "rsa-new")) as works:
        verifier = Verifier(TokenSettings(jwks_url="u", algorithms=("RS256",)), works.server.unknown_kid)
        works.server._use = verifier.use
        text = token("rsa-new", "RS256", "rsa-new", iat=int(NOW))
        assert 300 == await works.paused()
        works.seconds += 10
        assert [Unproven()] * 100 == [verifier.verify(text, works.now()) for _ in range(100)]
        assert 20 == await works.paused()
        verifier.verify(text, works.now())
        assert 1 == works.fetches
        works.gate = asyncio.Event()
        works.fetching.clear()
        works.seconds += 20
        works.over.set()
        await asyncio.wait_for(works.fetching.wait(), 5)
        assert [Unproven()] * 100 == [verifier.verify(text, works.now()) for _ in range(100)]
        works.gate.set()
        assert 300 == await works.paused()

        assert isinstance(verifier.verify(text, works.now()), Identity)
        assert (2, False) == (works.fetches, works.server._unknown.is_set())


async def test_an_unknown_kid_after_a_while_is_looked_up_at_once() -> None:
    """30 s after the last fetch nothing is waited for; and a failing server is not asked less for it."""
    async with running(good("rsa"), (500, {}, b""), good("rsa")) as works:
        await works.paused()
        works.seconds += 100
        works.server.unknown_kid()
        assert -70 == await works.step()
        assert 1 == await works.paused()
        works.seconds += 100.0
        works.server.unknown_kid()
        assert -99 == await works.step()
        await works.paused()
        assert 3 == works.fetches


async def test_the_loop_ends_with_its_context() -> None:
    """No task is left behind, whether it pauses or fetches."""
    works = Clockwork(good("rsa"))
    works.gate = asyncio.Event()
    async with works.server:
        await asyncio.wait_for(works.fetching.wait(), 5)
    async with running(good("rsa")) as paused:
        await paused.paused()

    assert works.server._task is not None
    assert (True, {asyncio.current_task()}) == (works.server._task.cancelled(), asyncio.all_tasks())


async def test_a_pause_ends_early_when_woken() -> None:
    """Else it lasts as long as it is told."""
    wake = asyncio.Event()
    await pause(-1.0, wake)
    wake.set()
    await asyncio.wait_for(pause(600.0, wake), 5)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://k.example/jwks.json", ("https://k.example", "/jwks.json")),
        ("http://k.example:81", ("http://k.example:81", "/")),
        ("http://[::1]:81/a/b?c=d&e", ("http://[::1]:81", "/a/b?c=d&e")),
    ],
)
def test_a_url_is_an_address_and_a_target(url: str, expected: tuple[str, str]) -> None:
    """What is connected to, and what is asked for."""
    assert expected == split_url(url)


class Source:
    """An upstream that answers everything alike."""

    def __init__(self, chunks: bytes | list[bytes]) -> None:
        self.chunks = chunks
        self.asked: list[Request] = []
        self.read = 0
        self.closed = False

    async def send(self, request: Request) -> Reply:
        """The one answer."""
        self.asked.append(request)
        body: Any = self.chunks if isinstance(self.chunks, bytes) else self
        return Reply(200, b"OK", ((b"Age", b"1"),), body)

    def __aiter__(self) -> Source:
        return self

    async def __anext__(self) -> bytes:
        if self.read == len(self.chunks):
            raise StopAsyncIteration
        self.read += 1
        chunk: Callable[[int], Any] = self.chunks.__getitem__
        return bytes(chunk(self.read - 1))

    async def aclose(self) -> None:
        """Reads no further."""
        self.closed = True


@pytest.mark.parametrize("chunks", [b"abc", [b"a", b"bc"]])
async def test_a_fetch_reads_the_whole_answer(chunks: bytes | list[bytes]) -> None:
    """One GET, for an answer that is not encoded."""
    source = Source(chunks)
    status, headers, body = await fetch_from(source, "/jwks?x")()

    assert (200, "1", b"abc") == (status, headers.get("age"), body)
    ((method, target, asked),) = [(one.method, one.target, one.headers) for one in source.asked]
    assert ("GET", "/jwks?x", "identity") == (method, target, asked.get("accept-encoding"))


async def test_a_huge_answer_is_not_read_to_its_end() -> None:
    """256 KiB are held at most, and the connection is closed."""
    source = Source([b"x" * 65536] * 100)
    with pytest.raises(ValueError, match="larger than 256 KiB"):
        await fetch_from(source, "/")()

    assert (5, True) == (source.read, source.closed)
