"""picows: its core API (a listener class) on uvloop, with the transport it chooses by default (aiofastnet).

Its own echo example sends the payload back as a memoryview and never makes a `str`. Here every server hands the user
a `str` for text and takes a `str` back, which picows' API does too: so this is the work a chat or a JSON service pays.

It has no broadcast: that is a loop of sends, each a system call at once. The text is encoded once for all of them.
`send_reuse_external_bytearray`, which spares a copy of the payload, makes no difference at 64 bytes.

Its core has no permessage-deflate; picows_compat_.py is its layer that has.
"""

import argparse

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

subscribers: set[WSTransport] = set()


class Echo(WSListener):
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            transport.send(WSMsgType.TEXT, frame.get_payload_as_utf8_text())
        elif frame.msg_type == WSMsgType.BINARY:
            transport.send(WSMsgType.BINARY, frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()


class Broadcast(WSListener):
    def on_ws_connected(self, transport: WSTransport) -> None:
        subscribers.add(transport)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        subscribers.discard(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            self.publish(transport, WSMsgType.TEXT, frame.get_payload_as_utf8_text().encode())
        elif frame.msg_type == WSMsgType.BINARY:
            self.publish(transport, WSMsgType.BINARY, frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()

    def publish(self, sender: WSTransport, kind: WSMsgType, data: bytes) -> None:
        for transport in subscribers:
            if transport is not sender:
                transport.send(kind, data)


def listener(request: WSUpgradeRequest) -> WSListener:
    return Broadcast() if request.path == b"/broadcast" else Echo()


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ping-interval", type=float)
    options = parser.parse_args()
    interval = options.ping_interval
    server = await ws_create_server(
        listener,
        "127.0.0.1",
        options.port,
        enable_auto_ping=interval is not None,
        auto_ping_idle_timeout=interval,
        auto_ping_reply_timeout=interval,  # no longer than that
        max_frame_size=16 << 20,
        backlog=4096,
    )
    await server.serve_forever()


uvloop.run(main())
