"""Putting a batch together as upstream would: its answers have shown how, route by route.

Nobody tells us whether upstream answers `?ids=3,1` in the order asked or sorted, and whether an absent id
is left out. Its own answers do. A rule counts until an answer contradicts it; where the rules left
disagree about a request, or none is left, the request is upstream's to answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from urllib.parse import quote, unquote_plus

import msgspec

from proxy.core.settings import Template, Var

Order = Callable[[Sequence[str]], list[str]]


def _asked(ids: Sequence[str]) -> list[str]:
    return list(ids)


def _number(text: str) -> tuple[int, int, str]:
    return (0, int(text), "") if text.isdecimal() else (1, 0, text)


def _by_number(ids: Sequence[str]) -> list[str]:
    return sorted(ids, key=_number)


def _by_number_down(ids: Sequence[str]) -> list[str]:
    return sorted(ids, key=_number, reverse=True)


_ORDERS: tuple[Order, ...] = (_asked, _by_number, _by_number_down)

Elements = list[msgspec.Raw]
_DECODER = msgspec.json.Decoder(Elements)


def elements(body: bytes) -> list[bytes] | None:
    """The members of a JSON array as they were written, or None where the text is no array."""
    try:
        return [bytes(raw) for raw in _DECODER.decode(body)]
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None


class BatchRules:
    """What is known of one route's upstream. `separator` is how it writes the comma between two members.

    `generation` counts what was learnt anew.
    """

    __slots__ = ("generation", "leaves_out_absent", "orders", "separator")

    def __init__(self) -> None:
        self.generation = 0
        self.orders: tuple[Order, ...] = _ORDERS
        self.separator = b","
        self.leaves_out_absent = False

    def learn(
        self, asked: Sequence[str], answered: Sequence[str], body: bytes, raws: Sequence[bytes]
    ) -> None:
        """Takes in one answer: ids asked for and answered, in order, the text and its members as written."""
        before = (self.orders, self.leaves_out_absent, self.separator)
        present = frozenset(answered)
        expected = [one for one in asked if one in present]
        self.orders = tuple(order for order in self.orders if order(expected) == list(answered))
        if len(answered) < len(asked):
            self.leaves_out_absent = True
        if len(raws) > 1:
            end = body.index(raws[0]) + len(raws[0])
            self.separator = body[end : body.index(raws[1], end)]
        self.generation += before != (self.orders, self.leaves_out_absent, self.separator)

    def arrange(self, ids: Sequence[str]) -> list[str] | None:
        """The order upstream would answer these in, or None where that isn't known."""
        if not self.orders:
            return None
        first, *others = (order(ids) for order in self.orders)
        return first if all(other == first for other in others) else None

    def write(self, arranged: Sequence[str], members: Mapping[str, bytes]) -> bytes:
        """The array, in upstream's spacing, of those ids that have a member."""
        return b"[" + self.separator.join(members[one] for one in arranged if one in members) + b"]"


def with_list(template: Template, target: str, name: str, ids: Sequence[str]) -> str:
    """`target` with the list variable `name` set to `ids`; everything else stays as the client wrote it."""
    text = ",".join(quote(one, safe="") for one in ids)
    path, mark, query = target.partition("?")
    segments = path.split("/")
    for index, part in enumerate(template.segments, start=1):
        if isinstance(part, Var) and part.name == name:
            segments[index] = text
    keys = {key for key, part in template.query if isinstance(part, Var) and part.name == name}
    pairs = []
    for pair in query.split("&") if mark else ():
        key, _, _ = pair.partition("=")
        pairs.append(f"{key}={text}" if unquote_plus(key) in keys else pair)
    return "/".join(segments) + mark + "&".join(pairs)
