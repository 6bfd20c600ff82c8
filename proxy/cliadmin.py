"""Questions to the admin socket of a running proxy."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from proxy.configvalues import address
from proxy.core.settings import Address

TIMEOUT = 3.0
DEFAULT = "127.0.0.1:9090"
# What a proxy that listens everywhere is reached at from its own machine.
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - looked up, not bound


class NoProxy(Exception):
    """No connection could be made to the address, or nothing came back in time; the text says both."""


class Refused(Exception):
    """Something answered, but not with what was asked for; the text is for the operator."""


class AdminClient:
    """Asks the admin socket at `place` (HOST:PORT or an http(s) URL). Raises ValueError for a bad one."""

    def __init__(self, place: str, token: str | None) -> None:
        self._token = token
        self._secure = False
        if "://" in place:
            self._secure = place.startswith("https://")
            self._address = _of_url(place, 443 if self._secure else 80)
        else:
            given = address(place)
            self._address = Address(host=_EVERYWHERE.get(given.host, given.host), port=given.port)

    @property
    def place(self) -> str:
        """`host:port`."""
        return str(self._address)

    def ask(self, method: str, target: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        """The status and the JSON object of the answer. Raises NoProxy, Refused."""
        headers = {} if self._token is None else {"Authorization": f"Bearer {self._token}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        # Not urllib: it would ask HTTP_PROXY, and give the token to whatever a redirect names.
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._address.host, self._address.port, timeout=TIMEOUT)
        try:
            connection.request(method, target, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            data = response.read()
        except OSError as error:
            why = "timed out" if isinstance(error, TimeoutError) else error.strerror or type(error).__name__
            raise NoProxy(f"no proxy answers at {self.place} ({why})") from error
        except http.client.HTTPException as error:
            raise Refused(f"what answers at {self.place} does not speak HTTP") from error
        finally:
            connection.close()
        return response.status, self._read(response.status, data)

    def get(self, target: str) -> dict[str, Any]:
        """The JSON object at a path. Raises NoProxy, Refused."""
        status, answer = self.ask("GET", target)
        if status != 200:
            raise Refused(f"the proxy at {self.place} answered {status}: {detail(answer)}")
        return answer

    def _read(self, status: int, data: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(data)
        except ValueError:
            answer = None
        if status == 404 or not isinstance(answer, dict):
            raise Refused(f"what answers at {self.place} is not the admin socket of a user-cache-proxy")
        if status == 401:
            raise Refused(
                f"the proxy at {self.place} asks for a token: set ADMIN_TOKEN to the one it was given"
            )
        return answer


def _of_url(place: str, usual: int) -> Address:
    try:
        url = urlsplit(place)
        if url.scheme in ("http", "https") and url.hostname and url.path in ("", "/"):
            return Address(host=url.hostname, port=usual if url.port is None else url.port)
    except ValueError:
        # What urllib says of a bad port is not for an operator.
        pass
    raise ValueError("--admin takes HOST:PORT or http://HOST:PORT")


def detail(answer: Mapping[str, Any]) -> str:
    """What an error answer says went wrong."""
    return str(answer.get("error") or answer.get("detail") or answer.get("title") or "no reason given")
