"""The client of picows, whose interface is frames and callbacks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from harness import reset_at_close
from harness.deflating import Params
from picows import WSCloseCode, WSFrame, WSHandshakeError, WSListener, WSMsgType, WSTransport, ws_connect
from picows.websockets.asyncio.client import ClientConnection, connect

from .client import NO_CODE, NOT_CLEAN, Client, Library, OnLoop, Refused


class Listener(WSListener):
    def __init__(self) -> None:
        self.messages: asyncio.Queue[str | bytes] = asyncio.Queue()
        self.pongs: asyncio.Queue[bytes] = asyncio.Queue()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        assert frame.fin, "the server has no reason to fragment"
        if frame.msg_type == WSMsgType.TEXT:
            self.messages.put_nowait(frame.get_payload_as_utf8_text())
        elif frame.msg_type == WSMsgType.BINARY:
            self.messages.put_nowait(frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.PONG:
            self.pongs.put_nowait(frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.CLOSE:
            if frame.payload_size:  # does nothing where we sent a Close first
                transport.send_close(frame.get_close_code(), frame.get_close_message())
            else:
                transport.send(WSMsgType.CLOSE, None)
            transport.disconnect()


class PicowsClient(OnLoop):
    def __init__(self, url: str, subprotocols: Sequence[str]) -> None:
        super().__init__()
        offer = {"Sec-WebSocket-Protocol": ", ".join(subprotocols)} if subprotocols else None
        self.transport: WSTransport
        try:
            self.transport, listener = self.run(ws_connect(Listener, url, extra_headers=offer))
        except WSHandshakeError as error:
            self.close_loop()
            assert error.response is not None
            raise Refused(int(error.response.status)) from error
        assert isinstance(listener, Listener)
        self.listener = listener
        self.subprotocol = self.transport.response.headers.get("Sec-WebSocket-Protocol")
        self.extensions = ""  # it offers none
        self.compressed: list[bool] = []

    def send(self, data: str | bytes) -> None:
        self.transport.send(WSMsgType.TEXT if isinstance(data, str) else WSMsgType.BINARY, data)

    def send_fragments(self, fragments: Sequence[bytes], *, text: bool, pings: bool = False) -> None:
        kind = WSMsgType.TEXT if text else WSMsgType.BINARY
        for number, fragment in enumerate(fragments):
            if pings and number:
                self.transport.send_ping(b"%d" % (number - 1))
            last = number == len(fragments) - 1
            self.transport.send(WSMsgType.CONTINUATION if number else kind, fragment, fin=last)

    def recv(self) -> str | bytes:
        return self.run(self.listener.messages.get())

    def ping(self, data: bytes) -> bytes:
        self.transport.send_ping(data)
        return self.run(self.listener.pongs.get())

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        if code is None:
            self.transport.send(WSMsgType.CLOSE, None)  # send_close always sends a code
        else:
            self.transport.send_close(WSCloseCode(code), reason)

    def closed(self) -> tuple[int, str]:
        self.run(self.transport.wait_disconnected())
        handshake = self.transport.close_handshake
        if handshake is None or handshake.recv is None:
            return NOT_CLEAN
        return handshake.recv.code.value or NO_CODE, handshake.recv.reason or ""

    def abort(self, *, reset: bool) -> None:
        if reset:
            reset_at_close(self.transport.underlying_transport.get_extra_info("socket"))
        self.transport.disconnect(graceful=False)
        self.run(self.transport.wait_disconnected())

    def release(self) -> None:
        self.transport.disconnect(graceful=False)
        self.run(self.transport.wait_disconnected())
        self.close_loop()


class Picows(Library):
    name = "picows"

    def connect(
        self,
        url: str,
        *,
        subprotocols: Sequence[str] = (),
        show_pongs: bool = False,
        compression: Sequence[Params] | None = None,
    ) -> Client:
        return PicowsClient(url, subprotocols)


class CompatClient(OnLoop):
    """Its other client, which is made like that of websockets, and compresses."""

    subprotocol = None

    def __init__(self, url: str) -> None:
        super().__init__()
        self.ws: ClientConnection = self.run(self._connect(url))
        self.extensions = self.ws.response.headers.get("Sec-WebSocket-Extensions", "")
        self.compressed: list[bool] = []

    async def _connect(self, url: str) -> ClientConnection:
        return await connect(url, ping_interval=None, proxy=None)

    def send(self, data: str | bytes) -> None:
        self.run(self.ws.send(data))

    def recv(self) -> str | bytes:
        data: str | bytes = self.run(self.ws.recv())
        return data

    def release(self) -> None:
        self.run(self.ws.close())
        self.close_loop()


class PicowsCompat(Library):
    """For the tests of compression alone."""

    name = "picows-compat"
    fragments = False
    offers = [Params(client_max_window_bits=True)]

    def connect(
        self,
        url: str,
        *,
        subprotocols: Sequence[str] = (),
        show_pongs: bool = False,
        compression: Sequence[Params] | None = None,
    ) -> Client:
        return CompatClient(url)  # type: ignore[return-value]
