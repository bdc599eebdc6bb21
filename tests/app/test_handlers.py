"""Handlers: what can be one, what is wrong with one and how it is told, what callbacks set on one."""

from __future__ import annotations

import array
import asyncio
import dataclasses
import functools
import gc
import inspect
import re
import types
import warnings
import weakref
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from harness import RawClient, Serving, echo
from harness.programs import python

import fastws
from fastws import handlers

# What can be a handler


class Callable_:
    def __call__(self, ws: Any, data: Any) -> None:
        ws.send(data)


class AsyncCallable:
    async def __call__(self, ws: Any, data: Any) -> None:
        await asyncio.sleep(0)
        ws.send(data)


class WithMethods:
    def message(self, ws: Any, data: Any) -> None:
        ws.send(data)


class WithAttributes:
    def __init__(self) -> None:
        self.message = lambda ws, data: ws.send(data)
        self.open = None  # counts as absent


class Static:
    @staticmethod
    def message(ws: Any, data: Any) -> None:
        ws.send(data)

    @classmethod
    async def open(cls, ws: Any) -> None:
        assert cls is Static


async def echo_later(ws: Any, data: Any) -> None:
    await asyncio.sleep(0)
    ws.send(data)


def echo_with(prefix: str, ws: Any, data: Any) -> None:
    ws.send(prefix + data)


def with_attributes() -> Any:
    def function(ws: Any, data: Any) -> None:
        ws.send(data)

    function.open = 5  # type: ignore[attr-defined]
    return function


HANDLERS: dict[str, Any] = {
    "class": WithMethods,
    "instance": WithMethods(),
    "attributes": WithAttributes(),
    "static": Static,
    "function": echo,
    "async function": echo_later,
    "lambda": lambda ws, data: ws.send(data),
    "partial": functools.partial(echo_with, ""),
    "async partial": functools.partial(echo_later),
    "callable": Callable_(),
    "class of callables": Callable_,
    "async callable": AsyncCallable(),
    "bound method": WithMethods().message,
    "function with attributes": with_attributes(),
}


@pytest.mark.parametrize("name", HANDLERS)
def test_each_kind_of_handler_is_served(serve: Serving, name: str) -> None:
    app = fastws.App()
    assert app.websocket("/")(HANDLERS[name]) is HANDLERS[name]
    server = serve(app)
    with RawClient.open(server.port) as client:
        client.send("hello")
        assert client.recv() == "hello"


def test_a_class_is_instantiated_once(serve: Serving) -> None:
    made = []
    app = fastws.App()

    @app.websocket("/")
    class Handler:
        def __init__(self) -> None:
            made.append(self)

        def message(self, ws: Any, data: Any) -> None:
            ws.send(f"{len(made)} {self is made[0]}")

    server = serve(app)
    for _ in range(3):
        with RawClient.open(server.port) as client:
            client.send("?")
            assert client.recv() == "1 True"


class Nothing:
    pass


class NotCallable:
    message = "hello"


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (Nothing, "has none of the callbacks upgrade, open, message, drain, ping, pong, close"),
        (Nothing(), "has none of the callbacks"),
        (None, "None has none of the callbacks"),
        (5, "5 has none of the callbacks"),
        ("echo", "'echo' has none of the callbacks"),
        (NotCallable, "message of NotCallable is not callable, got 'hello'"),
    ],
)
def test_what_is_no_handler(handler: Any, message: str) -> None:
    app = fastws.App()
    with pytest.raises(TypeError) as caught:
        app.websocket("/")(handler)
    assert message in str(caught.value)
    app.websocket("/")(echo)  # nothing was left there


@pytest.mark.parametrize("handler", [echo_later, AsyncCallable(), AsyncCallable, functools.partial(echo_later)])
def test_a_view_ends_with_the_callback(handler: Any) -> None:
    app = fastws.App(binary="view")
    with pytest.raises(TypeError, match=r'binary="view" ends with the callback.*: use binary="bytes"'):
        app.websocket("/")(handler)
    app.websocket("/", binary="bytes")(handler)


# Callbacks that cannot be called


def line_of(callback: Any) -> str:
    """Where it stands, as messages say it."""
    code = inspect.unwrap(getattr(callback, "__func__", callback)).__code__
    return f"{code.co_filename}:{code.co_firstlineno}: "


def told(handler: Any, decorator: str = "websocket") -> str:
    """What is said of a handler. Nothing is left on its path."""
    app = fastws.App()
    with pytest.raises(TypeError) as caught:
        getattr(app, decorator)("/")(handler)
    app.websocket("/")(echo)
    app.http("/")(lambda request: fastws.Response())
    return str(caught.value)


def no_data(ws: Any) -> None: ...


async def one_too_many(ws: Any, data: Any, is_text: Any) -> None: ...


def needs_a_keyword(ws: Any, data: Any, *, database: Any) -> None: ...


def of_a_client() -> None: ...


def swapped(data: Any, ws: Any) -> None: ...


def of_a_class(self: Any, data: Any) -> None: ...


FUNCTIONS: dict[Callable[..., Any], str] = {
    no_data: "no_data takes (ws), but is called with (ws, data): write def no_data(ws, data)",
    one_too_many: "one_too_many takes (ws, data, is_text), but is called with (ws, data): "
    "write async def one_too_many(ws, data)",
    needs_a_keyword: "needs_a_keyword takes (ws, data, *, database), but is called with (ws, data): "
    "write def needs_a_keyword(ws, data)",
    of_a_client: "of_a_client takes (), but is called with (ws, data): write def of_a_client(ws, data)",
    swapped: "swapped takes (data, ws), but is called with (ws, data): write def swapped(ws, data)",
    of_a_class: "of_a_class takes (self, data), but is called with (ws, data): write def of_a_class(ws, data)",
}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_that_cannot_be_called(function: Any) -> None:
    assert told(function) == line_of(function) + FUNCTIONS[function]


def test_an_http_callback_that_cannot_be_called() -> None:
    for function, takes in ((of_a_client, "()"), (one_too_many, "(ws, data, is_text)")):
        define = f"{'async ' if function is one_too_many else ''}def {function.__name__}(request)"
        assert told(function, "http") == (
            f"{line_of(function)}{function.__name__} takes {takes}, but is called with (request): write {define}"
        )


def test_a_lambda_and_a_partial_that_cannot_be_called() -> None:
    wrong = lambda ws: None  # noqa: E731
    assert (
        told(wrong)
        == f"{line_of(wrong)}<lambda> takes (ws), but is called with (ws, data): write def message(ws, data)"
    )
    partial = functools.partial(one_too_many)
    assert told(partial) == line_of(one_too_many) + FUNCTIONS[one_too_many]
    assert told([].append) == "append takes (object, /), but is called with (ws, data): write def message(ws, data)"


class NoSelf:
    def message(ws: Any, data: Any) -> None: ...


class NoSelfButDefaults:
    async def message(ws: Any, data: Any = None, more: Any = None) -> None: ...


class CloseWithoutCode:
    def close(self, ws: Any) -> None: ...


class ReasonFirst:
    def close(self, ws: Any, reason: Any, code: Any) -> None: ...


class SelfOfAStatic:
    @staticmethod
    def open(self: Any) -> None: ...  # noqa: PLW0211


class UpgradeOfNothing:
    def upgrade(self) -> None: ...


class DrainWithData:
    def drain(self, ws: Any, data: Any) -> None: ...


class OfTheClass:
    @classmethod
    def open(cls) -> None: ...


class Alone:
    @staticmethod
    def pong(ws: Any) -> None: ...


class Decorated:
    def wrapped(self, ws: Any, data: Any) -> None: ...

    @functools.wraps(wrapped)
    def ping(self, ws: Any) -> None: ...


class CalledWithLess:
    def __call__(self, ws: Any) -> None: ...


METHODS: dict[type, tuple[str, str]] = {
    NoSelf: ("message", "takes (ws, data), but is called with (self, ws, data): write def message(self, ws, data)"),
    NoSelfButDefaults: (
        "message",
        "takes (ws, data=None, more=None), but is called with (self, ws, data): "
        "write async def message(self, ws, data)",
    ),
    CloseWithoutCode: (
        "close",
        "takes (self, ws), but is called with (self, ws, code, reason): write def close(self, ws, code, reason)",
    ),
    ReasonFirst: (
        "close",
        "takes (self, ws, reason, code), but is called with (self, ws, code, reason): "
        "write def close(self, ws, code, reason)",
    ),
    SelfOfAStatic: ("open", "takes (self), but is called with (ws): write def open(ws)"),
    UpgradeOfNothing: (
        "upgrade",
        "takes (self), but is called with (self, request): write def upgrade(self, request)",
    ),
    DrainWithData: ("drain", "takes (self, ws, data), but is called with (self, ws): write def drain(self, ws)"),
    OfTheClass: ("open", "takes (cls), but is called with (cls, ws): write def open(cls, ws)"),
    Alone: ("pong", "takes (ws), but is called with (ws, data): write def pong(ws, data)"),
    Decorated: ("ping", "takes (self, ws), but is called with (self, ws, data): write def ping(self, ws, data)"),
    CalledWithLess: (
        "__call__",
        "takes (self, ws), but is called with (self, ws, data): write def __call__(self, ws, data)",
    ),
}


@pytest.mark.parametrize("kind", METHODS)
def test_a_method_that_cannot_be_called(kind: Any) -> None:
    name, wrong = METHODS[kind]
    method = getattr(kind, name)
    code = getattr(method, "__func__", method).__code__
    expected = f"{__file__}:{code.co_firstlineno}: {name} of {kind.__name__} {wrong}"
    assert told(kind) == told(kind()) == expected


async def generates_later(ws: Any, data: Any) -> Any:
    yield data


def generates(ws: Any, data: Any) -> Any:
    yield data


def test_what_a_function_has_returned_is_no_handler() -> None:
    coroutine, generator, generator_later = echo_later(None, ""), generates(None, ""), generates_later(None, "")
    for one in (coroutine, generator, generator_later):
        assert told(one) == f"{one!r} is what a function has returned: give the function, without parentheses"
    coroutine.close()


class AsProperty:
    @property  # type: ignore[misc]
    def message(self, ws: Any, data: Any) -> None: ...  # noqa: PLR0206


class AsPropertyOfSelf:
    @property
    def message(self) -> int:
        return 5


def test_a_property_is_no_callback() -> None:
    for kind, what in ((AsProperty, "a property"), (AsPropertyOfSelf, "not callable, got 5")):
        function: Any = inspect.getattr_static(kind, "message").fget
        expected = f"{line_of(function)}message of {kind.__name__} is {what}: remove @property"
        assert told(kind) == told(kind()) == expected


class Counter:
    users: list[Any] = dataclasses.field(default_factory=list)

    def message(self, ws: Any, data: Any) -> None: ...


def test_a_dataclass_is_made_before_it_is_a_handler() -> None:
    assert told(Counter) == "Counter is no dataclass yet: write @app.websocket(path) above @dataclass, not below"
    fastws.App().websocket("/")(dataclasses.dataclass(Counter))


def test_a_method_is_not_decorated_in_its_class() -> None:
    app: Any = fastws.App()
    for decorator, given in ((app.websocket, "(ws, data)"), (app.http, "(request)")):
        with pytest.raises(TypeError) as caught:

            class Chat:
                @decorator("/")  # type: ignore[untyped-decorator]
                def handle(self, ws: Any) -> None: ...

        place, _, said = str(caught.value).partition(": ")
        assert place.startswith(f"{__file__}:")
        assert said == (
            "handle is a method, and is decorated while there is no instance: decorate its class, or write a function "
            f"outside of it, def handle{given}"
        )


def test_a_class_is_no_http_callback() -> None:
    for kind in (Nothing, WithMethods):
        assert told(kind, "http") == (
            f"an http callback is a function of the request, got {kind!r}: write def answer(request)"
        )


@types.coroutine
def old_coroutine(ws: Any, data: Any) -> Any:
    yield data


@pytest.mark.parametrize("function", [generates_later, generates, old_coroutine])
def test_a_generator_is_no_callback(function: Any) -> None:
    where = f"{__file__}:{function.__code__.co_firstlineno}: "
    why = "has a yield, so its body would never run: "
    for wrong in (function, functools.partial(function)):
        assert told(wrong) == f"{where}{function.__name__} {why}send with ws.send(), wait with await"
        assert told(wrong, "http") == f"{where}{function.__name__} {why}return the answer, wait with await"
    kind = type("Chat", (), {"upgrade": staticmethod(function)})
    assert told(kind) == f"{where}upgrade of Chat {why}return the answer, wait with await"


class SelfOfTheClass:
    """Its name for itself says nothing."""

    @classmethod
    def message(self, ws: Any, data: Any) -> None: ...


def claims(*args: Any) -> None: ...


claims.__signature__ = inspect.Signature()  # type: ignore[attr-defined]  # as a library copies it from what it wraps


def more_than_positions(*args: Any, ws: Any = None) -> None: ...


def wrapper(function: Any) -> Any:
    @functools.wraps(function)
    def call(*args: Any) -> Any:
        return function(*args)

    return call


def with_default(ws: Any, data: Any, more: Any = 1, *, last: Any = 2) -> None: ...


def with_other_names(a: Any, b: Any, /) -> None: ...


@pytest.mark.parametrize(
    "handler",
    [
        SelfOfTheClass,
        claims,
        more_than_positions,
        wrapper(no_data),
        with_default,
        with_other_names,
        functools.partial(echo_with, "prefix"),
        print,
        max,
    ],
)
def test_what_may_be_callable_is_left_alone(handler: Any) -> None:
    assert fastws.App().websocket("/")(handler) is handler


def test_an_http_callback_is_a_function() -> None:
    wrong: list[Any] = [None, fastws.Response(), "ok"]
    for callback in wrong:
        assert told(callback, "http").startswith("an http callback is a function of the request, got ")


def test_a_class_that_needs_arguments() -> None:
    class Chat:
        def __init__(self, database: Any) -> None: ...

        def message(self, ws: Any, data: Any) -> None: ...

    where = f"{__file__}:{Chat.__init__.__code__.co_firstlineno}: "
    wrong = (
        "Chat takes (database), but is instantiated without arguments: give an instance, app.websocket(path)(Chat(...))"
    )
    assert told(Chat) == where + wrong
    made = dataclasses.make_dataclass("Chat", ["database"], namespace={"message": Chat.message})
    assert told(made) == wrong
    fastws.App().websocket("/")(Chat("database"))


def test_what_a_constructor_raises_is_its_own() -> None:
    class Chat:
        def __init__(self) -> None:
            raise TypeError("no database")

        message = WithMethods.message

    assert told(Chat) == "no database"


@pytest.mark.parametrize("decorator", ["websocket", "http"])
def test_a_decorator_without_parentheses(decorator: str) -> None:
    decorate: Any = getattr(fastws.App(), decorator)
    paths: dict[Any, str] = {WithMethods: "WithMethods", no_data: "no_data", b"/chat": "b'/chat'", None: "None"}
    for path, name in paths.items():
        with pytest.raises(TypeError) as caught:
            decorate(path)
        where = line_of(path) if path is no_data else ""
        assert str(caught.value) == f'{where}{decorator}() takes a path, got {name}: write @app.{decorator}("/path")'


# Names that are near


def having(*names: str) -> type:
    return type("Chat", (), dict.fromkeys(names, lambda self, *args: None))


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        *((f"on_{name}", name) for name in handlers.CALLBACKS),
        ("onmessage", "message"),
        ("onMessage", "message"),
        ("onClose", "close"),
    ],
)
def test_on_message_and_the_like_are_an_error(name: str, meant: str) -> None:
    other = "drain" if meant != "drain" else "ping"
    for kind in (having(name), having(other, name)):
        assert re.fullmatch(
            rf"{re.escape(__file__)}:\d+: {name} of Chat is never called: did you mean {meant}\? "
            "The callbacks are upgrade, open, message, drain, ping, pong, close",
            told(kind),
        )


NEAR = {
    "closed": "close",
    "disconnect": "close",
    "on_disconnect": "close",
    "on_ws_disconnected": "close",
    "connection_lost": "close",
    "connect": "open",
    "on_connect": "open",
    "on_ws_connected": "open",
    "opened": "open",
    "receive": "message",
    "on_ws_frame": "message",
    "mesage": "message",
    "on_mesage": "message",
    "upgraded": "upgrade",
}


@pytest.mark.parametrize("name", NEAR)
def test_other_near_names_are_warned_of(name: str) -> None:
    with pytest.warns(UserWarning) as caught:
        fastws.App().websocket("/")(having("ping", name))
    (warning,) = caught
    asked = f"{name} of Chat is never called: did you mean {NEAR[name]}?"
    assert str(warning.message) == f"{asked} For a helper take a name that is not so near, _{name} say"
    line = Path(warning.filename).read_text().splitlines()[warning.lineno - 1]
    assert warning.filename == __file__ and "lambda self, *args: None" in line
    assert asked in told(having(name))


class Honest:
    """Names that are near, and meant as they are."""

    closed = False
    opened: Any = None

    @property
    def connect(self) -> Any:
        raise AssertionError("nothing is evaluated")

    def message(self, ws: Any, data: Any) -> None:
        self.on_message(ws, data)

    def on_message(self, ws: Any, data: Any) -> None: ...

    def receive(self) -> None: ...

    def _close(self) -> None: ...

    def broadcast(self) -> None: ...


class Nested:
    class Message:
        pass

    def open(self, ws: Any) -> None: ...


def test_names_that_are_meant_so() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fastws.App().websocket("/")(Honest)
        fastws.App().websocket("/")(Honest())
        fastws.App().websocket("/")(Nested)


# The base


def test_the_base_has_no_callback(serve: Serving) -> None:
    """What a class has from `fastws.Handler` is not called, but may be."""

    class Chat(fastws.Handler):
        def message(self, ws: fastws.WebSocket, data: str) -> None:
            super().message(ws, data)
            ws.send(data)

    assert told(fastws.Handler).endswith(" has none of the callbacks upgrade, open, message, drain, ping, pong, close")
    found = handlers.callbacks_of(Chat, False)
    assert [name for name, callback in found.items() if callback is not None] == ["message"]
    app = fastws.App()
    app.websocket("/")(Chat)
    server = serve(app)
    with RawClient.open(server.port) as client:
        client.send("hello")
        assert client.recv() == "hello"


def test_the_base_has_all_callbacks() -> None:
    for name, arguments in handlers.CALLBACKS.items():
        assert tuple(inspect.signature(getattr(fastws.Handler(), name)).parameters) == arguments


# What type checkers say


def test_type_checkers_know_what_a_handler_is() -> None:
    """mypy, which checks the tests, complains about an ignored error that is none: it must find each of these."""
    app = fastws.App()

    @app.websocket("/1")
    def few(ws: fastws.WebSocket, data: str) -> None: ...

    @app.websocket("/2")
    @app.websocket("/3")
    async def later(ws: fastws.WebSocket, data: str | bytes) -> None: ...

    @app.websocket("/4")
    class OnlyOpen:
        def open(self, ws: fastws.WebSocket) -> None: ...

    @app.websocket("/5", max_topics=5)
    class Some:
        async def upgrade(self, request: fastws.Request) -> fastws.Accept | fastws.Response | None:
            return request.accept()

        @staticmethod
        def ping(ws: fastws.WebSocket, data: bytes) -> None: ...

        @classmethod
        async def close(cls, ws: fastws.WebSocket, code: int, reason: str) -> None: ...

    @app.websocket("/6")
    class All(fastws.Handler):
        def upgrade(self, request: fastws.Request) -> fastws.Response:
            return request.reject(403)

        async def open(self, ws: fastws.WebSocket) -> None: ...
        def message(self, ws: fastws.WebSocket, data: str) -> None: ...
        async def drain(self, ws: fastws.WebSocket) -> None: ...
        def ping(self, ws: fastws.WebSocket, data: bytes) -> None: ...
        def pong(self, ws: fastws.WebSocket, data: bytes) -> None: ...
        def close(self, ws: fastws.WebSocket, code: int, reason: str) -> None: ...

    @app.websocket("/7")
    class Called:
        def __call__(self, ws: fastws.WebSocket, data: str) -> None: ...

    app.websocket("/8")(Called())
    app.websocket("/9")(Called().__call__)
    app.websocket("/10")(functools.partial(few))
    app.websocket("/11")(lambda ws, data: ws.send(data))
    app.websocket("/12")(WithAttributes())

    @app.http("/1")
    def page(request: fastws.Request) -> fastws.Response:
        return fastws.Response()

    @app.http("/2")
    async def page_later(request: fastws.Request) -> fastws.Response:
        return fastws.Response()

    # What is decorated stays what it is.
    functions: tuple[Callable[[fastws.WebSocket, str], None], Callable[[fastws.Request], Awaitable[fastws.Response]]]
    functions = few, page_later
    kinds: tuple[type[OnlyOpen], type[All]] = OnlyOpen, All
    assert functions and kinds


def test_type_checkers_know_what_a_handler_is_not() -> None:
    app = fastws.App()

    def no_data(ws: fastws.WebSocket) -> None: ...
    def keyword(ws: fastws.WebSocket, data: str, *, database: int) -> None: ...

    class NoData:
        def message(self, ws: fastws.WebSocket) -> None: ...

    class NoSelf:
        def message(ws, data: str) -> None: ...

    class NoCode:
        def close(self, ws: fastws.WebSocket) -> None: ...

    class OnMessage:
        def on_message(self, ws: fastws.WebSocket, data: str) -> None: ...

    class Mixed(fastws.Handler):
        def open(self, ws: fastws.WebSocket) -> None: ...
        def message(self, ws: fastws.WebSocket) -> None: ...  # type: ignore[override]

    def no_request() -> fastws.Response:
        return fastws.Response()

    with pytest.raises(TypeError):
        app.websocket("/")(no_data)  # type: ignore[type-var]
    with pytest.raises(TypeError):
        app.websocket("/")(keyword)  # type: ignore[type-var]
    with pytest.raises(TypeError):
        app.websocket("/")(NoData)  # type: ignore[type-var]
    with pytest.raises(TypeError):
        app.websocket("/")(NoData())  # type: ignore[type-var]
    with pytest.raises(TypeError):
        app.websocket("/")(NoSelf)  # type: ignore[type-var]
    with pytest.raises(TypeError):
        app.websocket("/")(NoCode)  # type: ignore[type-var]
    with pytest.raises(TypeError):
        app.websocket("/")(OnMessage)  # type: ignore[type-var]
    with pytest.raises(TypeError):
        app.websocket("/")(Mixed)
    with pytest.raises(TypeError):
        app.websocket("/")(5)  # type: ignore[type-var]
    with pytest.raises(TypeError):
        app.http("/")(no_request)  # type: ignore[type-var]
    with pytest.raises(TypeError):
        app.websocket(NoData)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        app.http(no_request)  # type: ignore[arg-type]


# What a callback sets on its handler


@pytest.fixture
def caught() -> Iterator[list[tuple[str, str]]]:
    """Each RuntimeWarning, and the line that it points to."""
    notes: list[tuple[str, str]] = []

    def note(message: Any, category: Any, filename: str, lineno: int, *rest: Any) -> None:
        assert category is RuntimeWarning
        notes.append((str(message), Path(filename).read_text().splitlines()[lineno - 1].strip()))

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = cast(Any, note)
        yield notes


def is_guarded(kind: type) -> bool:
    return isinstance(vars(kind).get("__setattr__"), handlers._Guard)


def about(name: str, callback: str, kind: str = "Chat") -> str:
    return (
        f"{kind}.{name} is set by the callback {callback}, but one {kind} serves all connections: keep what belongs "
        f"to a connection in ws.data (or give an instance, app.websocket(path)({kind}()), whose attributes are meant "
        "for all)"
    )


def make_chat() -> Any:
    class Chat:
        def __init__(self) -> None:
            self.user = ""
            self.room = ""
            self.last = ""

        def open(self, ws: Any) -> None:
            self.user = "ann"
            self.enter("den")

        def enter(self, room: str) -> None:
            self.room = room

        @wrapper
        async def message(self, ws: Any, data: Any) -> None:
            await asyncio.sleep(0)
            await self.note(data)
            ws.send(data)

        async def note(self, data: Any) -> None:
            await asyncio.sleep(0)
            self.last = data
            self.user = data

    return Chat


def talk(serve: Serving, app: fastws.App, times: int) -> None:
    server = serve(app)
    for _ in range(times):
        with RawClient.open(server.port) as client:
            client.send("hello")
            assert client.recv() == "hello"


def test_what_a_callback_sets_is_warned_of_once(serve: Serving, caught: Any) -> None:
    """Each attribute, at its line, in functions that a callback calls as well. Then the class is as it was."""
    Chat = make_chat()
    app = fastws.App()
    app.websocket("/")(Chat)
    assert is_guarded(Chat)
    talk(serve, app, 3)
    assert caught == [
        (about("user", "open"), 'self.user = "ann"'),
        (about("room", "open"), "self.room = room"),
        (about("last", "message"), "self.last = data"),
    ]
    assert "__setattr__" not in vars(Chat)


def test_with_debug_each_line_is_warned_of(serve: Serving, caught: Any) -> None:
    Chat = make_chat()
    app = fastws.App(debug=True)
    fastws.App().websocket("/")(Chat)
    app.websocket("/")(Chat)
    talk(serve, app, 2)
    assert caught == [
        (about("user", "open"), 'self.user = "ann"'),
        (about("room", "open"), "self.room = room"),
        (about("last", "message"), "self.last = data"),
        (about("user", "message"), "self.user = data"),
    ]
    assert is_guarded(Chat)


def test_debug_is_true_or_false() -> None:
    with pytest.raises(TypeError, match="debug is True or False, got 'no'"):
        fastws.App(debug="no")  # type: ignore[arg-type]


PROGRAM = """
import fastws
app = fastws.App()
@app.websocket("/")
class Chat:
    def __init__(self):
        global chat
        chat = self
    def open(self, ws):
        self.user = 1
        self.user = 2
chat.open(None)
"""


@pytest.mark.parametrize(("flags", "lines"), [((), [10]), (("-X", "dev"), [10, 11])])
def test_python_x_dev_is_debug(tmp_path: Path, flags: tuple[str, ...], lines: list[int]) -> None:
    (tmp_path / "server.py").write_text(PROGRAM)
    done = python(*flags, "server.py", cwd=tmp_path)
    assert done.returncode == 0
    assert re.findall(r"server\.py:(\d+): RuntimeWarning: (.*)", done.stderr) == [
        (str(line), about("user", "open")) for line in lines
    ]


def test_what_is_not_warned_of(serve: Serving, caught: Any) -> None:
    """An instance that was given, a class with a __setattr__ of its own, what no callback sets, another instance."""

    class Own(make_chat()):  # type: ignore[misc]
        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, value)

    for handler in (make_chat()(), Own):
        app = fastws.App(debug=True)
        app.websocket("/")(handler)
        talk(serve, app, 1)
    made: list[Any] = []

    class Noted(make_chat()):  # type: ignore[misc]
        def __init__(self) -> None:
            made.append(self)

    app = fastws.App(debug=True)
    app.websocket("/")(Noted)
    made[0].user = "set from elsewhere"
    Noted().open(None)
    assert [one.user for one in made] == ["set from elsewhere", "ann"] and is_guarded(Noted)
    assert caught == []


def test_classes_of_all_kinds_are_handlers(serve: Serving, caught: Any) -> None:
    @dataclasses.dataclass(frozen=True)
    class Frozen:
        def message(self, ws: Any, data: Any) -> None:
            with pytest.raises(dataclasses.FrozenInstanceError):
                self.user = data
            ws.send(data)

    class Slots:
        __slots__ = ("user",)

        def message(self, ws: Any, data: Any) -> None:
            self.user = data
            with pytest.raises(AttributeError):
                self.other = data  # type: ignore[misc]
            ws.send(data)

    class Refusing(type):
        def __setattr__(cls, name: str, value: Any) -> None:
            raise AssertionError("its classes do not change")

    class Refused(metaclass=Refusing):
        def message(self, ws: Any, data: Any) -> None:
            self.user = data
            ws.send(data)

    class OfC(ValueError):
        def message(self, ws: Any, data: Any) -> None:
            self.user = data
            ws.send(data)

    for kind in (Frozen, Slots, Refused, OfC):
        app = fastws.App()
        app.websocket("/")(kind)
        talk(serve, app, 2)
    told = [about("user", "message", "Slots"), about("user", "message", "Refused")]
    if "__setattr__" not in vars(BaseException):  # which has one up to Python 3.12
        told.append(about("user", "message", "OfC"))
    assert [text for text, _ in caught] == told
    handlers._guard(array.array("b"), {}, False)


def test_a_class_and_its_base_are_handlers_both(caught: Any) -> None:
    made: list[Any] = []

    class Base:
        def __init__(self) -> None:
            made.append(self)

        def open(self, ws: Any) -> None:
            self.user = ws

    class Derived(Base):
        pass

    class Upper:
        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, value.upper())

    class Mixed(Base, Upper):
        pass

    app = fastws.App()
    for number, kind in enumerate((Base, Derived, Base)):
        app.websocket(f"/{number}")(kind)
    app.websocket("/mixed")(Mixed)
    made[3].open("ann")
    assert made.pop().user == "ANN" and is_guarded(Base)
    for handler in made:
        handler.open("ann")
        assert handler.user == "ann"
    assert [text for text, _ in caught] == [about("user", "open", "Base"), about("user", "open", "Derived")]
    assert not is_guarded(Base)


def test_a_guard_leaves_after_many_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that sets an attribute again and again pays for it no longer."""
    monkeypatch.setattr(handlers, "_LOOKS", 3)
    made: list[Any] = []

    class Chat:
        def __init__(self) -> None:
            made.append(self)

        def open(self, ws: Any) -> None: ...

    fastws.App().websocket("/")(Chat)
    for number in range(4):
        assert is_guarded(Chat)
        made[0].latest = number
    assert not is_guarded(Chat) and made[0].latest == 3


class Kept:
    def open(self, ws: Any) -> None: ...


def test_a_guard_keeps_no_handler_alive() -> None:
    app = fastws.App()
    app.websocket("/")(Kept)
    callback = app._routes[0][1]["open"]
    instance = weakref.ref(callback.__self__)  # type: ignore[union-attr]
    assert instance() is not None
    del app, callback
    gc.collect()
    assert instance() is None
