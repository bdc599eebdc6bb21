"""HTTP without sockets: the request, its headers and the answers, as an application sees them; and targets, hosts and
origins, as the opening handshake judges them."""

import json
import re
from collections.abc import Awaitable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Final, TypeVar
from urllib.parse import parse_qsl, unquote_to_bytes

T = TypeVar("T")
Address = tuple[str, int] | str | None
HeaderSource = Iterable[tuple[str, str]] | Mapping[str, str]

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 5.6.2
_CONTROL = re.compile(
    r"[\x00-\x08\x0a-\x1f\x7f]"
)  # all of C0 but the tab, which RFC 9110 5.5 allows in a value, and DEL
_DEFAULT_TYPE = "text/plain; charset=utf-8"
_NO_PARAMS: Mapping[str, str] = MappingProxyType({})

_SERVERS_OWN = re.compile(
    "connection|content-length|transfer-encoding|upgrade|sec-websocket-(accept|extensions|protocol)", re.IGNORECASE
)


class Headers(Mapping[str, str]):
    """The headers of a request by name, in any letter case; those of one name are joined by ", " (RFC 9110 5.2)."""

    __slots__ = ("_by_name", "raw")

    def __init__(self, raw: list[tuple[bytes, bytes]]) -> None:
        self.raw = raw
        self._by_name: dict[str, list[str]] | None = None

    def _names(self) -> dict[str, list[str]]:
        if self._by_name is None:
            self._by_name = {}
            for name, value in self.raw:
                self._by_name.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        return self._by_name

    def get_all(self, name: str) -> list[str]:
        """The values of all headers of that name, in order; an empty list if there is none."""
        return list(self._names().get(name.lower(), ()))

    def __getitem__(self, name: str) -> str:
        return ", ".join(self._names()[name.lower()])

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._names()

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def __repr__(self) -> str:
        return f"Headers({self.raw!r})"


@dataclass(frozen=True, slots=True)
class Accept:
    """What `Request.accept` makes: the upgrade goes on, with these additions to the 101."""

    subprotocol: str | None = None
    data: object = None
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Response:
    """An answer to a plain request, or to an upgrade that is refused. The connection is closed after it.

    status: an int from 200 to 599; body: str, which is sent as UTF-8, or bytes-like; headers: a mapping or pairs of a
    name and a value, all str; content_type: None for no such header; reason: the phrase behind the status. TypeError
    for other types; ValueError for a status out of range, a body where the status allows none, a character that no
    header may hold, and a header that is the server's to set.
    """

    __slots__ = ("body", "content_type", "headers", "reason", "status")

    def __init__(
        self,
        status: int = 200,
        body: bytes | str = b"",
        *,
        headers: HeaderSource = (),
        content_type: str | None = _DEFAULT_TYPE,
        reason: str | None = None,
    ) -> None:
        _judge_answer("Response", status, body)
        self.status = int(status)
        self.body = body.encode() if isinstance(body, str) else bytes(memoryview(body))
        if self.body and self.status in (204, 205, 304):
            raise ValueError(f"a response with status {self.status} has no body (RFC 9110): leave the body empty")
        self.headers = _encode_headers(headers)
        self.content_type = content_type
        if content_type is not None:
            _encode_value("content_type", content_type)
        self.reason = _phrase(self.status) if reason is None else reason
        _encode_value("reason phrase", self.reason)

    @classmethod
    def json(cls, data: object, status: int = 200, *, headers: HeaderSource = ()) -> "Response":
        """An answer with `data` as compact JSON in UTF-8 (RFC 8259), of type application/json.

        TypeError for what JSON cannot hold, ValueError for NaN, infinities, lone surrogates and what refers to itself;
        otherwise as `Response`."""
        if not _is_status(status):
            swapped = isinstance(status, dict | list) and _is_status(data)
            meant = f"{status!r:.50}, {data}" if swapped else "data, 404"
            raise TypeError(
                f"Response.json(data, status): status is an int from 200 to 599, got {status!r:.100}: "
                f"write Response.json({meant}), say"
            )
        try:
            body = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"Response.json(data): data is no JSON: {error}") from error
        return cls(status, body, headers=headers, content_type="application/json")

    def encode(self, head_only: bool = False) -> bytes:
        """The whole HTTP/1.1 answer; without the body, but with its length, for HEAD (RFC 9110 9.3.2)."""
        names = {name.lower() for name, _ in self.headers}
        lines = [b"HTTP/1.1 %d %s" % (self.status, self.reason.encode("latin-1"))]
        typed = self.content_type is not None and (self.body or self.content_type != _DEFAULT_TYPE)
        if typed and self.content_type is not None and b"content-type" not in names:
            lines.append(b"Content-Type: " + self.content_type.encode("latin-1"))
        if self.status not in (204, 304):  # RFC 9110 8.6: a 204 must not have it, and a 304's would not be of its body
            lines.append(b"Content-Length: %d" % len(self.body))
        # RFC 9110 7.8: who sends Upgrade, as a 426 must, names it in Connection
        lines.append(b"Connection: close, Upgrade" if b"upgrade" in names else b"Connection: close")
        lines.extend(name + b": " + value for name, value in self.headers)
        head = b"\r\n".join(lines)
        # The attributes may have been set since they were checked.
        if max(head.count(b"\r"), head.count(b"\n")) >= len(lines) or b"\0" in head:
            raise ValueError(f"a line of the response's head holds a line break or a NUL: {head!r}")
        return head + b"\r\n\r\n" + (b"" if head_only else self.body)

    def __repr__(self) -> str:
        return f"<Response {self.status} {self.reason}, {len(self.body)} bytes>"


async def awaited(awaitable: Awaitable[T]) -> T:
    """A coroutine that waits for another kind of awaitable: a Future, a Task, an object with `__await__`."""
    return await awaitable


def error_response(status: int, text: str, headers: Iterable[tuple[str, str]] = ()) -> Response:
    """The server's own refusal, in one line. `text` must not come from the request."""
    response = Response(status, text + "\n")
    response.headers = _encode_headers(headers, owned=True)
    return response


#: In place of a verdict, once the request is decided.
_DECIDED: Final = object()


class Request:
    """A request for an upgrade or for a plain HTTP route."""

    __slots__ = (
        "_cookies",
        "_query_params",
        "_verdict",
        "headers",
        "local_address",
        "method",
        "path",
        "path_params",
        "query_string",
        "remote_address",
        "target",
    )

    def __init__(
        self,
        method: str,
        target: bytes,
        raw_headers: list[tuple[bytes, bytes]],
        *,
        path: str,
        query_string: str = "",
        path_params: Mapping[str, str] = _NO_PARAMS,
        remote_address: Address = None,
        local_address: Address = None,
    ) -> None:
        self.method = method
        self.target = target.decode("latin-1")
        self.headers = Headers(raw_headers)
        self.path = path
        self.query_string = query_string
        self.path_params = path_params
        self.remote_address = remote_address
        self.local_address = local_address
        self._cookies: dict[str, str] | None = None
        self._query_params: dict[str, str] | None = None
        self._verdict: object = None  # the last that accept() or reject() has made; then _DECIDED

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies by name; what is malformed is left out."""
        if self._cookies is None:
            self._cookies = {}
            for header in self.headers.get_all("cookie"):
                self._cookies.update(_parse_cookies(header))
        return self._cookies

    @property
    def query_params(self) -> dict[str, str]:
        """The decoded query by name. The last value of a name counts: `urllib.parse.parse_qs` gives them all."""
        if self._query_params is None:
            self._query_params = dict(parse_qsl(self.query_string, keep_blank_values=True))
        return self._query_params

    @property
    def subprotocols(self) -> list[str]:
        """What the client offers, in its order of preference (RFC 6455 4.1)."""
        offers = ",".join(self.headers.get_all("sec-websocket-protocol")).split(",")
        return [offer for offer in map(str.strip, offers) if offer]

    @property
    def origin(self) -> str | None:
        """The page that opens the connection; None if the client is no browser."""
        return self.headers.get("origin")

    @property
    def host(self) -> str:
        """Host and port as the client calls them: those of a target in absolute-form, else of the Host header (RFC
        9112 3.2.2); empty if there is neither."""
        host = None if self.target.startswith("/") else target_host(self.target.encode("latin-1"))
        return self.headers.get("host", "") if host is None else host.decode("latin-1")

    def accept(self, *, subprotocol: str | None = None, data: object = None, headers: HeaderSource = ()) -> Accept:
        """Let the upgrade go on: return this from `upgrade`. `data` becomes `ws.data`.

        subprotocol: one of `subprotocols`, or None; headers: a mapping or (name, value) pairs, all str. TypeError for
        other types, ValueError if the answer would not be valid, RuntimeError once the upgrade is decided. An `upgrade`
        that calls this and returns None has forgotten a `return`: the client gets a 500.
        """
        self._judge_time("accept")
        if subprotocol is not None:
            if not isinstance(subprotocol, str):
                raise TypeError(f"subprotocol is a str, got {subprotocol!r:.100}: choose one of request.subprotocols")
            if not _TOKEN.fullmatch(subprotocol):
                raise ValueError(
                    f"subprotocol {subprotocol!r} is not a token (RFC 6455 4.1): leave out such characters"
                )
            if subprotocol not in (offers := self.subprotocols):
                offered = ", ".join(offers) or "none"
                raise ValueError(
                    f"subprotocol {subprotocol!r} is not among the client's offers ({offered}): choose one"
                )
        verdict = Accept(subprotocol, data, _encode_headers(headers))
        self._verdict = verdict
        return verdict

    def reject(
        self, status: int = 403, body: bytes | str = b"", *, headers: HeaderSource = (), reason: str | None = None
    ) -> Response:
        """Refuse the upgrade with this answer, a `Response`: return it from `upgrade`.

        Arguments and errors as of `Response`; RuntimeError once the upgrade is decided. An `upgrade` that calls this
        and returns None has forgotten a `return`: the client gets a 500. (A `Response(...)` that `upgrade` makes itself
        and does not return goes unnoticed, and lets the client in.)
        """
        self._judge_time("reject")
        _judge_answer("request.reject", status, body)
        verdict = Response(status, body, headers=headers, reason=reason)
        self._verdict = verdict
        return verdict

    def _judge_time(self, verb: str) -> None:
        if self._verdict is _DECIDED:
            raise RuntimeError(
                f"request.{verb}() comes too late, the request has been decided: call it in `upgrade`, and return what "
                "it returns; an open connection is ended by ws.close()"
            )

    def _decide(self) -> object:
        """The last verdict that was made, if any. From now on none can be."""
        verdict, self._verdict = self._verdict, _DECIDED
        return verdict

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.path!r}>"


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _is_status(status: object) -> bool:
    return isinstance(status, int) and not isinstance(status, bool)


def _judge_answer(call: str, status: object, body: object) -> None:
    """TypeError or ValueError for the first two arguments of Response() or request.reject()."""
    usual = 200 if call == "Response" else 403
    if not _is_status(status):
        meant = f"{usual}, {status!r:.50}" if isinstance(status, str | bytes) else "status, body"
        if isinstance(status, str) and status.isascii() and status.isdigit():
            meant = status if isinstance(body, str | bytes) and not body else f"{status}, body"
        write = f"Response.json({status!r:.50})" if isinstance(status, dict | list) else f"{call}({meant})"
        raise TypeError(f"{call}(status, body): status is an int from 200 to 599, got {status!r:.100}: write {write}")
    if not 200 <= status <= 599:  # type: ignore[operator]
        raise ValueError(f"status {status} cannot end a request: use one from 200 to 599")
    if isinstance(body, str):
        return
    try:
        memoryview(body)  # type: ignore[arg-type]
    except TypeError:
        other = "" if status == 200 else f", {status}"
        meant = (
            f"Response.json({body!r:.50}{other})" if isinstance(body, dict | list) else f"{call}({status}, str(...))"
        )
        raise TypeError(f"{call}(status, body): body is str or bytes-like, got {body!r:.100}: write {meant}") from None


def _encode_value(what: str, value: str) -> bytes:
    if not isinstance(value, str):
        raise TypeError(f"{what.rstrip(':')} is a str, got {value!r:.100}: give a str")
    if _CONTROL.search(value):
        raise ValueError(f"{what} {value!r} holds a control character: remove it or encode it")
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        raise ValueError(f"{what} {value!r} holds characters outside of latin-1: encode it, in percent say") from None


def _encode_headers(headers: HeaderSource, *, owned: bool = False) -> tuple[tuple[bytes, bytes], ...]:
    encoded = []
    pairs: Iterable[tuple[str, str]] = headers.items() if isinstance(headers, Mapping) else headers
    if isinstance(pairs, str | bytes) or not isinstance(pairs, Iterable):
        raise _no_headers(headers)
    for pair in pairs:
        if isinstance(pair, str | bytes):
            raise _no_headers(headers)
        try:
            name, value = pair
        except (TypeError, ValueError):
            raise _no_headers(headers) from None
        if not isinstance(name, str):
            raise TypeError(f"the name of a header is a str, got {name!r:.100}: give a str")
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"header name {name!r} is not a token (RFC 9110 5.1): leave out such characters")
        if not owned and _SERVERS_OWN.fullmatch(name):
            raise ValueError(f"header {name!r} is set by the server itself: leave it out")
        encoded.append((name.encode("ascii"), _encode_value(f"value of header {name!r}:", value)))
    return tuple(encoded)


def _no_headers(headers: object) -> TypeError:
    return TypeError(
        f"headers are a mapping, or (name, value) pairs, got {headers!r:.100}: write {{'X-Name': 'value'}}, say"
    )


# In quotes http.cookies writes a character as \ooo or after a backslash.
_ESCAPED = re.compile(r"\\([0-3][0-7][0-7]|.)")


def _parse_cookies(header: str) -> Iterator[tuple[str, str]]:
    for pair in header.split(";"):
        name, equals, value = (part.strip(" \t") for part in pair.partition("="))
        if equals and _TOKEN.fullmatch(name):
            if len(value) >= 2 and value[0] == value[-1] == '"':
                value = _ESCAPED.sub(_unescape, value[1:-1])
            yield name, value


def _unescape(escaped: re.Match[str]) -> str:
    text = escaped[1]
    return text if len(text) == 1 else chr(int(text, 8))


_ABSOLUTE = re.compile(rb"(?:https?|wss?)://([^/?]*)", re.IGNORECASE)
_NOT_IN_TARGET = re.compile(rb"[\x00-\x20\x7f#]|%(?![0-9A-Fa-f]{2})")
_ESCAPED_SLASH = re.compile(rb"%2f", re.IGNORECASE)
#: What stands for a "%2F" in a path that is looked up: it separates no segments (RFC 3986 2.2), and a path has no NUL.
ESCAPED_SLASH = "\x00"


def split_target(target: bytes) -> tuple[str, str, str]:
    """The decoded path, the query, undecoded, and the path to look up, with ESCAPED_SLASH, of a request target in
    origin-form or absolute-form.

    ValueError for any other form (RFC 9112 3.2) and for a path that is not UTF-8 or holds a NUL.
    """
    if _NOT_IN_TARGET.search(target):
        raise ValueError("malformed request target")
    if not target.startswith(b"/"):
        host = target_host(target)  # RFC 9112 3.2.2: a server must accept it
        if host is None:
            raise ValueError("the request target is neither a path nor an absolute URL")
        target = target.partition(b"://")[2][len(host) :]
    path, _, query = target.partition(b"?")
    if b"%00" in path:
        raise ValueError("NUL in the request target")
    try:
        routed = unquote_to_bytes(_ESCAPED_SLASH.sub(b"\x00", path) or b"/").decode("utf-8")
        return routed.replace(ESCAPED_SLASH, "/"), query.decode("utf-8"), routed
    except UnicodeDecodeError:
        raise ValueError("the request target is not UTF-8") from None


def target_host(target: bytes) -> bytes | None:
    """The host, with its port if it has one, of a request target in absolute-form; None for any other target."""
    absolute = _ABSOLUTE.match(target)
    return absolute[1] if absolute is not None and is_host(absolute[1]) else None


_DEFAULT_PORTS = {"http": "80", "https": "443", "ws": "80", "wss": "443"}
_AUTHORITY = r"(\[[0-9a-f:.]+\]|[a-z0-9_][a-z0-9._-]*)(?::([0-9]{1,5}))?"
_HOST = re.compile(_AUTHORITY)
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://" + _AUTHORITY)


def normalize_origin(origin: str) -> str | None:
    """An origin (RFC 6454 6.2) in lower case and with its port, for comparison; None if malformed, or "null"."""
    parts = _ORIGIN.fullmatch(origin.lower())
    if parts is None:
        return None
    scheme, host, port = parts.groups()
    return f"{scheme}://{host}:{port or _DEFAULT_PORTS.get(scheme, '')}"


def origin_allowed(origin: str, host: str, allowed: Collection[str] | None) -> bool:
    """Whether a page of `origin` may connect (RFC 6455 10.2).

    `allowed` None: only one of the same host and port as the Host header. Where that names no port, it is the default
    of the origin's scheme, for TLS may end at a proxy. Otherwise: one that is listed; "*" stands for all, and "null"
    only for itself.
    """
    if allowed is not None:
        if "*" in allowed or origin in allowed:
            return True
        normal = normalize_origin(origin)
        return normal is not None and any(normal == normalize_origin(one) for one in allowed)
    normal = normalize_origin(origin)
    named = _HOST.fullmatch(host.lower())
    if normal is None or named is None:
        return False
    scheme = normal.partition(":")[0]
    port = named[2] or _DEFAULT_PORTS.get(scheme)
    return scheme in ("http", "https") and normal == f"{scheme}://{named[1]}:{port}"


# What stands for the host in an origin whose scheme has hosts of its own is up to that: app://., file://.
_LISTED_ORIGIN = re.compile(
    r"""([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[^\x00-\x20\x7f-\U0010ffff"#*,/:<>?@[\\\]^|]*)(?::([0-9]{1,5}))?"""
)
_NAMES_OF_THIS_MACHINE = re.compile(r"(localhost|127\.[0-9.]+|\[::1\]|0\.0\.0\.0)(:|$)")


def origin_mistake(origin: str) -> str | None:
    """What is wrong with one of the origins that are allowed, and what to write; None where a browser can send it."""
    parts = _LISTED_ORIGIN.fullmatch(origin.lower())
    if origin in ("*", "null") or (
        parts is not None
        and parts[1] not in ("ws", "wss")
        and (parts[2] or parts[1] not in ("http", "https"))
        and int(parts[3] or 0) <= 65_535
    ):
        return None
    if not origin.strip():
        return 'leave it out, as a client without Origin is let in; a page without an origin of its own sends "null"'
    if origin.strip().lower() == "null":
        return 'write "null"'
    if "*" in origin:
        return (
            '"*" stands for all origins, and only by itself: list each one, or have `upgrade` look at request.origin, '
            'with origins=["*"]'
        )
    if not origin.isascii():
        return "write its name as a browser sends it, in ASCII (xn--...)"
    if loose := re.fullmatch(r"\s*(?:(?:([A-Za-z][A-Za-z0-9+.-]*):)?//)?([^/?#\s]*)(?:[/?#].*)?\s*", origin):
        scheme, rest = loose.groups()
        scheme = {"ws": "http", "wss": "https"}.get((scheme or "").lower(), scheme)
        if not scheme:
            scheme = "http" if _NAMES_OF_THIS_MACHINE.match(rest.lower()) or rest.endswith(":80") else "https"
        meant = f"{scheme}://{rest.rpartition('@')[2]}"
        if meant != origin and origin_mistake(meant) is None:
            return f'an origin is scheme://host or scheme://host:port, without a path: write "{meant}"'
    return 'an origin is scheme://host or scheme://host:port, "*" or "null"'


def host_mistake(host: str) -> str | None:
    """What is wrong with one of the hosts that are served, and what to write; None where a Host header can be it."""
    parts = _HOST.fullmatch(host.lower().removeprefix("*."))
    if host == "*" or (
        parts is not None and int(parts[2] or 0) <= 65_535 and not (host.startswith("*.") and parts[1][0] == "[")
    ):
        return None
    if not host.strip():
        return "leave it out: where hosts are listed, a request without one is refused"
    if not host.isascii():
        return "write its name as a client sends it, in ASCII (xn--...)"
    meant = re.sub(r"^(?:[A-Za-z][A-Za-z0-9+.-]*:)?//", "", host.strip())
    meant = re.split("[/?#]", meant)[0].rpartition("@")[2].removesuffix(":*")
    meant = f"[{meant}]" if meant.count(":") > 1 and not meant.startswith("[") else meant
    meant = re.sub(r"^\*?\.|^\*(?=[^.])", "*.", meant)
    what = 'a host is a name or an address, "name:port" for that port alone, "*.name" for subdomains, or "*"'
    return f'{what}: write "{meant}"' if meant not in ("", host) and host_mistake(meant) is None else what


def is_host(value: bytes) -> bool:
    """Whether the value of a Host header is a name or address with or without a port (RFC 9112 3.2)."""
    return _HOST.fullmatch(value.decode("latin-1").lower()) is not None


def host_allowed(host: str, allowed: Collection[str]) -> bool:
    """Whether the Host header is one that this server answers to: against DNS rebinding.

    A name without a port allows any port; "*.example.com" allows the subdomains of example.com; "*" allows all.
    """
    if "*" in allowed:
        return True
    named = _HOST.fullmatch(host.lower())
    if named is None:
        return False
    name, full = named[1], named[0]
    for one in map(str.lower, allowed):
        if one in (name, full):
            return True
        if one.startswith("*.") and (name.endswith(one[1:]) or full.endswith(one[1:])):
            return True
    return False
