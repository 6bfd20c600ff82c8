"""A mistake in the file is told with its line, its place and its cure."""

# A mistake stands here as one line, as it is told.
# ruff: noqa: E501

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config import BLOCKS, PACKAGED, parse
from proxy.configfile import MAX_BYTES
from proxy.core.errors import ConfigError

HEAD = """version: 1
user: {keys: {email: {path: email}, phone: {path: phone}}}
views: {users: {ttl: 300s}, other: {ttl: 1s}}
tokens: {secret_env: KEY}
routes:
"""


def mistakes(text: str | bytes) -> list[str]:
    """What is wrong with a file called routes.yaml."""
    data = text.encode() if isinstance(text, str) else text
    with pytest.raises(ConfigError) as caught:
        parse(data, "routes.yaml", {"KEY": "k"})
    return list(caught.value.mistakes)


def in_routes(*routes: str) -> list[str]:
    """What is wrong with routes; the first is on line 6."""
    return mistakes(HEAD + "".join(f"  - {route}\n" for route in routes))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "routes.yaml: the file is empty; give at least 'version: 1'"),
        ("# nothing\n", "routes.yaml: the file is empty; give at least 'version: 1'"),
        ("- a\n", "routes.yaml:1: not a mapping; begin with 'version: 1'"),
        ("\nversion", "routes.yaml:2: not a mapping; begin with 'version: 1'"),
        ("version: 1\nviews: {a: b", "routes.yaml:2: not YAML: expected ',' or '}', but got '<stream end>'"),
        ("version: 1\na: b: c\n", "routes.yaml:2: not YAML: mapping values are not allowed here"),
        ("version: 1\nviews: *x\n", "routes.yaml:2: not YAML: found undefined alias 'x'"),
        ("version: 1\n---\nversion: 1\n", "routes.yaml:2: not YAML: but found another document"),
        ("version: 1\nuser: {id: 'a\x01'}", "routes.yaml:2: not YAML: it holds a control character"),
        (b"version: 1\n# \xff\n", "routes.yaml:2: not UTF-8; save the file as UTF-8"),
        (b"#" * (MAX_BYTES + 1), f"routes.yaml: larger than {MAX_BYTES} bytes; this is not a routes file"),
        ("version: 1\n? [a]\n: b\n", "routes.yaml:2: the file: a key must be a single word"),
        ("views: {}\n", "routes.yaml:1: version: is required; give e.g. 1"),
        ("version: true\n", "routes.yaml:1: version: 'true' is read as true or false; quote it or give another value"),
        ("version:\n", "routes.yaml:1: version: must be a single value, not empty"),
        ("version: [1]\n", "routes.yaml:1: version: must be a single value, not a list"),
        ("version: 1\nviews: {}\nversion: 1\n", "routes.yaml:3: version: the key appears twice, first on line 1; remove one"),
        ("version: 1\nrootes: []\n", "routes.yaml:2: rootes: unknown key; did you mean 'routes'?"),
        ("version: 1\n<<: {a: 1}\n", f"routes.yaml:2: <<: unknown key; known: {', '.join(BLOCKS)}"),
        ('version: 1\n"a\\nb": 1\n', f"routes.yaml:2: a b: unknown key; known: {', '.join(BLOCKS)}"),
    ],
)  # fmt: skip
def test_a_broken_file(text: str | bytes, expected: str) -> None:
    """Nothing is read from a file that cannot be understood, and the line is told where there is one."""
    assert [expected] == mistakes(text)


def test_a_byte_order_mark_is_no_mistake() -> None:
    """Some editors write one."""
    assert parse(b"\xef\xbb\xbfversion: 1\n", "routes.yaml", {}).views == {}


TOO_MUCH = ["routes.yaml: nested too deep, or unfolds to too many values; use fewer aliases"]


def test_a_file_that_unfolds_without_end_is_refused() -> None:
    """Aliases of aliases, an alias of itself, and deep nesting cost a bounded effort."""
    bomb = "version: 1\na0: &a0 [x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9)
    )
    assert TOO_MUCH == mistakes(bomb)
    assert TOO_MUCH == mistakes("version: 1\nviews: &v {a: *v}\n")
    assert TOO_MUCH == mistakes("a: " + "[" * 5000)


def test_a_plain_alias_is_fine() -> None:
    """Anchors spare repetition."""
    settings = parse(b"version: 1\nviews: {a: &v {ttl: 1s}, b: *v}\n", "routes.yaml", {})
    assert [1.0, 1.0] == [view.ttl for view in settings.views.values()]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("upstream: 5", "upstream: must be a mapping, not '5'"),
        ("upstream: {conect_timeout: 1s}", "upstream.conect_timeout: unknown key; did you mean 'connect_timeout'?"),
        ("upstream: {url: 'http://h/x'}", "upstream.url: holds more than host and port; requests keep their own path, give http://host:port"),
        ("upstream: {timeout: 0s}", "upstream.timeout: '0s' leaves no time at all; give e.g. 5s"),
        ("upstream: {timeout: .nan}", "upstream.timeout: '.nan' is not a duration; give e.g. 300s, 10ms or 5m"),
        ("upstream: {max_connections: 0}", "upstream.max_connections: 0 is out of bounds; give 1 to 100000"),
        ("upstream: {max_connections: 1.5}", "upstream.max_connections: '1.5' is not a whole number; give e.g. 100"),
        ("user: {id: a..b}", "user.id: 'a..b' is not a dotted path; give e.g. data.id"),
        ("user: {id: yes}", "user.id: 'yes' is read as true or false; quote it or give another value"),
        ("user: {max_size: 0}", "user.max_size: '0' is out of bounds; give more than 0 and at most 1GiB"),
        ("user: {max_size: big}", "user.max_size: 'big' is not a size; give e.g. 256KiB or 1MiB"),
        ("user: {max_size: 2GiB}", "user.max_size: '2GiB' is out of bounds; give more than 0 and at most 1GiB"),
        ("user: {secrets: pin}", "user.secrets: must be a list, not 'pin'"),
        ("user: {secrets: ['']}", "user.secrets[0]: is empty; give a value or leave it out"),
        ("user: {keys: [email]}", "user.keys: must be a mapping, not a list"),
        ("user: {keys: {email: email}}", "user.keys.email: must be a mapping, not 'email'"),
        ("user: {keys: {email: {}}}", "user.keys.email.path: is required; give e.g. email"),
        ("user: {keys: {email: {path: e, ignore_case: 1}}}", "user.keys.email.ignore_case: must be true or false"),
        ("user: {keys: {E-mail: {path: e}}}", "user.keys.E-mail: 'E-mail' is not a name; use small letters, digits and '_'"),
        ("user: {keys: {id: {path: e}}}", "user.keys.id: 'id' has a meaning of its own; give the key another name"),
        ("hash_keys: 1", "hash_keys: must be true or false, or {key_env: CACHE_HASH_KEY}"),
        ("encrypt: yes", "encrypt: must be true or false, or {key_env: CACHE_ENCRYPT_KEY}"),
        ("encrypt: {}", "encrypt.key_env: is required; give e.g. CACHE_ENCRYPT_KEY"),
        (
            "encrypt: {key_env: a-b}",
            "encrypt.key_env: 'a-b' is not the name of an environment variable; give e.g. CACHE_HASH_KEY",
        ),
        ("views: {u: {ttl: 1s, ttl_overrides: all}}", "views.u.ttl_overrides: 'all' is not known; give upstream, or leave it out"),
        ("views: {u: {}}", "views.u.ttl: is required; give e.g. 300s"),
        ("views: {u: }", "views.u: must be a mapping, not empty"),
        ("views: {u: {ttl: -1s}}", "views.u.ttl: '-1s' is not a duration; give e.g. 300s, 10ms or 5m"),
        ("views: {u: {ttl: 1s, fields: []}}", "views.u.fields: is empty, so nothing would ever be stored; list the fields or remove it"),
        ("views: {'u#': {ttl: 1s}}", "views.u#: 'u#' is not a name; use letters, digits, '_' and '-'"),
        ("tokens: {secret: hush}", "tokens.secret: unknown key; did you mean 'secret_env'?"),
        ("tokens: {secret_env: KEY, jwks_url: u}", "tokens.jwks_url: secret_env is given as well; keep one of them"),
        ("tokens: {secret_env: KEY, public_key_file: u}", "tokens.public_key_file: secret_env is given as well; keep one of them"),
        ("tokens: {secret_env: KEY, algorithms: [RS256]}", "tokens.algorithms[0]: 'RS256' needs public keys; give jwks_url or public_key_file, or HS256"),
        ("tokens: {secret_env: KEY, algorithms: [HS256, EdDSA]}", "tokens.algorithms[1]: 'EdDSA' needs public keys; give jwks_url or public_key_file, or HS256"),
        ("tokens: {secret_env: KEY, algorithms: [None]}", "tokens.algorithms[0]: 'none' accepts tokens that nobody signed and is never allowed; give e.g. HS256"),
        ("tokens: {secret_env: KEY, algorithms: [MD5]}", "tokens.algorithms[0]: 'MD5' is not one of HS256, HS384, HS512"),
        ("tokens: {secret_env: KEY, algorithms: []}", "tokens.algorithms: is empty, so no token would be good; give e.g. [HS256]"),
        ("tokens: {secret_env: KEY, issuer: ''}", "tokens.issuer: is empty; give a value or leave it out"),
        ("routes: {}", "routes: must be a list, not a mapping"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_block(line: str, expected: str) -> None:
    """Each is named by its line and dotted place, and says what to give."""
    found = mistakes(f"version: 1\n{line}\n")
    assert f"routes.yaml:2: {expected}" == found[0]
    # A block whose variable is not set, or not named, has a mistake of its own.
    assert all(": is not set" in text for text in found[1:])


def test_a_variable_name_that_is_none() -> None:
    """A secret put where its variable's name belongs is told, and not taken."""
    found = mistakes("version: 1\ntokens: {secret_env: a-b}\n")
    assert (
        "routes.yaml:2: tokens.secret_env: 'a-b' is not the name of an environment variable; give e.g. JWT_SECRET"
        == found[0]
    )


GET = 'match: "GET /u/{id}"'
BY_ID = "lookup: {by: id, view: users}"


@pytest.mark.parametrize(
    ("route", "expected"),
    [
        (f"{{{GET}, lookup: {{by: id, view: usres}}}}", ".lookup.view: unknown view 'usres'; did you mean 'users'?"),
        (f"{{{GET}, lookup: {{by: id, view: zzz}}}}", ".lookup.view: unknown view 'zzz'; known: users, other"),
        (f"{{{GET}, lookup: {{by: mail, view: users}}}}", ".lookup.by: unknown key 'mail'; did you mean 'email'?"),
        (f"{{{GET}, lookup: {{by: id}}}}", ".lookup.view: is required; give e.g. users"),
        (f"{{{GET}, lookup: {{view: users}}}}", ".lookup.by: is required; give e.g. id"),
        (f"{{{GET}, lookup: id}}", ".lookup: must be a mapping, not 'id'"),
        (f"{{{BY_ID}}}", ".match: is required; give e.g. 'GET /users/{id:int}'"),
        (f"{{match: /u, {BY_ID}}}", ".match: '/u' is not 'METHOD /path'; give e.g. 'GET /users/{id:int}'"),
        (f'{{match: "GET /u", {BY_ID}}}', ".lookup.by: no variable in the match is the id; write {id} in it"),
        (f'{{match: "GET /u/{{a}}/{{b}}", {BY_ID}}}', ".lookup.by: no variable in the match is the id; write {id} in it"),
        (f'{{match: "GET /{{org}}/{{id}}", {BY_ID}}}', ".lookup: the variable 'org' is not part of the key; a lookup has one variable"),
        (f'{{match: "GET /u?ids={{ids:list}}", {BY_ID}}}', ".lookup.by: 'ids' is a list; add 'many: ids'"),
        (f"{{{GET}, lookup: {{by: id, many: id, view: users}}}}", ".lookup.many: 'id' is not a list; write {id:list} in the match"),
        (f"{{{GET}, lookup: {{by: id, many: ids, view: users}}}}", ".lookup.many: unknown variable 'ids'; did you mean 'id'?"),
        ('{match: "GET /u?e={e:list}", lookup: {by: email, many: e, view: users}}', ".lookup.many: many users are looked up by id only; give 'by: id'"),
        (f'{{match: "POST /u/{{id}}", {BY_ID}}}', ".match: lookup routes answer reads; the method must be GET"),
        (f'{{match: "GET,PUT /u/{{id}}", {BY_ID}}}', ".match: lookup routes answer reads; the method must be GET"),
        ('{match: "GET,POST /m", introspect: {answer: view, view: users}}', ".match: introspect routes answer reads; the method must be GET, or POST for a token in a form"),
        ('{match: "GET /m", introspect: {answer: view, view: users, form: t}}', ".introspect.form: is for POST, where the token is in a form; give match: POST …"),
        ('{match: "POST /m", introspect: {answer: view, view: users, form: "a b"}}', ".introspect.form: 'a b' is not the name of a parameter; give e.g. token"),
        ('{match: "GET /m/{x}", introspect: {answer: view, view: users}}', ".introspect: the variable 'x' is not part of the key; the token alone is"),
        ('{match: "GET /m", introspect: {answer: rfc7662, view: users, fields: [sub]}}', ".introspect.fields[0]: 'sub' is what the token says; leave it out, it is always shown"),
        ('{match: "GET /m", introspect: {answer: rfc7662, view: users, fields: [passwordHash]}}', ".introspect.fields[0]: 'passwordHash' looks like a secret; remove it"),
        ('{match: "GET /m", introspect: {answer: rfc7662, view: users, claims: [exp]}}', ".introspect.claims[0]: 'exp' is always shown; leave it out"),
        ('{match: "GET /m", introspect: {answer: rfc7662, view: users, claims: [username]}}', ".introspect.claims[0]: 'username' is the user's; give it in fields"),
        ('{match: "GET /m", introspect: {answer: rfc7662, view: users, fields: [a], claims: [a]}}', ".introspect.claims: 'a' is in fields as well; keep one"),
        ('{match: "GET /m", introspect: {answer: view, view: users, fields: [a]}}', ".introspect.fields: is for answers that are built here; give answer: rfc7662"),
        ('{match: "GET /m", introspect: {answer: me, view: users}}', ".introspect.answer: 'me' is not one of view, upstream, rfc7662"),
        (f"{{{GET}}}", ": has no action; give lookup, introspect, write, resource or pass"),
        (f"{{{GET}, {BY_ID}, pass: true}}", ": has lookup and pass; keep one"),
        (f"{{{GET}, {BY_ID}, access: all}}", ".access: 'all' is not one of anyone, token, owner, caller"),
        (f"{{{GET}, {BY_ID}, allow: {{claim: role, any: [admin]}}}}", ".allow: says who besides the owner may have a copy; give access: owner"),
        (f"{{{GET}, {BY_ID}, allow: {{claim: role}}}}", ".allow.any: is required; give e.g. [admin]"),
        (f"{{{GET}, {BY_ID}, allow: {{any: [a]}}}}", ".allow.claim: is required; give e.g. role"),
        (f"{{{GET}, {BY_ID}, allow: {{claim: role, any: []}}}}", ".allow.any: is empty, so no token would do; list the values or remove it"),
        (f"{{{GET}, {BY_ID}, require: x}}", ".require: must be a mapping, not 'x'"),
        (f"{{{GET}, {BY_ID}, require: {{}}}}", ".require: asks for nothing; give e.g. {scope: users:read} or {claim: role, any: [staff]}"),
        (f"{{{GET}, {BY_ID}, require: {{scope: a}}}}", ".require: asks something of a token; give access: token or owner"),
        (f"{{{GET}, pass: true, require: {{scope: a}}}}", ".require: is for lookup, introspect and resource routes only; remove it"),
        (f"{{{GET}, {BY_ID}, secrets: keep}}", ".secrets: 'keep' is not one of strip, bypass"),
        (f"{{{GET}, pass: true, access: anyone}}", ".access: is for lookup, introspect and resource routes only; remove it"),
        (f"{{{GET}, write: {{evict: all}}, secrets: strip}}", ".secrets: is for lookup, introspect and resource routes only; remove it"),
        (f"{{{GET}, pass: no}}", ".pass: must be 'pass: true'"),
        (f"{{{GET}, write: {{revoke: users}}}}", ".write.revoke: 'users' is not one of token, user, none"),
        (f"{{{GET}, write: {{revoke: none}}}}", ".write: has no 'evict'; give e.g. evict: [{id: token}], evict: all or revoke: token"),
        (f"{{{GET}, write: {{}}}}", ".write: has no 'evict'; give e.g. evict: [{id: token}], evict: all or revoke: token"),
        (f"{{{GET}, write: all}}", ".write: must be a mapping, not 'all'"),
        (f"{{{GET}, write: {{evict: []}}}}", ".write.evict: must be 'all' or a list; give e.g. [{id: token}]"),
        (f"{{{GET}, write: {{evict: token}}}}", ".write.evict: must be 'all' or a list; give e.g. [{id: token}]"),
        (f"{{{GET}, write: {{evict: [token]}}}}", ".write.evict[0]: must be one key and where its value is; give e.g. {id: path.id}"),
        (f"{{{GET}, write: {{evict: [{{mail: token}}]}}}}", ".write.evict[0].mail: unknown key; did you mean 'email'?"),
        (f"{{{GET}, write: {{evict: [{{email: token}}]}}}}", ".write.evict[0].email: a token names the id; give {id: token}"),
        (f"{{{GET}, write: {{evict: [{{id: path.idd}}]}}}}", ".write.evict[0].id: no variable 'idd' in the path of the match; did you mean 'id'?"),
        (f"{{{GET}, write: {{evict: [{{id: query.id}}]}}}}", ".write.evict[0].id: no variable 'id' in the query of the match; none is known here"),
        (f"{{{GET}, write: {{evict: [{{id: body.id}}]}}}}", ".write.evict[0].id: 'body.id' is not a place; give token, path.x, query.x, request.x or response.x"),
        (f"{{{GET}, write: {{evict: [{{id: request}}]}}}}", ".write.evict[0].id: 'request' is not a place; give token, path.x, query.x, request.x or response.x"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_route(route: str, expected: str) -> None:
    """Each is named by its line and dotted place; what is not there yet is refused by name."""
    assert f"routes.yaml:7: routes[1]{expected}" in in_routes('{match: "POST /first", pass: true}', route)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("GET /u/{id}", "GET /u/{id}"),
        ("GET /u/{a}", "GET /u/{id:int}"),
        ("GET /u/{a}", "GET /u/me"),
        ("GET,POST /u", "POST /u"),
        ("GET /f/{a:path}", "GET /f/{b}/c"),
        ("GET /u/{a:list}", "GET /u/{b:int}"),
        ("GET /u?a={x}&b=1", "GET /u?b=1&a={y}"),
        ("POST /u", "POST /u?a=1"),
    ],
)
def test_a_route_that_is_never_reached(first: str, second: str) -> None:
    """A line without effect is a mistake, as its author means it to have one."""
    assert [
        "routes.yaml:7: routes[1].match: is never reached: routes[0] on line 6 takes its requests first; move it up or remove it"
    ] == in_routes(f'{{match: "{first}", pass: true}}', f'{{match: "{second}", pass: true}}')


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("GET /u/{id:int}", "GET /u/{name}"),
        ("GET /u/me", "GET /u/{a}"),
        ("GET /u/{a}", "PUT /u/{a}"),
        ("GET /u/{a}", "GET /u/{a}/b"),
        ("GET /u/{a}", "GET /u/{a}/"),
        ("GET /u", "GET /u?a=1"),
        ("GET /u?a=1", "GET /u?a=2"),
        ("POST /u?a=1", "POST /u"),
        ("GET /u/{a:int}", "GET /u/{a:uuid}"),
        ("GET /u/{a}", "GET /u/b;c"),
        ("GET /f/{a:path}", "GET /f/"),
        ("GET /f/{a:path}", "GET /f"),
        ("GET /f/{a}", "GET /f/{b:path}"),
    ],
)
def test_routes_that_are_both_reached(first: str, second: str) -> None:
    """The second still has requests of its own."""
    data = "version: 1\nroutes:\n" + "".join(f'  - {{match: "{m}", pass: true}}\n' for m in (first, second))
    assert [first, second] == [route.name for route in parse(data.encode(), "r", {}).routes]


def test_what_needs_tokens_is_refused_without_them() -> None:
    """Nothing that needs a proven token is silently without effect; an opaque one can be logged out."""
    text = """version: 1
views: {users: {ttl: 1s}}
routes:
  - {match: "GET /me", introspect: {answer: view, view: users}}
  - {match: "GET /u/{id}", lookup: {by: id, view: users}, access: token}
  - {match: "PUT /p", write: {evict: [{id: token}]}}
  - {match: "POST /out", write: {revoke: token}}
"""
    assert [
        "routes.yaml:4: routes[0].introspect.answer: 'view' needs a 'tokens' block; add it, or give upstream for opaque tokens",
        "routes.yaml:5: routes[1].access: 'token' needs a 'tokens' block; add it or remove this",
        "routes.yaml:6: routes[2].write.evict[0].id: 'token' needs a 'tokens' block; add it or give another place",
    ] == mistakes(text)


@given(data=st.binary(max_size=60))
def test_bytes_are_read_or_refused(data: bytes) -> None:
    """Whatever the file holds, only ConfigError comes out."""
    with pytest.raises(ConfigError):
        parse(b"x: " + data, "routes.yaml", {})


LINES = PACKAGED.read_text().splitlines()


@given(line=st.integers(0, len(LINES) - 1), text=st.text("{}[]:,-*&!|>'\"#ab1 \t", max_size=12))
def test_a_damaged_file_is_read_or_refused(line: int, text: str) -> None:
    """A line of the documented file replaced by noise gives settings or mistakes of one line each."""
    damaged = "\n".join([*LINES[:line], text, *LINES[line + 1 :]])
    try:
        parse(damaged.encode(), "routes.yaml", {"JWT_SECRET": "s"})
    except ConfigError as error:
        found = error.mistakes
    else:
        found = ()
    assert [] == [
        told for told in found if "\n" in told or not told.startswith(("routes.yaml", "JWT_SECRET"))
    ]


def test_where_a_token_is() -> None:
    """A header, a cookie or a parameter; an introspection by a parameter names it in its match."""
    head = "version: 1\nviews: {v: {ttl: 1s}}\n"
    route = 'routes: [{match: "GET /i", introspect: {answer: upstream, view: v}}]\n'
    for wrong, told in (
        ("body", "token_from: must be header, {cookie: NAME} or {query: NAME}"),
        ("{cookie: 'a b'}", "token_from.cookie: 'a b' is not the name of a cookie or parameter"),
        ("{query: t}", "the match lacks the parameter 't'; add t={token}"),
    ):
        (mistake,) = mistakes(f"{head}token_from: {wrong}\n{route}")
        assert told in mistake
