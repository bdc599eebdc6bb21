"""The asyncio client of websockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from harness import reset_at_close
from harness.deflating import Params, every_offer
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.typing import Subprotocol

from .client import Client, Library, OnLoop, Refused


class Watched(PerMessageDeflate):
    """Notes which messages came compressed."""

    compressed: list[bool]

    def decode(self, frame: Frame, **limits: Any) -> Frame:
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self.compressed.append(frame.rsv1)
        return super().decode(frame, **limits)


class Factory(ClientPerMessageDeflateFactory):
    def __init__(self, offer: Params, compressed: list[bool]) -> None:
        super().__init__(**vars(offer))
        self._compressed = compressed

    def process_response_params(self, *answer: Any) -> PerMessageDeflate:
        extension = super().process_response_params(*answer)
        extension.__class__ = Watched
        assert isinstance(extension, Watched)
        extension.compressed = self._compressed
        return extension


class WebsocketsClient(OnLoop):
    def __init__(self, url: str, subprotocols: Sequence[str], compression: Sequence[Params] | None) -> None:
        super().__init__()
        self.compressed: list[bool] = []
        how: dict[str, Any] = {}
        if compression is not None:
            how = {"compression": None, "extensions": [Factory(one, self.compressed) for one in compression]}
        try:
            self.ws: ClientConnection = self.run(self._connect(url, subprotocols, how))
        except InvalidStatus as error:
            self.close_loop()
            raise Refused(error.response.status_code) from error
        self.subprotocol: str | None = self.ws.subprotocol
        assert self.ws.response is not None
        self.extensions = self.ws.response.headers.get("Sec-WebSocket-Extensions", "")

    async def _connect(self, url: str, subprotocols: Sequence[str], how: dict[str, Any]) -> ClientConnection:
        return await connect(
            url,
            subprotocols=[Subprotocol(name) for name in subprotocols] or None,
            ping_interval=None,
            proxy=None,
            **how,
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
    # It has no compressor for a window of 8 bits.
    offers = [offer for offer in every_offer() if offer.client_max_window_bits != 8]
    offers_several = True
    sees_compression = True

    def connect(
        self,
        url: str,
        *,
        subprotocols: Sequence[str] = (),
        show_pongs: bool = False,
        compression: Sequence[Params] | None = None,
    ) -> Client:
        return WebsocketsClient(url, subprotocols, compression)
