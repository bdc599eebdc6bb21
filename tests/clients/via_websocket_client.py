"""websocket-client, which blocks and has no loop."""

from __future__ import annotations

import logging
import struct
from collections.abc import Sequence

from harness import reset_at_close
from harness.deflating import Params
from websocket import (
    ABNF,
    WebSocket,
    WebSocketBadStatusException,
    WebSocketConnectionClosedException,
    WebSocketException,
    create_connection,
)

from .client import NO_CODE, NOT_CLEAN, TIMEOUT, Client, Library, Refused

# It logs an error for every Close with another code than 1000.
logging.getLogger("websocket").setLevel(logging.CRITICAL)


def code_and_reason(body: bytes) -> tuple[int, str]:
    return (struct.unpack("!H", body[:2])[0], body[2:].decode()) if body else (NO_CODE, "")


class WebsocketClientClient:
    def __init__(self, url: str, subprotocols: Sequence[str]) -> None:
        try:
            self.ws: WebSocket = create_connection(url, timeout=TIMEOUT, subprotocols=list(subprotocols) or None)
        except WebSocketBadStatusException as error:
            raise Refused(error.status_code) from error
        except WebSocketException as error:
            if type(error) is not WebSocketException:
                raise
            raise Refused(None) from error
        self.subprotocol = self.ws.subprotocol
        self.extensions = ""  # it offers none
        self.compressed: list[bool] = []

    def send(self, data: str | bytes) -> None:
        self.ws.send(data, ABNF.OPCODE_TEXT if isinstance(data, str) else ABNF.OPCODE_BINARY)

    def send_fragments(self, fragments: Sequence[bytes], *, text: bool, pings: bool = False) -> None:
        opcode = ABNF.OPCODE_TEXT if text else ABNF.OPCODE_BINARY
        for number, fragment in enumerate(fragments):
            if pings and number:
                self.ws.ping(b"%d" % (number - 1))
            last = number == len(fragments) - 1
            self.ws.send_frame(ABNF.create_frame(fragment, ABNF.OPCODE_CONT if number else opcode, int(last)))

    def recv(self) -> str | bytes:
        return self.ws.recv()

    def ping(self, data: bytes) -> bytes:
        self.ws.ping(data)
        opcode, payload = self.ws.recv_data(control_frame=True)
        assert opcode == ABNF.OPCODE_PONG
        return bytes(payload)

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        if code is None:
            self.ws.send(b"", ABNF.OPCODE_CLOSE)
            self.ws.close_frame = self.ws.recv_frame()
        else:
            self.ws.close(code, reason.encode())

    def closed(self) -> tuple[int, str]:
        if self.ws.close_frame is not None:
            data = self.ws.close_frame.data
            assert isinstance(data, bytes)
            return code_and_reason(data)
        try:
            opcode, body = self.ws.recv_data()
        except (WebSocketConnectionClosedException, ConnectionResetError):
            return NOT_CLEAN
        assert opcode == ABNF.OPCODE_CLOSE
        return code_and_reason(body)

    def abort(self, *, reset: bool) -> None:
        if reset:
            assert self.ws.sock is not None
            reset_at_close(self.ws.sock)
        self.ws.shutdown()

    def release(self) -> None:
        self.ws.shutdown()


class WebsocketClient(Library):
    name = "websocket-client"
    wants_a_subprotocol = True

    def connect(
        self,
        url: str,
        *,
        subprotocols: Sequence[str] = (),
        show_pongs: bool = False,
        compression: Sequence[Params] | None = None,
    ) -> Client:
        return WebsocketClientClient(url, subprotocols)
