"""Reads match in one exact spelling; writes in every spelling that upstream may understand."""

from __future__ import annotations

import contextlib
import re
from urllib.parse import quote, unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.core.routing import READS, Match, Router, parse_template
from proxy.core.settings import (
    Action,
    Answer,
    Introspect,
    Literal,
    Lookup,
    Pass,
    Resource,
    Route,
    Target,
    Template,
    Var,
    VarType,
    Write,
)


def by(key: str, var: str | None = None, *, many: bool = False) -> Lookup:
    """A look-up."""
    return Lookup(by=key, var=var or key, view="users", many=many)


BY_PATH = Write(targets=(Target(key="id", place="path", path=("id",)),))
TOKEN = Write(targets=(Target(key="id", place="token"),))


def route(match: str, action: Action) -> Route:
    """A route of a file."""
    return Route(name=match, template=parse_template(match), action=action)


USERS_ROUTES = [
    route("GET /users/{id:int}", by("id")),
    route("GET /users/by-email/{email}", by("email")),
    route("GET /users?phone={phone}", by("phone")),
    route("GET /users?ids={ids:list}", by("id", "ids", many=True)),
    route("GET /users/{username}", by("username")),
    route("GET /accounts/{id:uuid}/", by("id")),
    route("GET /files/{file:path}", by("username", "file")),
    route("GET /search?kind=user&name={name}", by("username", "name")),
    route("GET /auth/me", Introspect(answer=Answer.VIEW, view="users")),
    route("GET /logout", TOKEN),
    route("PUT,PATCH /profile", TOKEN),
    route("POST /admin/users/bulk", Write(all=True)),
    route("POST /users/{id}/ban?why={why}", Write(targets=(Target(key="id", place="path", path=("id",)),))),
    route("POST /auth/login", Pass()),
    route("POST /move?kind=user", TOKEN),
    route("POST /a/{x}/{y}", TOKEN),
    route("GET /", Pass()),
]
USERS = Router(USERS_ROUTES)
UUID = "550e8400-e29b-41d4-a716-446655440000"


def told(found: Match | None) -> tuple[str, dict[str, object]] | None:
    """What a match says, for comparison."""
    return (found.route.name, dict(found.values)) if found else None


@pytest.mark.parametrize(
    ("target", "name", "values"),
    [
        ("/users/0", "GET /users/{id:int}", {"id": "0"}),
        ("/users/42", "GET /users/{id:int}", {"id": "42"}),
        ("/users/1234567890123456789", "GET /users/{id:int}", {"id": "1234567890123456789"}),
        ("/users/007", "GET /users/{username}", {"username": "007"}),
        ("/users/12345678901234567890", "GET /users/{username}", {"username": "12345678901234567890"}),
        ("/users/by-email/a@b.c", "GET /users/by-email/{email}", {"email": "a@b.c"}),
        ("/users/by-email/a%40b.c", "GET /users/by-email/{email}", {"email": "a@b.c"}),
        ("/users/a+b", "GET /users/{username}", {"username": "a+b"}),
        ("/users/%C3%A9", "GET /users/{username}", {"username": "é"}),
        ("/users/a,b", "GET /users/{username}", {"username": "a,b"}),
        ("/users/50%25", "GET /users/{username}", {"username": "50%"}),
        ("/users/by-email", "GET /users/{username}", {"username": "by-email"}),
        ("/users?phone=%2B49", "GET /users?phone={phone}", {"phone": "+49"}),
        ("/users?phone=a+b", "GET /users?phone={phone}", {"phone": "a b"}),
        ("/users?ids=1,2,2", "GET /users?ids={ids:list}", {"ids": ("1", "2", "2")}),
        ("/users?ids=1", "GET /users?ids={ids:list}", {"ids": ("1",)}),
        (f"/accounts/{UUID}/", "GET /accounts/{id:uuid}/", {"id": UUID}),
        ("/files/a/b%20c/d", "GET /files/{file:path}", {"file": "a/b c/d"}),
        ("/search?kind=user&name=x", "GET /search?kind=user&name={name}", {"name": "x"}),
        ("/search?name=x&kind=user", "GET /search?kind=user&name={name}", {"name": "x"}),
        ("/auth/me", "GET /auth/me", {}),
        ("/", "GET /", {}),
    ],
)
def test_exact_reads_match(target: str, name: str, values: dict[str, object]) -> None:
    """The first route of the file whose exact spelling this is answers, for GET and HEAD alike."""
    assert [(name, values)] * 2 == [told(USERS.match(method, target)) for method in ("GET", "HEAD")]


@pytest.mark.parametrize(
    "target",
    [
        # other spellings of a path (RFC 3986 §6.2.2 and what servers tolerate)
        "/users/%34%32",
        "/users/42/",
        "/users//42",
        "//users/42",
        "/users/42;x=1",
        "/users/bob;x",
        "/users/./42",
        "/users/.",
        "/users/..",
        "/users/%2e%2e",
        "/users/%2E",
        "/users/",
        "/%75sers/bob",
        "/Users/42",
        "/auth/m%65",
        "/auth/me/",
        "/auth/me;x",
        "/accounts/" + UUID,
        f"/accounts/{UUID.upper()}/",
        f"/accounts/{UUID.replace('-', '')}/",
        "/users/a%2Fb",
        "/users/a%2fb",
        "/users/a%5Cb",
        "/users/a%5cb",
        "/users/a\\b",
        "/users/a%00b",
        "/users/a%0D%0Ab",
        "/users/a%7F",
        "/users/%C2%85",
        "/users/%C3",
        "/users/%C0%AF",
        "/users/%ED%A0%80",
        "/users/%zz",
        "/users/%4",
        "/users/%",
        "/users/%7Ebob",
        "/users/a%2Db",
        "/users/a%2d",
        "/users/a%1Fb",
        "/users/b%6Fb",
        "/users/é",
        "/users/a b",
        "/users/a\tb",
        "/users/{id}",
        "/users/42#x",
        "/users/bob#",
        # queries
        "/users/42?",
        "/users/42?a=1",
        "/users",
        "/users?",
        "/users?phone=",
        "/users?phone",
        "/users?phone=1&phone=1",
        "/users?phone=1&x=2",
        "/users?phone=1&",
        "/users?&phone=1",
        "/users?phone=1;x=2",
        "/users?phone=1%3",
        "/users?phone=%31",
        "/users?phone=a/b",
        "/users?phone=a?b",
        "/users?phone=1#f",
        "/users?%70hone=1",
        "/users?PHONE=1",
        "/users?phone=1&ids=2",
        "/users?ids=",
        "/users?ids=,",
        "/users?ids=1,",
        "/users?ids=1,,2",
        "/users?ids=1%2C2",
        "/users?ids=" + ",".join(["1"] * 1001),
        "/search?kind=user",
        "/search?kind=admin&name=x",
        "/search?kind=%75ser&name=x",
        "/search?name=x&name=x",
        "/search?name=x&name=y&kind=user",
        # the rest of a path
        "/files/a//b",
        "/files/a/",
        "/files/a/../b",
        "/files/a/%2E%2E/b",
        "/files/a%2Fb",
        "/files/",
        "/files",
        # other forms (RFC 9112 §3.2)
        "http://h/users/42",
        "*",
        "",
        "users/42",
        "h:443",
    ],
)
def test_other_spellings_are_not_read_from_the_cache(target: str) -> None:
    """Whatever upstream may take for another request is forwarded, never answered."""
    assert (None, None) == (USERS.match("GET", target), USERS.match("HEAD", target))


def test_a_list_may_have_a_thousand_elements() -> None:
    """The bound itself is within."""
    found = USERS.match("GET", "/users?ids=" + ",".join(["1"] * 1000))
    assert found is not None
    assert ("1",) * 1000 == found.values["ids"]


def test_the_order_of_the_file_decides() -> None:
    """Indexed or not, an earlier route that fits takes the request."""
    first, second = route("GET /{a}/x", by("id", "a")), route("GET /u/{b}", by("id", "b"))
    assert "GET /{a}/x" == Router([first, second]).match("GET", "/u/x").route.name  # type: ignore[union-attr]
    assert "GET /u/{b}" == Router([second, first]).match("GET", "/u/x").route.name  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("method", "target", "name", "values", "implied"),
    [
        ("PUT", "/profile", "PUT,PATCH /profile", {}, False),
        ("PATCH", "//profile/?x=1", "PUT,PATCH /profile", {}, False),
        ("PATCH", "/pr%6Ffile", "PUT,PATCH /profile", {}, False),
        ("PUT", "/x/../profile", "PUT,PATCH /profile", {}, False),
        ("PUT", "/profile;v=1", "PUT,PATCH /profile", {}, False),
        ("PUT", "http://h/profile", "PUT,PATCH /profile", {}, False),
        ("POST", "/admin%2Fusers/bulk", "POST /admin/users/bulk", {}, False),
        ("POST", "/auth/login", "POST /auth/login", {}, False),
        ("POST", "/move?kind=user;x", "POST /move?kind=user", {}, False),
        ("POST", "/a%2F..%2Fb", "POST /a/{x}/{y}", {"x": "..", "y": "b"}, False),
        ("GET", "/logout", "GET /logout", {}, False),
        ("HEAD", "/logout/?all=1", "GET /logout", {}, False),
        ("GET", "/%6Cogout", "GET /logout", {}, False),
        ("POST", "/users/5/ban?why=x&y=1", "POST /users/{id}/ban?why={why}", {"id": "5", "why": "x"}, False),
        ("POST", "/users/5/ban?why=a&why=b", "POST /users/{id}/ban?why={why}", {"id": "5"}, False),
        ("POST", "/users/5/ban?why=a;z", "POST /users/{id}/ban?why={why}", {"id": "5"}, False),
        ("POST", "/users/05/ban?why=", "POST /users/{id}/ban?why={why}", {}, False),
        ("PUT", "/users/42", "GET /users/{id:int}", {"id": "42"}, True),
        ("put", "/users/42", "GET /users/{id:int}", {"id": "42"}, True),
        ("get", "/users/42", "GET /users/{id:int}", {"id": "42"}, True),
        ("DELETE", "/users/42/?hard=1", "GET /users/{id:int}", {"id": "42"}, True),
        ("PROPPATCH", "//users//%34%32", "GET /users/{id:int}", {"id": "42"}, True),
        ("DELETE", "/users%2F42", "GET /users/{id:int}", {"id": "42"}, True),
        ("DELETE", "/users/x/../42", "GET /users/{id:int}", {"id": "42"}, True),
        ("DELETE", "/users/%2e/42", "GET /users/{id:int}", {"id": "42"}, True),
        ("DELETE", "/users\\42", "GET /users/{id:int}", {"id": "42"}, True),
        ("DELETE", "https://h/users/42#f", "GET /users/{id:int}", {"id": "42"}, True),
        ("PUT", "/users/bob", "GET /users/{username}", {"username": "bob"}, True),
        ("PUT", "/users/by-email/A%40b", "GET /users/by-email/{email}", {"email": "A@b"}, True),
        ("PUT", f"/accounts/{UUID.upper()}", "GET /accounts/{id:uuid}/", {"id": UUID}, True),
        ("DELETE", "/users?phone=1&x=2", "GET /users?phone={phone}", {"phone": "1"}, True),
        ("DELETE", "/users?ids=1,2", "GET /users?ids={ids:list}", {"ids": ("1", "2")}, True),
        ("DELETE", "/users?ids=1%2C2", "GET /users?ids={ids:list}", {"ids": ("1", "2")}, True),
        ("POST", "/users", "GET /users?phone={phone}", {}, True),
        ("PUT", "/files/a/b", "GET /files/{file:path}", {"file": "a/b"}, True),
        ("POST", "/search?name=x", "GET /search?kind=user&name={name}", {"name": "x"}, True),
    ],
)
def test_writes_match_in_every_spelling(
    method: str, target: str, name: str, values: dict[str, object], implied: bool
) -> None:
    """A write that upstream understood is never missed, explicit or implied."""
    found = USERS.match(method, target)
    assert found is not None
    assert ((name, values), implied) == (told(found), found.implied)


@pytest.mark.parametrize(
    "target",
    [
        # a number to one service, a name to another
        "/users/007",
        "/users/4_2",
        "/users/+42",
        "/users/%2042",
        "/users/42.0",
        "/users/%EF%BC%94%EF%BC%92",
        # a path parameter, or part of the name
        "/users/42;x",
        "/users/bob;x",
        # the same behind dots that are resolved
        "/x/../users/bob;v",
        # one parameter, twice or with an unclear end
        "/users?phone=1&phone=2",
        "/users?a=1;phone=2",
        "/users?phone=1;b",
        # both keys at once
        "/users?phone=1&ids=2",
        # ids that are numbers in another spelling
        "/users?ids=1,02",
        "/users?ids=" + "1," * 1001,
        "/accounts/" + UUID.replace("-", ""),
    ],
)
def test_where_readings_disagree_the_user_is_unknown(target: str) -> None:
    """An ambiguous write still matches, without a value: nobody is evicted in the place of another."""
    found = USERS.match("PUT", target)
    assert found is not None
    assert (True, {}) == (found.implied, found.values)


@pytest.mark.parametrize("target", ["/other", "/users/42/roles", "/auth/me", "*", "h:1", "", "/profiles/x"])
def test_other_writes_match_nothing(target: str) -> None:
    """A path of no look-up and no route is not a known write."""
    assert USERS.match("POST", target) is None


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE"])
def test_safe_methods_imply_no_write(method: str) -> None:
    """RFC 9110 §9.2.1: they change nothing."""
    assert USERS.match(method, "/users/42") is None


def test_a_pass_route_never_hides_a_write() -> None:
    """Where one reading of a path is a forwarded file and another is a user, the user counts."""
    router = Router([route("PUT /static/{file:path}", Pass()), route("GET /users/{id:int}", by("id"))])
    found = router.match("PUT", "/static/../users/42")
    assert ("GET /users/{id:int}", {"id": "42"}) == told(found)
    assert "PUT /static/{file:path}" == router.match("PUT", "/static/x").route.name  # type: ignore[union-attr]


def test_readings_that_name_different_routes_name_nobody() -> None:
    """Of several writes the one that drops most is reported, without the values of one reading alone."""
    users = route("GET /users/{id:int}", by("id"))
    explicit = Router([route("PUT /a/{x:path}", TOKEN), users])
    assert ("GET /users/{id:int}", {}) == told(explicit.match("PUT", "/a/../users/42"))
    same = Router([route("PUT /a/{x}/users/{id}", BY_PATH), users])
    assert ("GET /users/{id:int}", {}) == told(same.match("PUT", "/a/../users/42"))
    bulk = Router([route("PUT /a/{x:path}", TOKEN), users, route("PUT /b", Write(all=True))])
    assert ("PUT /b", {}) == told(bulk.match("PUT", "/a/../b"))


def test_a_read_that_writes_obeys_the_order() -> None:
    """A GET that writes takes only what no earlier route answers."""
    write, read = route("GET /users/logout", TOKEN), route("GET /users/{username}", by("username"))
    found = [Router(order).match("GET", "/users/logout") for order in ([write, read], [read, write])]
    assert [write, read] == [match.route for match in found if match]


def test_an_earlier_write_does_not_change_that_order() -> None:
    """Only the writes before the route that answers take its requests."""
    unrelated, read = route("GET /logout", TOKEN), route("GET /users/{username}", by("username"))
    router = Router([unrelated, read, route("GET /users/logout", TOKEN)])
    assert ("GET /users/{username}", {"username": "logout"}) == told(router.match("GET", "/users/logout"))


def test_a_path_and_a_query_that_both_name_a_user_name_nobody() -> None:
    """A write on `/users/search?phone=1` may be one on the user called search, or on a phone's."""
    routes = [
        route("GET /users/{username}", by("username")),
        route("GET /users/search?phone={phone}", by("phone")),
    ]
    assert ("GET /users/{username}", {}) == told(Router(routes).match("PUT", "/users/search?phone=1"))
    assert ("GET /users/{username}", {"username": "search"}) == told(
        Router(routes).match("PUT", "/users/search")
    )


def test_literals_are_no_patterns() -> None:
    """A dot in a template is a dot."""
    router = Router([route("GET /u/a.b", Pass())])
    assert [True, False] == [router.match("GET", target) is not None for target in ("/u/a.b", "/u/axb")]


def test_match_write_path_ignores_the_method() -> None:
    """For a method that hides in a header: the path's look-up, explicit routes aside."""
    found = USERS.match_write_path("/users/42?_method=DELETE")
    assert found is not None
    assert (("GET /users/{id:int}", {"id": "42"}), True) == (told(found), found.implied)
    assert USERS.match_write_path("/profile") is None


def test_repr_shows_nothing_personal() -> None:
    """Values may be addresses and phone numbers."""
    assert "Match('GET /users?phone={phone}', values of ['phone'], implied=False)" == repr(
        USERS.match("GET", "/users?phone=49123")
    )


# Pieces that servers read differently, so that random targets come near the edges.
PIECES = st.sampled_from(
    "users by-email 42 07 bob @ _ - ~ é \ud800 \0 # \\ http://h %34 %2F %2f %C3%A9 %40 %2E %2C %20 % + . .. "
    f"/ // ; ;x=1 ? & = phone= ids= 1,2 files search kind=user name= accounts {UUID}".split(" ")
)
TARGETS = st.one_of(
    st.lists(PIECES, max_size=8).map(lambda pieces: "/" + "".join(pieces)),
    st.lists(PIECES, max_size=4).map(lambda pieces: "/users/" + "".join(pieces)),
    st.lists(PIECES, max_size=4).map(lambda pieces: "/users?" + "".join(pieces)),
    st.text(st.characters(exclude_categories=()), max_size=20),
)
METHODS = st.sampled_from(["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "X"])


@given(method=METHODS, target=TARGETS)
def test_no_target_raises(method: str, target: str) -> None:
    """Hostile targets are matched or not, and that is all."""
    USERS.match(method, target)
    USERS.match_write_path(target)


def written(part: Literal | Var, found: Match) -> str:
    """The minimal spelling of a part with the values of a match."""
    if isinstance(part, Literal):
        return part.text
    value = found.values[part.name]
    text = value if isinstance(value, str) else ",".join(value)
    return quote(text, safe="!$'()*+,=:@" + ("/" if part.type is VarType.PATH else ""))


def same_spelling(one: str, two: str) -> bool:
    """Equal but for the case of hex digits and for sub-delims that may be escaped or not."""

    def plain(text: str) -> str:
        text = re.sub(r"%..", lambda found: found[0].upper(), text)
        return re.sub(r"%(?:2[146-9A-C]|3[AD]|40)", lambda found: unquote(found[0]), text)

    return plain(one) == plain(two)


@given(target=TARGETS)
@example(target="/users/%31")
@example(target="/users/a%2fb")
def test_an_exact_match_is_written_back_to_the_same_target(target: str) -> None:
    """Whatever is matched exactly is the minimal spelling of its values: no second path leads to a copy."""
    found = USERS.match("GET", target)
    if found is None or isinstance(found.route.action, Write):
        return
    template = found.route.template
    spelled = "".join("/" + written(part, found) for part in template.segments)
    path, _, query = target.partition("?")
    assert same_spelling(path, spelled)
    parts = {name: written(part, found).replace("+", "%2B") for name, part in template.query}
    given_order = [pair.partition("=")[0] for pair in query.split("&") if pair]
    assert sorted(parts) == sorted(given_order)
    assert same_spelling(query.replace("+", "%20"), "&".join(f"{name}={parts[name]}" for name in given_order))


@given(target=TARGETS)
def test_whatever_is_read_can_be_written(target: str) -> None:
    """The loose match includes every exact one, with the same values or with an unknown user."""
    read = USERS.match("GET", target)
    if read is None or not isinstance(read.route.action, Lookup):
        return
    written = USERS.match("PUT", target)
    assert written is not None
    if written.route is read.route and written.values:
        assert read.values == written.values
    else:
        assert {} == written.values


# As the others, and a resource and a path that begins with a variable.
ALL = Router(
    [
        *(
            route(f"{method} /{name}", Pass())
            for method, name in [("GET", "{x}/y/z"), ("POST", "~/{rest:path}")]
        ),
        route("GET /files/a", Resource()),
        route("GET /search/{name}/", by("username", "name")),
        *USERS_ROUTES,
    ]
)


@given(router=st.sampled_from([USERS, ALL]), method=METHODS, target=TARGETS)
@example(router=ALL, method="PUT", target="/a/y/z")
@example(router=ALL, method="DELETE", target="/files/a")
@example(router=ALL, method="DELETE", target="/files//a")
@example(router=ALL, method="DELETE", target="/x/../files/a")
@example(router=ALL, method="DELETE", target="/files/%61")
@example(router=ALL, method="DELETE", target="/files\\a")
@example(router=ALL, method="DELETE", target="/files;x/a")
@example(router=ALL, method="DELETE", target="/fil%65s/a")
@example(router=ALL, method="PUT", target="/search///x")
@example(router=ALL, method="PUT", target="/profile/")
@example(router=ALL, method="POST", target="/~/a/b/c?d")
@example(router=ALL, method="PUT", target="/search/x")
def test_what_is_strange_matches_nothing(router: Router, method: str, target: str) -> None:
    """The short way to no route is taken only where the long one ends there."""
    if router.is_strange(target):
        assert router.match(method, target) is None
        assert router.match_write_path(target) is None
        assert not router.is_resource(target)
        assert not any(router.may_answer(read, target) for read in READS)


@pytest.mark.parametrize("target", ["/other", "/other/1?users/1", "/o/p/q/r/s", "/users/1/2/3", "/.well/x"])
def test_most_of_what_has_no_route_is_strange(target: str) -> None:
    assert USERS.is_strange(target) == ("/." not in target)


@given(a=TARGETS, b=TARGETS)
@example(a="/users/1", b="/users/01")
@example(a="/users/1", b="/users/%31")
def test_one_id_has_one_path(a: str, b: str) -> None:
    """No two targets read the same numeric id from the same route."""
    one, two = USERS.match("GET", a), USERS.match("GET", b)
    if a != b and one and two and "{id:int}" in one.route.name and one.route is two.route:
        assert one.values != two.values


def test_template_parts() -> None:
    """A template is methods, segments and query parameters; GET's HEAD is not listed."""
    expected = Template(
        source="GET,HEAD /a/{b:int}/{c:path}?x={y}&z=1",
        methods=frozenset({"GET"}),
        segments=(Literal(text="a"), Var(name="b", type=VarType.INT), Var(name="c", type=VarType.PATH)),
        query=(("x", Var(name="y")), ("z", Literal(text="1"))),
    )
    assert expected == parse_template("GET,HEAD /a/{b:int}/{c:path}?x={y}&z=1")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "'' is not 'METHOD /path'; give e.g. 'GET /users/{id:int}'"),
        ("/users", "'/users' is not 'METHOD /path'; give e.g. 'GET /users/{id:int}'"),
        ("GET users", "'GET users' is not 'METHOD /path'; give e.g. 'GET /users/{id:int}'"),
        ("get /x", "'get' is not a method; write it in capitals, e.g. 'GET' or 'PUT,PATCH'"),
        ("GET, PUT /x", "'GET, PUT /x' is not 'METHOD /path'; give e.g. 'GET /users/{id:int}'"),
        ("GET,,PUT /x", "'' is not a method; write it in capitals, e.g. 'GET' or 'PUT,PATCH'"),
        ("GET /a b", "there is a space in the path; write %20 for it"),
        ("GET /a//b", "there is an empty segment ('//') in the path; remove one slash"),
        ("GET /a/../b", "the segment '..' means another path; write that path"),
        ("GET /a/%2E/b", "the segment '%2E' means another path; write that path"),
        ("GET /{a:path}/b", "'{a:path}' takes the rest of the path; nothing may follow it"),
        ("GET /{a}/{a}", "the variable 'a' appears twice; give each its own name"),
        ("GET /{a}?x={a}", "the variable 'a' appears twice; give each its own name"),
        ("GET /{a}.json", "'{a}.json' is neither fixed text nor one '{name}'; a variable stands alone"),
        ("GET /{1a}", "'1a' is not a variable name; use letters, digits and '_'"),
        ("GET /{}", "'' is not a variable name; use letters, digits and '_'"),
        ("GET /{a:float}", "'float' is not a type; use one of int, uuid, list, path, or none"),
        ("GET /{a:}", "'' is not a type; use one of int, uuid, list, path, or none"),
        ("GET /é", "'é' has characters that a URL does not; percent-encode them"),
        ("GET /x?", "the parameter '' is not 'key={name}' or 'key=literal'"),
        ("GET /x?a", "the parameter 'a' is not 'key={name}' or 'key=literal'"),
        ("GET /x?a=1&a=2", "the parameter 'a' appears twice; name it once"),
        ("GET /x?a={b:path}", "'{b:path}': the type 'path' is for the path; leave the type out"),
    ],
)
def test_template_mistakes(text: str, sentence: str) -> None:
    """Each mistake is a sentence that says what to write."""
    with pytest.raises(ValueError, match="^" + re.escape(sentence) + "$"):
        parse_template(text)


@given(text=st.one_of(st.text(max_size=30), st.text("GET /{}:?&=ab,%", max_size=20).map("GET /".__add__)))
def test_only_value_errors_escape_the_grammar(text: str) -> None:
    """A template is read or refused with ValueError, nothing else."""
    with contextlib.suppress(ValueError):
        parse_template(text)
