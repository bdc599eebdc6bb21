"""The WebSocket client of aiohttp."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiohttp import (
    ClientSession,
    ClientWebSocketResponse,
    TraceConfig,
    TraceRequestEndParams,
    WSMsgType,
    WSServerHandshakeError,
)
from harness import reset_at_close
from harness.deflating import Params

from .client import NO_CODE, Client, Library, OnLoop, Refused


class AiohttpClient(OnLoop):
    def __init__(
        self, url: str, subprotocols: Sequence[str], show_pongs: bool, compression: Sequence[Params] | None
    ) -> None:
        super().__init__()
        self.compressed: list[bool] = []
        self.extensions = ""
        (bits,) = [one.server_bits for one in compression or ()] or [0]
        try:
            self.run(self._connect(url, subprotocols, show_pongs, bits))
        except WSServerHandshakeError as error:
            self.release()
            raise Refused(error.status) from error
        self.subprotocol = self.ws.protocol
        self._reported: tuple[int, str] | None = None

    async def _connect(self, url: str, subprotocols: Sequence[str], show_pongs: bool, bits: int) -> None:
        tracing = TraceConfig()
        tracing.on_request_end.append(self._answered)
        self.session = ClientSession(trace_configs=[tracing])
        # It hands pings and pongs to its user, or deals with them itself.
        self.ws: ClientWebSocketResponse[bool] = await self.session.ws_connect(
            url, protocols=subprotocols, autoping=not show_pongs, compress=bits
        )

    async def _answered(self, session: object, context: object, request: TraceRequestEndParams) -> None:
        self.extensions = request.response.headers.get("Sec-WebSocket-Extensions", "")

    def send(self, data: str | bytes) -> None:
        self.run(self.ws.send_str(data) if isinstance(data, str) else self.ws.send_bytes(data))

    def send_fragments(self, fragments: Sequence[bytes], *, text: bool, pings: bool = False) -> None:
        raise NotImplementedError("every frame that aiohttp sends is final")

    def recv(self) -> str | bytes:
        message = self.run(self.ws.receive())
        assert message.type in (WSMsgType.TEXT, WSMsgType.BINARY), message
        data: str | bytes = message.data
        return data

    def ping(self, data: bytes) -> bytes:
        self.run(self.ws.ping(data))
        message = self.run(self.ws.receive())
        assert message.type is WSMsgType.PONG
        return bytes(message.data)

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        if code is None:
            self.run(self.ws.send_frame(b"", WSMsgType.CLOSE))
        else:
            self.run(self.ws.close(code=code, message=reason.encode()))
            assert self.ws.close_code is not None
            self._reported = self.ws.close_code, ""  # it keeps no reason

    def closed(self) -> tuple[int, str]:
        if self._reported is None:
            message = self.run(self.ws.receive())
            if message.type is WSMsgType.CLOSE:
                self._reported = message.data or NO_CODE, message.extra or ""
            else:
                assert message.type is WSMsgType.CLOSED
                assert self.ws.close_code is not None
                self._reported = self.ws.close_code, ""
        return self._reported

    def abort(self, *, reset: bool) -> None:
        if reset:
            reset_at_close(self.ws.get_extra_info("socket"))
        self.run(self._close_session())

    async def _close_session(self) -> None:
        await self.session.close()
        await asyncio.sleep(0)  # asyncio closes the socket in a turn of its own

    def release(self) -> None:
        self.run(self._close_session())
        self.close_loop()


class Aiohttp(Library):
    name = "aiohttp"
    fragments = False
    offers = [Params(False, False, bits if bits < 15 else None, True) for bits in range(9, 16)]

    def connect(
        self,
        url: str,
        *,
        subprotocols: Sequence[str] = (),
        show_pongs: bool = False,
        compression: Sequence[Params] | None = None,
    ) -> Client:
        return AiohttpClient(url, subprotocols, show_pongs, compression)
