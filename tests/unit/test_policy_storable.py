"""What may be kept, and for how long."""

from __future__ import annotations

import pytest

from proxy.core.headers import Headers
from proxy.core.model import Reason
from proxy.core.policy import Skip, Storable, storable
from proxy.core.settings import View

NOW = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT
NOTHING = Headers()
VIEW = View(name="users", ttl=300.0, negative_ttl=10.0)


def fields(**lines: str) -> Headers:
    return Headers((name.replace("_", "-").encode(), value.encode()) for name, value in lines.items())


def judged(
    reply: Headers = NOTHING,
    request: Headers = NOTHING,
    *,
    view: View = VIEW,
    status: int = 200,
    rule: bool = False,
    token_exp: float | None = None,
    negative: bool = True,
    asked: float | None = None,
) -> Storable | Skip:
    return storable(
        view=view,
        status=status,
        request_headers=request,
        reply_headers=reply,
        authorized_by_rule=rule,
        now=NOW,
        asked=asked,
        token_exp=token_exp,
        negative_allowed=negative,
    )


@pytest.mark.parametrize(
    ("status", "negative", "expected"),
    [
        (200, False, Storable(300.0, 0, 300.0)),
        (404, True, Storable(10.0, 0, 10.0)),
        (404, False, Skip(Reason.STATUS)),
        (201, True, Skip(Reason.STATUS)),
        (203, True, Skip(Reason.STATUS)),
        (206, True, Skip(Reason.STATUS)),
        (301, True, Skip(Reason.STATUS)),
        (410, True, Skip(Reason.STATUS)),
        (500, True, Skip(Reason.STATUS)),
    ],
)
def test_statuses(status: int, negative: bool, expected: Storable | Skip) -> None:
    """RFC 9111 §3 narrowed by design §7.8: 200, and 404 where "nobody" may be remembered."""
    assert expected == judged(status=status, negative=negative)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (fields(cache_control="no-store"), Reason.NO_STORE),
        (fields(cache_control="no-store, must-understand, max-age=60"), Reason.NO_STORE),
        (fields(cache_control="private"), Reason.PRIVATE),
        (fields(cache_control='private="x-user", max-age=60'), Reason.PRIVATE),
        (fields(cache_control="no-cache"), Reason.NO_TTL),
        (fields(cache_control='no-cache="x"'), Reason.NO_TTL),
        (fields(set_cookie="a=b"), Reason.SET_COOKIE),
        (fields(set_cookie2="a=b"), Reason.SET_COOKIE),
        (fields(vary="*"), Reason.VARY),
        (fields(vary="Accept-Encoding, *"), Reason.VARY),
        (fields(vary="Accept"), Reason.VARY),
        (fields(vary="Origin"), Reason.VARY),
        (fields(vary="Cookie"), Reason.VARY),
        (fields(vary="Authorization"), Reason.VARY),
        (fields(content_encoding="gzip"), Reason.ENCODED),
        (fields(content_encoding="identity, br"), Reason.ENCODED),
        (fields(cache_control="max-age=0"), Reason.NO_TTL),
        (fields(cache_control="max-age=soon"), Reason.NO_TTL),
        (fields(cache_control="max-age"), Reason.NO_TTL),
        (fields(cache_control="s-maxage=0, max-age=60"), Reason.NO_TTL),
        (fields(cache_control="max-age=60", age="60"), Reason.NO_TTL),
        (fields(expires="0"), Reason.NO_TTL),
        (fields(expires="Sun, 06 Nov 1994 08:49:37 GMT"), Reason.NO_TTL),
        (
            fields(expires="Sun, 06 Nov 1994 08:49:38 GMT", date="Sun, 06 Nov 1994 08:49:38 GMT"),
            Reason.NO_TTL,
        ),
    ],
)
def test_answers_that_are_not_kept(reply: Headers, expected: Reason) -> None:
    """RFC 9111 §3, §4.1, §4.2.1, §5.2.2, §7.3: each refusal says why."""
    assert Skip(expected) == judged(reply)


@pytest.mark.parametrize(
    "reply",
    [
        fields(vary="Accept-Encoding"),
        fields(vary="accept-encoding, , "),
        fields(content_encoding="identity"),
        fields(cache_control="public"),
        fields(cache_control="garbage==, ,="),
        fields(age="x"),
        fields(pragma="no-cache"),
    ],
)
def test_answers_that_are_kept(reply: Headers) -> None:
    """RFC 9111 §3: what says nothing against it is kept for the view's time."""
    assert Storable(300.0, 0, 300.0) == judged(reply)


def test_a_request_may_forbid_to_keep_its_answer() -> None:
    """RFC 9111 §5.2.1.5: no-store in the request."""
    assert Skip(Reason.REQUEST_NO_STORE) == judged(request=fields(cache_control="no-store"))


@pytest.mark.parametrize(
    ("request_headers", "control", "rule", "expected"),
    [
        (fields(authorization="Bearer x"), "", False, Reason.AUTHORIZATION),
        (fields(authorization="Bearer x"), "max-age=60", False, Reason.AUTHORIZATION),
        (fields(authorization="Bearer x"), "public", False, None),
        (fields(authorization="Bearer x"), "s-maxage=300", False, None),
        (fields(authorization="Bearer x"), "must-revalidate", False, None),
        (fields(authorization="Bearer x"), "", True, None),
        (fields(cookie="a=b"), "", False, Reason.CREDENTIALS),
        (fields(cookie="a=b"), "must-revalidate", False, Reason.CREDENTIALS),
        (fields(cookie="a=b"), "public", False, None),
        (fields(cookie="a=b"), "s-maxage=300", False, None),
        (fields(cookie="a=b"), "", True, None),
        (fields(cookie="a=b", authorization="x"), "must-revalidate", False, Reason.CREDENTIALS),
    ],
)
def test_credentials(request_headers: Headers, control: str, rule: bool, expected: Reason | None) -> None:
    """RFC 9111 §3.5: one caller's answer is shared only where the answer, or the route's rule, says so."""
    outcome = judged(fields(cache_control=control), request_headers, rule=rule)
    assert expected == (outcome.reason if isinstance(outcome, Skip) else None)


@pytest.mark.parametrize("vary", ["Authorization", "Cookie", "Accept-Encoding, Cookie, AUTHORIZATION"])
def test_vary_on_credentials_is_settled_by_the_rule(vary: str) -> None:
    """RFC 9111 §4.1: where `access` says who shares the copy, it is no variant of the caller."""
    assert Storable(300.0, 0, 300.0) == judged(fields(vary=vary), rule=True)


@pytest.mark.parametrize("vary", ["Accept", "Cookie, Origin", "*"])
def test_vary_on_the_rest_is_not(vary: str) -> None:
    """RFC 9111 §4.1: a rule on callers does not settle other request fields."""
    assert Skip(Reason.VARY) == judged(fields(vary=vary), rule=True)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (fields(cache_control="max-age=1"), Storable(1.0, 0, 1.0)),
        (fields(cache_control="max-age=299"), Storable(299.0, 0, 299.0)),
        (fields(cache_control="max-age=301"), Storable(300.0, 0, 300.0)),
        (fields(cache_control="max-age=60, s-maxage=20"), Storable(20.0, 0, 20.0)),
        (fields(cache_control="max-age=60, max-age=5"), Storable(5.0, 0, 5.0)),
        (fields(cache_control="max-age=60", age="59"), Storable(1.0, 59, 1.0)),
        (fields(cache_control="max-age=60", age="20, 1"), Storable(40.0, 20, 40.0)),
        (fields(age="20"), Storable(300.0, 20, 300.0)),
        (fields(cache_control="max-age=60", expires="0"), Storable(60.0, 0, 60.0)),
        (fields(expires="Sun, 06 Nov 1994 08:49:47 GMT"), Storable(10.0, 0, 10.0)),
        (
            fields(expires="Sun, 06 Nov 1994 08:49:47 GMT", date="Sun, 06 Nov 1994 08:49:44 GMT"),
            Storable(3.0, 0, 3.0),
        ),
    ],
)
def test_lifetime(reply: Headers, expected: Storable) -> None:
    """RFC 9111 §4.2.1: s-maxage before max-age before Expires, less Age, and never more than the view's."""
    assert expected == judged(reply)


def test_of_two_expires_lines_the_earlier_counts() -> None:
    """RFC 9111 §4.2.1: contradicting freshness is read the careful way."""
    late, soon = (
        (b"expires", b"Sun, 06 Nov 1994 08:59:37 GMT"),
        (b"Expires", b"Sun, 06 Nov 1994 08:49:38 GMT"),
    )
    assert Storable(1.0, 0, 1.0) == judged(Headers([late, soon]))
    assert Skip(Reason.NO_TTL) == judged(Headers([late, (b"expires", b"never")]))


@pytest.mark.parametrize(
    ("token_exp", "expected"),
    [
        (NOW - 1, Skip(Reason.NO_TTL)),
        (NOW, Skip(Reason.NO_TTL)),
        (NOW + 1, Storable(1.0, 0, 1.0)),
        (NOW + 301, Storable(300.0, 0, 301.0)),
        (NOW + 10_000, Storable(300.0, 0, 400.0)),
    ],
)
def test_nothing_outlives_the_token(token_exp: float, expected: Storable | Skip) -> None:
    """Design §7.9: a token's answer ends with the token, its stale windows too."""
    view = View(name="v", ttl=300.0, stale_if_error=100.0)
    assert expected == judged(view=view, token_exp=token_exp)


@pytest.mark.parametrize(
    ("control", "status", "expected"),
    [
        ("", 200, 330.0),
        ("must-revalidate", 200, 300.0),
        ("proxy-revalidate", 200, 300.0),
        ("s-maxage=300", 200, 300.0),
        ("", 404, 10.0),
    ],
)
def test_stale_windows(control: str, status: int, expected: float) -> None:
    """RFC 9111 §5.2.2.2, .8, .10: no stale use where upstream forbids it; and a "nobody" is never stale."""
    view = View(name="v", ttl=300.0, negative_ttl=10.0, stale_while_revalidate=20.0, stale_if_error=30.0)
    outcome = judged(fields(cache_control=control), view=view, status=status)
    assert isinstance(outcome, Storable)
    assert expected == outcome.dead_after


@pytest.mark.parametrize("ttl", [0.0, -1.0, float("nan")])
def test_a_view_without_time_keeps_nothing(ttl: float) -> None:
    """RFC 9111 §4.2: what would never be fresh is not kept."""
    assert Skip(Reason.NO_TTL) == judged(view=View(name="v", ttl=ttl))
    assert Skip(Reason.NO_TTL) == judged(view=View(name="v", ttl=9.0, negative_ttl=ttl), status=404)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (fields(cache_control="max-age=5"), Storable(300.0, 0, 300.0)),
        (
            fields(cache_control="no-cache, max-age=0, must-revalidate", expires="0"),
            Storable(300.0, 0, 300.0),
        ),
        (fields(cache_control="max-age=5", age="50"), Storable(300.0, 50, 300.0)),
        (fields(cache_control="no-store"), Skip(Reason.NO_STORE)),
        (fields(cache_control="private"), Skip(Reason.PRIVATE)),
    ],
)
def test_a_view_that_overrides_upstream(reply: Headers, expected: Storable | Skip) -> None:
    """Its ttl counts alone; what must not be stored at all is not stored all the same (design §7.8)."""
    assert expected == judged(reply, view=View(name="users", ttl=300.0, overrides=True))


@pytest.mark.parametrize(
    ("reply", "delay", "expected"),
    [
        (
            fields(cache_control="max-age=60", date="Sun, 06 Nov 1994 08:49:07 GMT"),
            0.0,
            Storable(30.0, 30, 30.0),
        ),
        (fields(cache_control="max-age=60", date="Sun, 06 Nov 1994 08:48:37 GMT"), 0.0, Skip(Reason.NO_TTL)),
        (
            fields(cache_control="max-age=60", age="40", date="Sun, 06 Nov 1994 08:49:07 GMT"),
            0.0,
            Storable(20.0, 40, 20.0),
        ),
        (fields(cache_control="max-age=60", age="10"), 5.0, Storable(45.0, 15, 45.0)),
        (
            fields(cache_control="max-age=60", date="Sun, 06 Nov 1994 08:50:37 GMT"),
            0.0,
            Storable(60.0, 0, 60.0),
        ),
        (fields(date="Sun, 06 Nov 1994 08:49:07 GMT"), 0.0, Storable(300.0, 30, 300.0)),
    ],
)
def test_ages(reply: Headers, delay: float, expected: Storable | Skip) -> None:
    """RFC 9111 §4.2.3: the larger of what Date shows and Age with the time that the request took."""
    assert expected == judged(reply, asked=NOW - delay)
