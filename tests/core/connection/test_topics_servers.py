"""One topic over several routes, servers, loops and threads of an App, and over their ends."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from harness import RawClient, ServerThread, Serving, client_of, elsewhere, eventually, make_app, new_loop

import fastws


class Room:
    """Everybody is in "room", and says what comes from its client to the others there."""

    def open(self, ws: Any) -> None:
        ws.subscribe("room")

    def message(self, ws: Any, data: Any) -> None:
        ws.publish("room", data)


def joined(app: Any, count: int) -> None:
    eventually(lambda: app.num_subscribers("room") == count, 3.0, f"{count} in the room")


def test_over_two_routes(serve: Serving) -> None:
    app = make_app(Room)
    app.websocket("/other/{number}", max_topics=1)(Room)
    server = serve(app)
    one, two = RawClient.open(server.port), RawClient.open(server.port, "/other/2")
    joined(app, 2)
    one.send("from one")
    two.send("from two")
    assert (two.recv(), one.recv()) == ("from one", "from two")
    assert server.call(app.publish, "room", b"both") == 2
    assert one.recv() == two.recv() == b"both"


def test_two_servers_on_one_loop(serve: Serving) -> None:
    app = make_app(Room)
    server = serve(app)
    second = server.call(app.start, "127.0.0.1", 0)
    clients = [RawClient.open(port) for port in (server.port, second.port, second.port)]
    joined(app, 3)
    assert server.call(app.publish, "room", "all") == 3
    assert [client.recv() for client in clients] == ["all"] * 3
    clients[1].send("from the second")
    assert clients[0].recv() == clients[2].recv() == "from the second"
    assert app.stats()["topics"] == 2
    server.call(second.stop, 0.1)
    joined(app, 1)
    assert server.call(app.publish, "room", "the first") == 1
    assert clients[0].recv() == "the first"


def test_subscribers_of_all_servers_are_listed(serve: Serving) -> None:
    """Of all servers, from any thread; who is not open any more is none, nor is a hole in the midst of publishing."""
    app = make_app(Room)
    servers = [serve(app), serve(app)]
    clients = [RawClient.open(servers[number % 2].port) for number in range(6)]
    joined(app, 6)
    everybody = {ws for server in servers for ws in server.call(lambda server=server: list(server.server.connections))}
    assert len(everybody) == 6
    for subscribers in (app.subscribers("room"), *(server.call(app.subscribers, "room") for server in servers)):
        assert type(subscribers) is list and len(subscribers) == 6 and set(subscribers) == everybody
    assert app.subscribers("nothing") == []
    for wrong, kind in ((None, TypeError), ("", ValueError)):
        with pytest.raises(kind):
            app.subscribers(wrong)  # type: ignore[arg-type]
    found = servers[0].call(app.subscribers, "room")
    mine = servers[0].call(lambda: [ws for ws in found if ws in servers[0].server.connections])
    assert len(mine) == 3
    with pytest.raises(RuntimeError, match="call_soon_threadsafe"):
        mine[0].send("from this thread")

    def close_and_look() -> list[Any]:
        mine[0].close()
        mine[1].unsubscribe("room")
        return app.subscribers("room")

    assert set(servers[0].call(close_and_look)) == everybody - {mine[0], mine[1]}
    servers[1].stop_server()
    assert app.subscribers("room") == [mine[2]]
    assert servers[0].call(mine[2].send, "you") == fastws.SENT
    del clients


def test_two_servers_in_two_threads(serve: Serving) -> None:
    """A publisher's own thread is counted; the other gets it as well. A third thread counts nobody."""
    app = make_app(Room)
    first, second = serve(app), serve(app)
    one, two, three = (RawClient.open(server.port) for server in (first, second, second))
    joined(app, 3)
    assert first.call(app.publish, "room", "first") == 1
    assert second.call(app.publish, "room", b"second") == 2
    assert app.publish("room", "third thread") == 0
    one.send("from one")
    heard = ["first", b"second", "third thread"]
    for client in (one, two, three):
        got = [client.recv() for _ in range(3)]
        assert sorted(map(str, got)) == sorted(map(str, heard))
    assert two.recv() == three.recv() == "from one"
    two.send(b"from two")
    assert one.recv() == three.recv() == b"from two"
    second.stop()
    assert app.num_subscribers("room") == 1
    assert app.publish("room", "one is left") == 0
    assert one.recv() == "one is left"
    assert first.call(app.publish, "room", "still") == 1
    assert one.recv() == "still"
    first.stop()
    assert app.num_subscribers("room") == 0
    assert app.publish("room", "nobody") == 0


@pytest.mark.parametrize("size", [10, 100_000])
def test_the_order_of_each_publisher_in_another_thread(serve: Serving, size: int) -> None:
    """Four threads without a loop and a callback publish at once; nobody misses or swaps anything."""
    count = 100
    app = make_app(Room, max_backpressure=1 << 40)
    servers = [serve(app), serve(app)]
    clients = [RawClient.open(servers[n % 2].port) for n in range(4)]
    joined(app, 4)
    body = bytes(size)

    def publish(who: int) -> None:
        for number in range(count):
            data = b"%d %d " % (who, number) + body
            app.publish("room", fastws.prepare(data) if number % 2 else data)

    def send() -> None:
        for number in range(count):
            clients[0].send(b"4 %d " % number + body)

    threads = [threading.Thread(target=publish, args=(who,)) for who in range(4)]
    sends = threading.Thread(target=send)
    for thread in (*threads, sends):
        thread.start()
    got: list[dict[int, list[int]]] = []
    for client in clients:
        heard: dict[int, list[int]] = {who: [] for who in range(5)}
        for _ in range((4 if client is clients[0] else 5) * count):
            data = client.recv()
            assert isinstance(data, bytes)
            publisher, number, rest = data.split(b" ", 2)
            assert rest == body
            heard[int(publisher)].append(int(number))
        got.append(heard)
    for thread in (*threads, sends):
        thread.join()
    for client, heard in zip(clients, got, strict=True):
        for who, numbers in heard.items():
            assert numbers == ([] if (client is clients[0] and who == 4) else list(range(count)))


def test_publishing_all_through_the_start_and_end_of_servers(serve: Serving) -> None:
    """From a thread that knows nothing of them: what comes is in order, and nothing is raised."""
    app = make_app(Room, max_backpressure=1 << 40)
    over = threading.Event()
    failed: list[BaseException] = []

    def publish() -> None:
        number = 0
        try:
            while not over.is_set():
                assert app.publish("room", f"{number}") == 0
                app.num_subscribers("room")
                number += 1
                time.sleep(0.0001)
        except BaseException as error:
            failed.append(error)

    publisher = threading.Thread(target=publish)
    publisher.start()
    try:
        for _ in range(5):
            server = serve(app)
            client = RawClient.open(server.port)
            heard = [int(client.recv()) for _ in range(20)]
            assert heard == list(range(heard[0], heard[0] + 20))
            server.stop_server(0.05)
            client.close()
            server.stop()
    finally:
        over.set()
        publisher.join()
    assert not failed


def test_without_a_server(serve: Serving) -> None:
    app = make_app(Room)
    for _ in range(2):
        assert app.publish("room", "nobody") == 0
        assert app.num_subscribers("room") == 0
        with pytest.raises(TypeError):
            app.publish("room", 7)  # type: ignore[arg-type]
        server = serve(app)
        RawClient.open(server.port)
        joined(app, 1)
        server.stop()


def test_the_apps_are_apart(serve: Serving) -> None:
    one, two = serve(make_app(Room)), serve(make_app(Room))
    clients = [RawClient.open(server.port) for server in (one, two)]
    joined(one.app, 1)
    joined(two.app, 1)
    assert one.call(one.app.publish, "room", "one") == 1
    clients[0].send("to nobody")
    assert two.call(two.app.publish, "room", "two") == 1
    assert [client.recv() for client in clients] == ["one", "two"]


def test_publishing_on_a_connection_from_another_thread(serve: Serving) -> None:
    sockets: list[Any] = []

    class Handler(Room):
        def open(self, ws: Any) -> None:
            sockets.append(ws)
            super().open(ws)

    app = make_app(Handler)
    server = serve(app)
    client = RawClient.open(server.port)
    joined(app, 1)
    (ws,) = sockets
    use: Callable[[], object]
    for use in (lambda: ws.publish("room", "x"), lambda: ws.subscribe("new"), lambda: ws.unsubscribe("room")):
        with pytest.raises(RuntimeError, match="call_soon_threadsafe"):
            use()
    assert ws.is_subscribed("room")
    assert ws.subscriptions == ("room",)
    assert app.num_subscribers("room") == 1
    client.expect_silence(0.02)
    client.close()
    eventually(lambda: app.num_subscribers("room") == 0)
    assert not ws.subscribe("room")
    assert not ws.unsubscribe("room")


@pytest.mark.parametrize("closed", [False, True], ids=["loop left", "loop closed"])
def test_a_server_whose_loop_was_closed_without_stopping_it(loop_kind: str, closed: bool, no_leaked_fds: None) -> None:
    """A program that is careless with one loop goes on with another: publishing reaches those who are still served."""
    app = make_app(Room)
    loop = new_loop(loop_kind)

    async def begin() -> RawClient:
        server = await app.start("127.0.0.1", 0)
        client = await client_of(server.port)
        while not app.num_subscribers("room"):
            await asyncio.sleep(0.01)
        await loop.shutdown_default_executor()
        return client

    lost = loop.run_until_complete(begin())
    if closed:
        loop.close()

    async def go_on() -> None:
        async with await app.start("127.0.0.1", 0) as server:
            client = await client_of(server.port)
            while app.num_subscribers("room") < 2 - closed:
                await asyncio.sleep(0.01)
            for number in range(3):
                app.publish("room", f"{number}")
                assert await elsewhere(client.recv) == f"{number}"
            client.close()

    try:
        second = new_loop(loop_kind)
        try:
            second.run_until_complete(go_on())
            second.run_until_complete(second.shutdown_default_executor())
        finally:
            second.close()
    finally:
        lost.close()
        loop.close()


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("subscribers", [1, 5])
def test_what_is_collected_as_garbage_with_subscribers(
    loop_kind: str, no_leaked_fds: None, traps: Any, subscribers: int, published: bool
) -> None:
    """A loop that is dropped with a server on it takes topics, subscribers and all with it, silently."""
    gone: list[weakref.ref[Any]] = []

    def abandon() -> list[RawClient]:
        loop = new_loop(loop_kind)
        app = make_app(Room)

        async def begin() -> list[RawClient]:
            server = await app.start("127.0.0.1", 0)
            clients = [await client_of(server.port) for _ in range(subscribers)]
            while app.num_subscribers("room") < subscribers:
                await asyncio.sleep(0.01)
            for number, ws in enumerate(server.connections):
                gone.append(weakref.ref(ws))
                for topic in range(number):
                    ws.subscribe(f"t{topic}")
            await loop.shutdown_default_executor()
            if published:
                app.publish("room", "never sent")
            return clients

        clients = loop.run_until_complete(begin())
        loop.close()
        return clients

    for _ in range(3):
        clients = abandon()
        gc.collect()
        assert [ref() for ref in gone] == [None] * len(gone)
        for client in clients:
            client.close()


# What stays behind


def allocated(server: ServerThread, work: Any, times: int) -> int:
    """Blocks of memory more after `times` rounds of work than after a first one."""
    server.call(work, times // 10)
    server.settle()
    gc.collect()
    before = sys.getallocatedblocks()
    server.call(work, times)
    server.settle()
    gc.collect()
    return sys.getallocatedblocks() - before


def test_nothing_stays_behind_a_hundred_thousand_times(serve: Serving) -> None:
    sockets: list[Any] = []

    class Handler(Room):
        def open(self, ws: Any) -> None:
            sockets.append(ws)

    app = make_app(Handler, slow_consumer="drop", max_backpressure=1000, max_burst=0)
    server = serve(app)
    for _ in range(3):
        RawClient.open(server.port)
    eventually(lambda: len(sockets) == 3)
    message = fastws.prepare(b"x" * 600)
    references = sys.getrefcount(message)

    def work(times: int) -> None:
        for number in range(times):
            for ws in sockets:
                ws.subscribe("room")
                ws.subscribe(f"room {number % 7}")
            app.publish("room", message if number % 2 else f"{number}")
            sockets[0].publish("room", b"x" * 3000 if number % 100 == 0 else b"x")
            for name in (None, "", "x" * 256):
                try:
                    sockets[0].subscribe(name)
                except (TypeError, ValueError):
                    pass
            for ws in sockets:
                ws.unsubscribe("room")
                ws.unsubscribe(f"room {number % 7}")

    grown = allocated(server, work, 10_000)
    assert grown < 300, f"{grown} blocks more after 100,000 operations"
    assert app.stats()["topics"] == 0
    for client in list(RawClient.opened):
        client.close()
    eventually(lambda: server.stats()["connections"] == 0)
    assert sys.getrefcount(message) == references


def test_connections_that_come_and_go_leave_nothing(serve: Serving) -> None:
    app = make_app(Room)
    server = serve(app)

    def visit(times: int) -> None:
        for _ in range(times):
            client = RawClient.open(server.port)
            client.send("hello")
            app.publish("room", fastws.prepare("x" * 100))
            client.reset()
        joined(app, 0)

    visit(50)
    gc.collect()
    before = sys.getallocatedblocks()
    visit(500)
    server.settle()
    gc.collect()
    assert sys.getallocatedblocks() - before < 300
    assert app.stats()["topics"] == 0
