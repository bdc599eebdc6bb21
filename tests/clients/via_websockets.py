"""The asyncio client of websockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from .client import Client, Library, OnLoop, Refused, reset_at_close


class WebsocketsClient(OnLoop):
    def __init__(self, url: str, subprotocols: Sequence[str]) -> None:
        super().__init__()
        try:
            self.ws: ClientConnection = self.run(self._connect(url, subprotocols))
        except InvalidStatus as error:
            self.close_loop()
            raise Refused(error.response.status_code) from error
        self.subprotocol: str | None = self.ws.subprotocol

    async def _connect(self, url: str, subprotocols: Sequence[str]) -> ClientConnection:
        return await connect(
            url, subprotocols=[Subprotocol(name) for name in subprotocols] or None, ping_interval=None, proxy=None
        )

    def send(self, data: str | bytes) -> None:
        self.run(self.ws.send(data))

    def send_fragments(self, fragments: Sequence[bytes], *, text: bool, pings: bool = False) -> None:
        async def one_by_one() -> AsyncIterator[bytes]:
            for number, fragment in enumerate(fragments):
                if pings and number:
                    await self.ws.ping(b"%d" % (number - 1))
                yield fragment

        self.run(self.ws.send(one_by_one(), text=text))

    def recv(self) -> str | bytes:
        return self.run(self.ws.recv())

    def ping(self, data: bytes) -> bytes:
        async def answered() -> None:
            await (await self.ws.ping(data))  # done by a pong with these bytes

        self.run(answered())
        return data

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        self.run(self.ws.close(code, reason))  # type: ignore[arg-type]

    def closed(self) -> tuple[int, str]:
        self.run(self.ws.wait_closed())
        assert self.ws.close_code is not None
        return self.ws.close_code, self.ws.close_reason or ""

    def abort(self, *, reset: bool) -> None:
        if reset:
            reset_at_close(self.ws.transport.get_extra_info("socket"))
        self.ws.transport.abort()
        self.run(self.ws.wait_closed())

    def release(self) -> None:
        self.ws.transport.abort()
        self.run(self.ws.wait_closed())
        self.close_loop()


class Websockets(Library):
    name = "websockets"

    def connect(self, url: str, *, subprotocols: Sequence[str] = (), show_pongs: bool = False) -> Client:
        return WebsocketsClient(url, subprotocols)
