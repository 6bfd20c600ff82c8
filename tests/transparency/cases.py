"""What is asked of httpbin: each of its endpoints, and what is peculiar about requests."""

from __future__ import annotations

from tests.transparency.clients import Case

JSON = (("Content-Type", "application/json"),)
FORM = (("Content-Type", "application/x-www-form-urlencoded"),)
BYTES = (("Content-Type", "application/octet-stream"),)
BODY = b'{"name": "Zo\xc3\xab", "n": [1, 2.5, null]}'
LARGE = bytes(range(256)) * 1024
MULTIPART = (
    b'--b\r\nContent-Disposition: form-data; name="f"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\n'
    b"line\r\n\r\nline\r\n--b--\r\n"
)
UNSAFE = ("POST", "PUT", "PATCH", "DELETE")
ENDPOINTS = (
    *("/", "/base64/aGVsbG8=", "/brotli", "/cookies", "/cookies/delete?a", "/cookies/set?a=1&b=2"),
    *("/cookies/set/c/3", "/deflate", "/deny", "/encoding/utf8", "/forms/post", "/get", "/gzip", "/headers"),
    *("/html", "/image/jpeg", "/image/png", "/image/svg", "/image/webp", "/ip", "/json", "/links/5/2"),
    *("/links/5", "/robots.txt", "/user-agent", "/xml", "/status/201,202:0", "/nowhere"),
    *("/bytes/1000?seed=1", "/bytes/0?seed=1", "/stream-bytes/5000?seed=1&chunk_size=100", "/stream/0"),
    *("/stream/3", "/drip?duration=0.2&numbytes=4&delay=0", "/drip?numbytes=3&duration=0&code=500"),
    *(
        "/static/favicon.ico",
        "/delay/0.1",
        "/cache/60",
        "/etag/abc",
        "/range/1000",
        "/range/100?duration=0.1&chunk_size=10",
    ),
    *("/absolute-redirect/2", "/relative-redirect/2", "/redirect/3", "/redirect/2?absolute=true"),
    *("/redirect-to?url=http%3A%2F%2Fexample.test%2F%3Fa%3Db%26c&status_code=307", "/redirect-to?url=/get"),
    *("/basic-auth/u/p", "/hidden-basic-auth/u/p", "/bearer", "/anything", "/anything/a/b/c"),
    "/response-headers?X-One=1&X-One=2&Set-Cookie=a%3D1&Set-Cookie=b%3D2&Cache-Control=no-store",
)
TARGETS = (
    *("/anything?", "/anything?&&", "/anything?=", "/anything?a", "/anything?a=1&a=2&b=&=c"),
    *("/anything?a=%20+%2B", "/anything?a=%27%22%3C%3E", "/anything?q=%E2%82%AC", "/anything?a=%zz&b=%"),
    *("/anything?a=b=c", "/anything?a=b?c?d", "/anything?a;b;c", "/anything?x[y]=1&x[]=2", "/anything/a%2Fb"),
    *(
        "/anything/%2e%2e/c",
        "/anything/a//b",
        "/anything//",
        "/anything/a;p=1;q",
        "/anything/~a-b_c.d!$&'()*,:@",
    ),
    *(
        "/anything/%E2%82%AC",
        "/anything/a%00b",
        "/anything/../get",
        "/anything/./a",
        "//anything",
        "/anything?" + "long=1&" * 900,
    ),
)
HEADERS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    ("/headers", (("X-Mixed-CASE", "As It Is"), ("x-lower", "1"), ("X-Empty", ""))),
    ("/headers", (("Accept-Language", "de, en;q=0.5"), ("Referer", "http://r/?a=b"), ("Origin", "null"))),
    ("/headers", (("X-Request-Id", "r-1"), ("Traceparent", f"00-{'a' * 32}-{'b' * 16}-01"))),
    ("/headers", (("X-Long", "v" * 8000),)),
    ("/headers", (("Accept-Encoding", "gzip, br"), ("TE", "trailers"), ("DNT", "1"))),
    ("/headers", (("X-Twice", "1"), ("X-Twice", "2"), ("X-Other", "3"))),
    ("/cookies", (("Cookie", 'a=1; b="two words"; c='),)),
    ("/basic-auth/u/p", (("Authorization", "Basic dTpw"),)),
    ("/hidden-basic-auth/u/p", (("Authorization", "Basic dTpw"),)),
    ("/bearer", (("Authorization", "Bearer abc.def"),)),
    ("/bearer", (("Authorization", "bearer"),)),
    ("/image", (("Accept", "image/webp"),)),
    ("/image", (("Accept", "image/svg+xml"),)),
    ("/image", (("Accept", "text/plain"),)),
    ("/etag/abc", (("If-None-Match", '"abc"'),)),
    ("/etag/abc", (("If-None-Match", "*"),)),
    ("/etag/abc", (("If-Match", '"other"'),)),
    ("/cache", (("If-None-Match", '"x"'),)),
    ("/cache", (("If-Modified-Since", "Wed, 25 Nov 2026 10:00:00 GMT"),)),
    ("/range/1000", (("Range", "bytes=10-99"),)),
    ("/range/1000", (("Range", "bytes=-10"),)),
    ("/range/1000", (("Range", "bytes=990-"),)),
    ("/range/1000", (("Range", "bytes=2000-"),)),
    ("/range/1000", (("Range", "lines=1-2"),)),
    ("/get", (("Cache-Control", "no-cache"), ("Pragma", "no-cache"))),
    ("/get", (("Cache-Control", "only-if-cached"),)),
    ("/get", (("User-Agent", ""),)),
)
# None that echoes: its length would differ.
HEADS = ("/html", "/json", "/image/png", "/stream/3", "/status/404", "/range/100")
FAILURES = (400, 401, 402, 403, 404, 405, 406, 409, 410, 412, 418, 422, 428, 429, 500, 501, 502, 503, 504)
STATUSES = (200, 201, 202, 203, 204, 205, 207, 226, 300, 301, 302, 303, 304, 305, 307, 308, *FAILURES, 599)
NEW_EACH_TIME = {
    "/uuid": (r"[0-9a-f-]{36}",),
    "/cache": (r"^[0-9a-f]{32}$", r"\d\d:\d\d:\d\d GMT"),
    "/digest-auth/auth/u/p": (r'(nonce|opaque)="[^"]*"', r"fake=fake_value|stale_after=never|last_nonce=\w+"),
    "/digest-auth/auth/u/p/SHA-256": (
        r'(nonce|opaque)="[^"]*"',
        r"fake=fake_value|stale_after=never|last_nonce=\w+",
    ),
}


def _bodies() -> list[Case]:
    cases = []
    for chunked in (False, True):
        for method in UNSAFE:
            cases += [
                Case(method, "/" + method.lower(), JSON, BODY, chunked),
                Case(method, "/anything", FORM, b"a=1&b=%20+&a=2", chunked),
                Case(method, "/status/409", JSON, BODY, chunked),
            ]
        boundary = (("Content-Type", "multipart/form-data; boundary=b"),)
        cases += [
            Case("POST", "/post", boundary, MULTIPART, chunked),
            Case("POST", "/post", BYTES, LARGE, chunked),
            Case("PUT", "/put", BYTES, b"\0\r\n\r\n0\r\n\r\n", chunked),
            Case("POST", "/post", BYTES, b"", chunked),
            Case("GET", "/anything", JSON, BODY, chunked),
            Case("POST", "/redirect-to?url=/get&status_code=307", JSON, BODY, chunked),
            Case("POST", "/delay/0.05", JSON, BODY, chunked),
        ]
    cases.append(Case("PUT", "/put", (*BYTES, ("Expect", "100-continue")), BODY))
    return cases


CASES: list[Case] = [
    *(Case("GET", target) for target in (*ENDPOINTS, *TARGETS)),
    *(Case("GET", target, lines) for target, lines in HEADERS),
    *(Case("GET", target, masks=masks) for target, masks in NEW_EACH_TIME.items()),
    *(Case("GET", f"/status/{status}") for status in STATUSES),
    *(Case("HEAD", target) for target in HEADS),
    *(Case("OPTIONS", target) for target in ("/get", "/anything", "/nowhere")),
    *(Case(method, "/anything") for method in UNSAFE),
    *(Case("POST", target) for target in ("/get", "/response-headers?a=1")),
    *(Case("GET", target) for target in ("/post", "/put")),
    *_bodies(),
]
