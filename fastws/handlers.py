"""Handlers: which callbacks a class, an object or a function has, and whether the server can call them.

A handler is judged when it is decorated, so a mistake is reported with its file and line before a client connects.
`_Guard` notices what callbacks set on a handler later.
"""

import dataclasses
import inspect
import sys
import warnings
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any, Protocol, TypeVar, cast
from weakref import ref

from fastws._speedups import WebSocket
from fastws.http import Accept, Request, Response

Callbacks = dict[str, Callable[..., Any] | None]
Verdict = Accept | Response | None
HttpCallback = Callable[[Request], Response | Awaitable[Response]]

#: Each callback, with what it is called with.
CALLBACKS = {
    "upgrade": ("request",),
    "open": ("ws",),
    "message": ("ws", "data"),
    "drain": ("ws",),
    "ping": ("ws", "data"),
    "pong": ("ws", "data"),
    "close": ("ws", "code", "reason"),
}

#: What other libraries call them, without "on", "ws" and underscores.
_FOREIGN = {
    **dict.fromkeys(("connect", "connected", "opened"), "open"),
    **dict.fromkeys(("receive", "received", "receivejson", "recv", "frame", "data", "datareceived"), "message"),
    **dict.fromkeys(("disconnect", "disconnected", "closed", "connectionclosed", "connectionlost"), "close"),
}

#: Names that resemble a callback's less than this are helpers': difflib's default takes `usage` for `message`.
_CLOSE = 0.8

#: How far up the stack a guard looks for a callback.
_FRAMES = 100
#: How many attributes that are set a guard looks at. Then it leaves.
_LOOKS = 1000

_SIGNATURE: dict[str, Any] = {"follow_wrapped": False}
if sys.version_info >= (3, 14):
    from annotationlib import Format

    _SIGNATURE["annotation_format"] = Format.FORWARDREF  # what stands under TYPE_CHECKING is not there


class Handler:
    """A base for handlers that are classes. They need none, but with it type checkers compare each callback with what
    the server calls. All callbacks are optional, and `def` or `async def`; those of this base are never called.

    One instance serves all connections: what belongs to one of them is kept in `ws.data`."""

    def upgrade(self, request: Request, /) -> Verdict | Awaitable[Verdict]:
        """Before the 101. Returns `request.accept(...)`, `request.reject(...)`, or None to accept as it is."""
        return None

    def open(self, ws: WebSocket, /) -> object:
        """The connection is open; `ws.data` is what `accept` was given."""

    def message(self, ws: WebSocket, data: Any, /) -> object:
        """A whole message: str for text, bytes for binary; see the options `text` and `binary`."""

    def drain(self, ws: WebSocket, /) -> object:
        """The peer took what was queued: unsent bytes are at or below `low_water` again."""

    def ping(self, ws: WebSocket, data: bytes, /) -> object:
        """A Ping came, with at most 125 bytes. It has been answered."""

    def pong(self, ws: WebSocket, data: bytes, /) -> object:
        """A Pong came, with at most 125 bytes."""

    def close(self, ws: WebSocket, code: int, reason: str, /) -> object:
        """The connection has ended, with this code (1005: the peer gave none, 1006: there was no Close) and reason."""


# For type checkers: a handler has at least one callback that fits. A class that has others, too, which do not fit, is
# caught with `Handler` as its base.


class _Upgrades(Protocol):
    def upgrade(self, request: Request, /) -> Verdict | Awaitable[Verdict]: ...


class _Opens(Protocol):
    def open(self, ws: WebSocket, /) -> object: ...


class _TakesMessages(Protocol):
    def message(self, ws: WebSocket, data: Any, /) -> object: ...


class _Drains(Protocol):
    def drain(self, ws: WebSocket, /) -> object: ...


class _TakesPings(Protocol):
    def ping(self, ws: WebSocket, data: Any, /) -> object: ...


class _TakesPongs(Protocol):
    def pong(self, ws: WebSocket, data: Any, /) -> object: ...


class _Closes(Protocol):
    def close(self, ws: WebSocket, code: int, reason: str, /) -> object: ...


class _IsCalled(Protocol):
    def __call__(self, ws: WebSocket, data: Any, /) -> object: ...


_Fits = _Upgrades | _Opens | _TakesMessages | _Drains | _TakesPings | _TakesPongs | _Closes | _IsCalled

#: A handler: it comes out of `websocket()` as it is.
H = TypeVar("H", bound=_Fits | type[_Fits])
#: The same of `http()`.
P = TypeVar("P", bound=HttpCallback)


# What is judged when decorated


def callbacks_of(handler: object, debug: bool) -> Callbacks:
    """The callbacks of a handler, None for those that it does not have. A class is instantiated; what its callbacks set
    on the instance is warned of once, with `debug` for each line. TypeError for a handler without callbacks, for a
    callback that cannot be called as the server does, for `on_message` and the like."""
    is_class = inspect.isclass(handler)
    if inspect.isclass(handler):
        handler = _instance_of(handler)
    if inspect.iscoroutine(handler) or inspect.isgenerator(handler) or inspect.isasyncgen(handler):
        raise TypeError(f"{handler!r} is what a function has returned: give the function, without parentheses")
    _judge_properties(handler)
    callbacks: Callbacks = {name: getattr(handler, name, None) for name in CALLBACKS}
    for name, callback in callbacks.items():
        if getattr(callback, "__func__", None) is vars(Handler)[name]:
            callbacks[name] = None
    is_function = inspect.isroutine(handler)
    if is_function or (callable(handler) and all(one is None for one in callbacks.values())):
        callbacks = {**dict.fromkeys(CALLBACKS), "message": cast(Callable[..., Any], handler)}
    if not is_function:
        _judge_names(handler, callbacks)
    if all(one is None for one in callbacks.values()):
        raise TypeError(f"{handler!r} has none of the callbacks {', '.join(CALLBACKS)}")
    for name, callback in callbacks.items():
        if callback is not None and not callable(callback):
            found = _static(handler, name)
            how = ": remove @property" if isinstance(found, property) else ""
            raise TypeError(
                f"{_where(found)}{name} of {_name(type(handler))} is not callable, got {callback!r:.100}{how}"
            )
        if callback is not None:
            _judge(callback, CALLBACKS[name], name, None if callback is handler else handler)
    if is_class:
        _guard(handler, callbacks, debug)
    return callbacks


def judge_http(callback: object) -> None:
    """TypeError for what cannot be called with a request alone."""
    if not callable(callback) or (inspect.isclass(callback) and not issubclass(callback, Response)):
        raise TypeError(f"an http callback is a function of the request, got {callback!r}: write def answer(request)")
    _judge(callback, ("request",), "answer", None)


def judge_path(path: object, decorator: str) -> None:
    """TypeError for a path that is no str, as where a decorator is written without parentheses."""
    if not isinstance(path, str):
        raise TypeError(f'{_where(path)}{decorator}() takes a path, got {_name(path)}: write @app.{decorator}("/path")')


def is_async(callback: object) -> bool:
    """Whether the callback is an `async def`, or an object that is called as one."""
    return inspect.iscoroutinefunction(callback) or inspect.iscoroutinefunction(getattr(callback, "__call__", None))  # noqa: B004


def _instance_of(kind: type) -> object:
    if any(isinstance(value, dataclasses.Field) for value in vars(kind).values()):
        raise TypeError(f"{kind.__name__} is no dataclass yet: write @app.websocket(path) above @dataclass, not below")
    try:
        return kind()
    except TypeError:
        if fits(kind, ()):
            raise  # it is the constructor's own
        name = kind.__name__
        raise TypeError(
            f"{_where(getattr(kind, '__init__', None))}{name} takes {takes(kind)}, but is instantiated without "
            f"arguments: give an instance, app.websocket(path)({name}(...))"
        ) from None


def _judge_names(handler: object, callbacks: Callbacks) -> None:
    """Looks for names that were probably meant as a callback that the handler does not have. `on_message` and the like
    are an error; other names may be those of helpers, so they are warned of."""
    for name in dir(handler):
        if name.startswith("_") or name in CALLBACKS:
            continue
        plain = name.replace("_", "").lower()
        bare = plain.removeprefix("on").removeprefix("ws")
        near = _FOREIGN.get(bare) or next(iter(get_close_matches(bare, CALLBACKS, 1, _CLOSE)), None)
        if near is None or callbacks[near] is not None:
            continue
        found = _static(handler, name)
        if inspect.isclass(found) or not (callable(found) or isinstance(found, classmethod)):
            continue
        mistake = f"{name} of {_name(type(handler))} is never called: did you mean {near}?"
        if plain == f"on{near}" or all(one is None for one in callbacks.values()):
            raise TypeError(f"{_where(found)}{mistake} The callbacks are {', '.join(CALLBACKS)}")
        code = _code(found)
        warnings.warn_explicit(
            f"{mistake} For a helper take a name that is not so near, _{name} say",
            UserWarning,
            code.co_filename if code else "<unknown>",
            code.co_firstlineno if code else 0,
            module=type(handler).__module__,
        )


def _judge_properties(handler: object) -> None:
    """TypeError for a callback that is a property of more than `self`, which would raise one about its arguments."""
    for name in CALLBACKS:
        found = _static(handler, name)
        if isinstance(found, property) and found.fget is not None and not fits(found.fget, ("self",)):
            raise TypeError(f"{_where(found)}{name} of {_name(type(handler))} is a property: remove @property")


def _judge(callback: Callable[..., Any], arguments: tuple[str, ...], name: str, handler: object) -> None:
    """handler: the object whose callback it is; None where the callback is all there is."""
    call = getattr(callback, "__call__", None)  # noqa: B004
    if handler is None and inspect.ismethod(call):
        handler, callback, name = callback, call, "__call__"
    function = _function(callback)
    who = _name(function or callback) if handler is None else f"{name} of {_name(type(handler))}"
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        do = "return the answer" if arguments == ("request",) else "send with ws.send()"
        raise TypeError(f"{_where(callback)}{who} has a yield, so its body would never run: {do}, wait with await")
    is_right = fits(callback, arguments)
    called = arguments
    if inspect.ismethod(callback):
        called = ("cls" if inspect.isclass(callback.__self__) else "self", *arguments)
        callback = callback.__func__
    if not is_right or _names_another(callback, called):
        given = f"({', '.join(called)})"
        if handler is None and function is not None and _is_method(function):
            raise TypeError(
                f"{_where(callback)}{who} is a method, and is decorated while there is no instance: decorate its "
                f"class, or write a function outside of it, def {_name(function, name)}{given}"
            )
        define = "async def" if is_async(callback) else "def"
        raise TypeError(
            f"{_where(callback)}{who} takes {takes(callback)}, but is called with {given}: "
            f"write {define} {name if handler is not None else _name(function, name)}{given}"
        )


def _is_method(function: FunctionType) -> bool:
    """Whether it stands in a class and begins with `self` or `cls`."""
    outer = function.__qualname__.rpartition(".")[0]
    return outer != "" and not outer.endswith("<locals>") and function.__code__.co_varnames[:1] in (("self",), ("cls",))


def _static(handler: object, name: str) -> object:
    """What the handler, or one of its classes, has under a name, without asking a descriptor; None for nothing.
    inspect.getattr_static() of Python 3.12.1 keeps the last 128 classes, and all that hangs on them."""
    for one in (handler, *type(handler).__mro__):
        own: object = getattr(one, "__dict__", None)
        if isinstance(own, Mapping) and name in own:
            return own[name]
    return None


def _signature(callback: Callable[..., Any]) -> inspect.Signature | None:
    """How it can be called; None where that is not known. A `__signature__` is what a library claims: do not judge by
    it."""
    if getattr(callback, "__signature__", None) is not None:
        return None
    try:
        return inspect.signature(callback, **_SIGNATURE)
    except (TypeError, ValueError):
        return None


def fits(callback: Callable[..., Any], arguments: tuple[str, ...]) -> bool:
    signature = _signature(callback)
    if signature is not None:
        try:
            signature.bind(*arguments)
        except TypeError:
            return False
    return True


def _names_another(callback: Callable[..., Any], called: tuple[str, ...]) -> bool:
    """Whether a parameter has the name of another argument than it gets: where the number fits, data may be taken for
    ws, or without `self` the handler for it."""
    signature = _signature(callback)
    if signature is None:
        return False
    named = [one.name for one in signature.parameters.values() if one.kind <= one.POSITIONAL_OR_KEYWORD]
    first = {"self", "cls"}
    return any(
        name != own and name in (set(called) | first) and not {name, own} <= first
        for name, own in zip(named, called, strict=False)
    )


def takes(callback: Callable[..., Any]) -> str:
    signature = _signature(callback)
    if signature is None:
        return "other arguments"
    bare = [one.replace(annotation=one.empty) for one in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=signature.empty))


def _function(callback: object) -> FunctionType | None:
    """The Python function that is called; None for what is written in C."""
    if isinstance(callback, partial):
        return _function(callback.func)
    if isinstance(callback, MethodType | staticmethod | classmethod):
        return _function(callback.__func__)
    if isinstance(callback, property):
        return _function(callback.fget)
    call = callback if isinstance(callback, FunctionType) else getattr(type(callback), "__call__", None)  # noqa: B004
    return call if isinstance(call, FunctionType) else None


def _code(callback: object) -> CodeType | None:
    function = _function(callback)
    return None if function is None else function.__code__


def _where(callback: object) -> str:
    code = _code(callback)
    # A dataclass has its __init__ from "<string>".
    return "" if code is None or code.co_filename == "<string>" else f"{code.co_filename}:{code.co_firstlineno}: "


def _name(thing: object, otherwise: str = "") -> str:
    name = str(getattr(thing, "__name__", ""))
    return name if name.isidentifier() else otherwise or name or repr(thing)


# What is noticed while it serves


class _Guard:
    """The `__setattr__` of a class that was instantiated for all connections. It notices what a callback sets on the
    instance: the user takes such an attribute for one connection's, and all connections share it.

    The guard leaves the class when an attribute is set again that was warned of, or after `_LOOKS` looks; then setting
    costs what it did. With `debug` it stays, and warns of each line. It sees neither attributes of the class, nor
    `del`, nor what a task sets that a callback has started.
    """

    def __init__(self, kind: type[Any], debug: bool) -> None:
        self.kind, self.debug = kind, debug
        self.instances: list[Callable[[], object]] = []
        self.callbacks: dict[CodeType, str] = {}
        self.warned_of: set[object] = set()
        self.looks = 0

    def remember(self, instance: object) -> None:
        """Guards it, and keeps it alive only if its slots are without `__weakref__`."""
        try:
            known: Callable[[], object] = ref(instance)
        except TypeError:
            known = partial(_the_same, instance)
        self.instances = [*(one for one in self.instances if one() is not None), known]

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __call__(self, instance: object, name: str, value: object) -> None:
        super(self.kind, instance).__setattr__(name, value)  # type: ignore[misc]
        if not any(one() is instance for one in self.instances):
            return
        place = sys._getframe(1)
        what = (name, place.f_code, place.f_lineno) if self.debug else name
        self.looks += 1
        if not self.debug and (what in self.warned_of or self.looks > _LOOKS):
            self._leave()
        callback = None if what in self.warned_of else self._callback_around(place)
        if callback is None:
            return
        self.warned_of.add(what)
        kind = self.kind.__name__
        warnings.warn(
            f"{kind}.{name} is set by the callback {callback}, but one {kind} serves all connections: keep what "
            f"belongs to a connection in ws.data (or give an instance, app.websocket(path)({kind}()), whose attributes "
            "are meant for all)",
            RuntimeWarning,
            stacklevel=2,
        )

    def _callback_around(self, frame: Any) -> str | None:
        for _ in range(_FRAMES):
            if frame is None:
                break
            if frame.f_code in self.callbacks:
                return self.callbacks[frame.f_code]
            frame = frame.f_back
        return None

    def _leave(self) -> None:
        if vars(self.kind).get("__setattr__") is self:
            with suppress(AttributeError):  # another thread was quicker
                type.__delattr__(self.kind, "__setattr__")


def _the_same(instance: object) -> object:
    return instance


def _guard(instance: object, callbacks: Callbacks, debug: bool) -> None:
    """Guards an instance, unless its class has a `__setattr__` of its own, or cannot be given one."""
    kind = type(instance)
    there = [vars(base)["__setattr__"] for base in kind.__mro__[:-1] if "__setattr__" in vars(base)]
    if not all(isinstance(one, _Guard) for one in there):
        return
    guard = vars(kind).get("__setattr__") or _Guard(kind, debug)
    guard.debug = guard.debug or debug
    guard.remember(instance)
    for name, callback in callbacks.items():
        function = _function(callback)
        code = None if function is None else _code(inspect.unwrap(function))  # wrappers may be several callbacks'
        if code is not None:
            guard.callbacks[code] = name
    with suppress(TypeError):  # a type written in C
        # As a metaclass may have a __setattr__ of its own.
        type.__setattr__(kind, "__setattr__", guard)
