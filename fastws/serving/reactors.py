"""The reactor of a loop: made when its first server starts, closed when its last one has ended."""

import asyncio
import weakref

from fastws._speedups import Reactor

#: By id(loop). The loop holds the reactor through its reader; the reactor holds the loop.
_reactors: weakref.WeakValueDictionary[int, Reactor] = weakref.WeakValueDictionary()


def reactor_of(loop: asyncio.AbstractEventLoop) -> Reactor:
    """The loop's open reactor. OSError where it cannot be made."""
    reactor = _reactors.get(id(loop))
    if reactor is None or reactor.loop is not loop or not reactor.is_open:
        reactor = _reactors[id(loop)] = Reactor(loop)
    return reactor
