"""A Redis in this process: the commands that the store uses, the real Lua scripts, time as it is told.

fakeredis' Lua runs the scripts; its commands are not used, as a schedule runs dozens of them and thousands of
schedules are tried. A test holds this server against a real one.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from typing import Any

import fakeredis
from redis.exceptions import NoScriptError, ResponseError

from proxy.store import scripts

EPOCH_US = 1_700_000_000_000_000
# Every command takes this many microseconds, so that no two have the same time.
STEP_US = 5

_WRONG = "WRONGTYPE Operation against a key holding the wrong kind of value"
BROKEN = b""


@cache
def _lua() -> Any:
    server = fakeredis.FakeServer()
    fakeredis.FakeRedis(server=server).eval("return 1", 0)
    return server._lua_runtime  # type: ignore[attr-defined]


@cache
def _compiled(text: str) -> Any:
    return _lua().execute(f"return function(redis, KEYS, ARGV)\n{text}\nend".encode())


class Subscription:
    """One connection that listens: messages in order, BROKEN at the end of a lost one."""

    def __init__(self, channels: tuple[str, ...]) -> None:
        self.channels = {channel.encode() for channel in channels}
        self.queue: deque[bytes] = deque()
        self.changed = asyncio.Event()

    def put(self, message: bytes) -> None:
        """A message arrives."""
        self.queue.append(message)
        self.changed.set()


class Server:
    """One server. `clock` is in virtual seconds; `mutate` may change a script before it is loaded."""

    def __init__(self, clock: Callable[[], float], mutate: Callable[[str], str] = lambda text: text) -> None:
        self._clock = clock
        self._mutate = mutate
        self._ticks = 0
        self._data: dict[bytes, bytes | dict[bytes, bytes]] = {}
        self._ends: dict[bytes, int] = {}
        self._saved: tuple[dict[bytes, bytes | dict[bytes, bytes]], dict[bytes, int]] = ({}, {})
        self._scripts = dict(scripts.TEXTS)
        self._now = 0
        self.subscriptions: list[Subscription] = []
        self.away = False
        self.process = 1
        self.behind = 0
        """Microseconds by which its clock was set back."""
        self._evicted = 0
        new = _lua().eval(b"function(call, pcall) return {call = call, pcall = pcall} end")
        self._redis = new(self._call, self._pcall)

    # -- what happens to it --------------------------------------------------------------------------

    def lose(self) -> None:
        """Connections break, and new ones are refused."""
        self.away = True
        self.cut()

    def cut(self, channel: bytes | None = None) -> None:
        """Listening connections break: all, or those of one channel."""
        for subscription in [one for one in self.subscriptions if channel in (None, *one.channels)]:
            subscription.put(BROKEN)
            self.subscriptions.remove(subscription)

    def save(self) -> None:
        """What it holds now is what another process begins with."""
        self._saved = deepcopy((self._data, self._ends))

    def restart(self) -> None:
        """Another process, with what was saved or nothing in it."""
        self.lose()
        self._data, self._ends = deepcopy(self._saved)
        self._scripts.clear()
        self.process += 1
        self.away = False

    def throw_out(self, key: str) -> None:
        """Evicts one key for want of memory."""
        self._evicted += self._held(key.encode()) is not None
        self._forget(key.encode())

    def subscribe(self, channels: tuple[str, ...]) -> Subscription:
        """A new listening connection."""
        subscription = Subscription(channels)
        self.subscriptions.append(subscription)
        return subscription

    # -- commands ------------------------------------------------------------------------------------

    def execute(self, command: scripts.Command) -> Any:
        """The reply; an error is returned, as in a pipeline."""
        self._ticks += STEP_US
        self._now = EPOCH_US + int(self._clock() * 1e6) + self._ticks - self.behind
        words = [word.encode() if isinstance(word, str) else word for word in command]
        try:
            if words[0] == b"EVALSHA":
                return self._script(words)
            if words[0] == b"SCRIPT":
                text = words[2].decode()
                digest = hashlib.sha1(words[2], usedforsecurity=False).hexdigest()
                self._scripts[digest] = text
                return digest.encode()
            return self._run(words)
        except ResponseError as error:
            return error

    def _script(self, words: list[bytes]) -> Any:
        text = self._scripts.get(words[1].decode())
        if text is None:
            raise NoScriptError("NOSCRIPT No matching script.")
        lua, keys = _lua(), 3 + int(words[2])
        run = _compiled(self._mutate(text))
        return self._told(run(self._redis, lua.table_from(words[3:keys]), lua.table_from(words[keys:])))

    def _told(self, value: Any) -> Any:
        """A script's result as a client gets it."""
        if isinstance(value, bool):
            return 1 if value else None
        if isinstance(value, int | float):
            return int(value)
        if value is None or isinstance(value, bytes):
            return value
        rows: list[Any] = []
        while (row := value[len(rows) + 1]) is not None:
            rows.append(self._told(row))
        return rows

    def _call(self, *words: Any) -> Any:
        said = self._run([word if isinstance(word, bytes) else b"%.17g" % word for word in words])
        if said is None:
            return False
        if isinstance(said, dict):
            return "".join(f"{name}:{value}\r\n" for name, value in said.items()).encode()
        return _lua().table_from(said) if isinstance(said, list) else said

    def _pcall(self, *words: Any) -> Any:
        try:
            return self._call(*words)
        except ResponseError as error:
            return _lua().table_from({b"err": str(error).encode()})

    def _run(self, words: list[bytes]) -> Any:
        name = words[0].decode().upper()
        if name not in _COMMANDS:
            raise ResponseError(f"ERR unknown command '{name}'")
        return getattr(self, f"_{name.lower()}")(*words[1:])

    def _held(self, key: bytes) -> bytes | dict[bytes, bytes] | None:
        ends = self._ends.get(key)
        if ends is not None and ends <= self._now:
            self._forget(key)
        return self._data.get(key)

    def _forget(self, key: bytes) -> None:
        self._data.pop(key, None)
        self._ends.pop(key, None)

    def _text(self, key: bytes) -> bytes | None:
        held = self._held(key)
        if isinstance(held, dict):
            raise ResponseError(_WRONG)
        return held

    def _hash(self, key: bytes) -> dict[bytes, bytes]:
        held = self._held(key)
        if isinstance(held, bytes):
            raise ResponseError(_WRONG)
        return held if held is not None else {}

    def _ping(self) -> bytes:
        return b"PONG"

    def _info(self, section: bytes) -> dict[str, str]:
        return {"run_id": f"{self.process}", "evicted_keys": f"{self._evicted}"}

    def _flushall(self) -> bytes:
        self._data.clear()
        self._ends.clear()
        return b"OK"

    def _time(self) -> list[bytes]:
        return [b"%d" % (self._now // 1_000_000), b"%d" % (self._now % 1_000_000)]

    def _publish(self, channel: bytes, message: bytes) -> int:
        heard = [one for one in self.subscriptions if channel in one.channels]
        for subscription in heard:
            subscription.put(message)
        return len(heard)

    def _get(self, key: bytes) -> bytes | None:
        return self._text(key)

    def _set(self, key: bytes, value: bytes, px: bytes = b"", life: bytes = b"") -> bytes:
        self._forget(key)
        self._data[key] = value
        if px:
            self._pexpire(key, life)
        return b"OK"

    def _del(self, key: bytes) -> int:
        was = self._held(key) is not None
        self._forget(key)
        return int(was)

    def _exists(self, key: bytes) -> int:
        return int(self._held(key) is not None)

    def _pttl(self, key: bytes) -> int:
        if self._held(key) is None:
            return -2
        return (self._ends[key] - self._now) // 1000 if key in self._ends else -1

    def _pexpire(self, key: bytes, life: bytes) -> int:
        if self._held(key) is None:
            return 0
        self._ends[key] = self._now + int(life) * 1000
        return 1

    def _hget(self, key: bytes, name: bytes) -> bytes | None:
        return self._hash(key).get(name)

    def _hmget(self, key: bytes, *names: bytes) -> list[bytes | None]:
        held = self._hash(key)
        return [held.get(name) for name in names]

    def _hset(self, key: bytes, name: bytes, value: bytes) -> int:
        held = self._hash(key)
        new = name not in held
        held[name] = value
        self._data[key] = held
        return int(new)

    def _hdel(self, key: bytes, *names: bytes) -> int:
        held = self._hash(key)
        gone = sum(held.pop(name, None) is not None for name in names)
        if not held:
            self._forget(key)
        return gone

    def _hgetall(self, key: bytes) -> list[bytes]:
        return [part for pair in self._hash(key).items() for part in pair]

    def _hkeys(self, key: bytes) -> list[bytes]:
        return list(self._hash(key))

    def _hlen(self, key: bytes) -> int:
        return len(self._hash(key))

    def _hexists(self, key: bytes, name: bytes) -> int:
        return int(name in self._hash(key))


_COMMANDS = frozenset(
    [
        "PING",
        "INFO",
        "FLUSHALL",
        "TIME",
        "PUBLISH",
        "GET",
        "SET",
        "DEL",
        "EXISTS",
        "PTTL",
        "PEXPIRE",
        "HGET",
        "HMGET",
        "HSET",
        "HDEL",
        "HGETALL",
        "HKEYS",
        "HLEN",
        "HEXISTS",
    ]
)
