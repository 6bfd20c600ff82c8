"""What is held of memory stands exactly as long as a look-up would find it."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.core.model import Batch, Entry, Found, Ref
from proxy.store.hold import Held
from proxy.store.memory import MemoryStore

USERS, SLOTS, MAILS = ("1", "2", "3"), ("v", "w", "+good#a"), ("a@x", "b@x")

_user, _slot, _mail = (st.sampled_from(values) for values in (USERS, SLOTS, MAILS))
_put = st.tuples(st.just("put"), _user, _slot, st.one_of(st.none(), _mail))
_steps = st.one_of(
    *[_put] * 4,
    st.tuples(st.just("drop"), _user),
    st.tuples(st.just("drop alias"), _mail),
    st.tuples(st.just("clear")),
    st.tuples(st.just("cap")),
    st.tuples(st.just("fence"), _user),
    st.tuples(st.just("fence alias"), _mail),
    st.tuples(st.just("lower")),
    st.tuples(st.sampled_from(("time", "wall")), st.just(60.0)),
)


def entry(user: str, mail: str | None, until: float) -> Entry:
    """A user's answer."""
    keys = {} if mail is None else {"email": mail}
    return Entry(user_id=user, keys=keys, status=200, stored=0.0, expires=until, dead=until)


@example(steps=[("put", "1", "v", None), ("cap",), ("time", 60.0)])
@example(steps=[("put", "1", "v", None), ("put", "1", "w", None), ("wall", 60.0)])
@settings(max_examples=300)
@given(steps=st.lists(_steps, max_size=25))
def test_a_hold_stands_as_long_as_a_look_up_finds_it(steps: list[tuple[object, ...]]) -> None:
    """By id and by alias, alone and joined; a hold that fell stays down unless the very copy is there."""
    clock, wall = [0.0], [0.0]
    memory = MemoryStore(2, now=lambda: wall[0], monotonic=lambda: clock[0])
    fences: list[Batch] = []
    places = [Ref("id", user, slot) for user in USERS for slot in SLOTS]
    places += [Ref("email", mail, slot) for mail in MAILS for slot in SLOTS]
    held: dict[tuple[tuple[Ref, ...], tuple[int, ...]], tuple[tuple[Entry, ...], Held]] = {}
    sure: dict[int, tuple[int, float]] = {}
    for step in steps:
        match step:
            case ("put", str(user), str(slot), mail):
                one = entry(user, None if mail is None else str(mail), 50.0 + wall[0])
                memory.put(Ref("id", user, slot), one, memory.begin())
            case ("drop", str(user)):
                memory.drop([user])
            case ("drop alias", str(mail)):
                memory.drop([], [("email", mail)])
            case ("clear",):
                memory.drop([], everything=True)
            case ("cap",):
                memory.cap(10.0)
            case ("fence", str(user)):
                fences.append(Batch((user,)))
                memory.fences.add(fences[-1])
            case ("fence alias", str(mail)):
                fences.append(Batch((), (("email", mail),)))
                memory.fences.add(fences[-1])
            case ("lower",) if fences:
                memory.fences.remove(fences.pop())
            case ("time", float(seconds)):
                clock[0] += seconds
            case ("wall", float(seconds)):
                wall[0] += seconds
        for (refs, _), (entries, hold) in held.items():
            generation, lasts = sure.pop(id(hold), (-1, 0.0))
            if hold.source.generation == generation and wall[0] < lasts:
                assert hold.stands(wall[0]), (refs, step)
                assert hold.lasts() >= lasts, (refs, step)
            # A copy whose time is up by the wall clock is for the offer to turn down, until a look-up does.
            stood = hold.stands(wall[0]) and all(one.dead > wall[0] for one in entries)
            found = [memory.look(ref) for ref in refs]
            finds = all(
                isinstance(one, Found) and one.entry is kept for one, kept in zip(found, entries, strict=True)
            )
            assert finds == stood, (refs, step)
            assert finds == hold.stands(wall[0]), (refs, step)
            if finds:
                sure[id(hold)] = hold.source.generation, hold.lasts()
        fresh = [(ref, hold) for ref in places if (hold := memory.hold(ref)) is not None]
        both = [
            ((ref, other), joined)
            for (ref, hold), (other, beside) in pairwise(fresh)
            if (joined := hold.joined(beside)) is not None
        ]
        for refs, hold in [*(((ref,), hold) for ref, hold in fresh), *both]:
            entries = tuple(slot.entry for _, slot in hold.places)
            # The first hold of a copy is kept: it has seen all that was done since.
            held.setdefault((refs, tuple(map(id, entries))), (entries, hold))
