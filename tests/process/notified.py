"""What a process tells systemd, as systemd hears it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Heard:
    """`env` is what the process is to be started with."""

    def __init__(self, sock: socket.socket, env: dict[str, str]) -> None:
        self._sock = sock
        self.env = env

    def said(self) -> tuple[str, int]:
        """The next state, and the id of the process that said it. Raises TimeoutError."""
        text, data, _, _ = self._sock.recvmsg(200, 100)
        return text.decode(), int.from_bytes(data[0][2][:4], "little")

    def silent(self) -> bool:
        """Whether nothing else was said so far."""
        self._sock.setblocking(False)
        try:
            self.said()
        except BlockingIOError:
            return True
        finally:
            self._sock.settimeout(15)
        return False


@contextmanager
def notified(folder: Path, *, abstract: bool = False) -> Iterator[Heard]:
    """Listens at a path in `folder`, or at an abstract address, as systemd does in containers."""
    place = f"@{folder}/notify" if abstract else f"{folder}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(place.replace("@", "\0"))
        sock.settimeout(15)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        yield Heard(sock, {"NOTIFY_SOCKET": place})
