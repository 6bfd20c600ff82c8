"""curl, httpx and requests: one request with each, and all that can be seen of the answer."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx
import requests

SECONDS = 20
PIECES = 3
# httpx makes one for each client unless it is given one, which takes longer than the request.
TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@dataclass(frozen=True)
class Case:
    """One request. The texts that `masks` match are new in each answer and not compared."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    chunked: bool = False
    masks: tuple[str, ...] = ()

    def __str__(self) -> str:
        sent = "" if self.body is None else f" {'chunked' if self.chunked else 'sized'}:{len(self.body)}"
        return f"{self.method} {self.target}{sent} {dict(self.headers) or ''}".strip()

    def content(self) -> Iterator[bytes] | bytes | None:
        """The body as these libraries take it."""
        if self.body is None or not self.chunked:
            return self.body
        step = len(self.body) // PIECES + 1
        return (self.body[at : at + step] for at in range(0, len(self.body), step))


@dataclass(frozen=True)
class Seen:
    """What came back: field lines in their order and spelling, and the bytes of the body before decoding."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


def by_curl(base: str, case: Case) -> Seen:
    """The command, without its settings file."""
    words = ["curl", "-q", "-sS", "-i", "--noproxy", "*", "--path-as-is", "--globoff", "-m", str(SECONDS)]
    words += ["--head"] if case.method == "HEAD" else ["-X", case.method]
    for name, value in case.headers:
        words += ["-H", f"{name}: {value}"]
    if case.body is not None:
        words += ["--data-binary", "@-"]
        words += ["-H", "Transfer-Encoding: chunked"] if case.chunked else []
    done = subprocess.run(
        [*words, base + case.target], input=case.body or b"", capture_output=True, check=True, timeout=60
    )
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    while head.startswith(b"HTTP/1.1 1"):
        head, _, body = body.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    _, status, reason = first.split(" ", 2)
    pairs = (line.split(":", 1) for line in lines)
    return Seen(int(status), reason, tuple((name, value.strip()) for name, value in pairs), body)


def by_httpx(base: str, case: Case) -> Seen:
    """One client a request, so that nothing is kept from one to the next."""
    with (
        httpx.Client(trust_env=False, timeout=SECONDS, verify=TLS) as client,
        client.stream(
            case.method, base + case.target, headers=list(case.headers), content=case.content()
        ) as answer,
    ):
        lines = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in answer.headers.raw)
        return Seen(answer.status_code, answer.reason_phrase, lines, b"".join(answer.iter_raw()))


def by_requests(base: str, case: Case) -> Seen:
    """With the target as it stands: the library would quote it anew."""
    with requests.Session() as session:
        session.trust_env = False
        asked = session.prepare_request(
            requests.Request(case.method, base, dict(case.headers), data=case.content())
        )
        asked.url = base + case.target
        answer = session.send(asked, stream=True, allow_redirects=False, timeout=SECONDS)
        raw = answer.raw
        body = raw.read(decode_content=False)
        return Seen(answer.status_code, answer.reason, tuple(raw.headers.items()), body)


CLIENTS: dict[str, Callable[[str, Case], Seen]] = {"httpx": by_httpx, "requests": by_requests}
if shutil.which("curl"):
    CLIENTS["curl"] = by_curl
