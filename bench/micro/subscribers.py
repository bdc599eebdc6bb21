"""Connections that read and forget, in a process of their own: `python bench/micro/subscribers.py PORT COUNT`.

They open one after the other and ask for /broadcast. Then each line on stdin is answered, once nothing has come for a
while, with how many bytes of frames each has got; all must have got the same. They end with stdin."""

from __future__ import annotations

import os
import resource
import select
import socket
import struct
import sys

QUIET = 0.2  # seconds
REQUEST = (
    b"GET /broadcast HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def opened(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # no port stays behind
    sock.sendall(REQUEST)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += sock.recv(1)  # nothing behind the head
    assert head.startswith(b"HTTP/1.1 101 "), head
    sock.setblocking(False)
    return sock


def main(port: int, count: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    socks = {sock.fileno(): sock for sock in (opened(port) for _ in range(count))}
    got = dict.fromkeys(socks, 0)
    poll = select.epoll()
    poll.register(0, select.EPOLLIN)
    for fd in socks:
        poll.register(fd, select.EPOLLIN)
    asked = False
    print("ready", flush=True)
    while True:
        events = poll.poll(QUIET if asked else None)
        if asked and not events:
            print(min(got.values()), max(got.values()), flush=True)
            asked = False
        for fd, _ in events:
            if fd == 0:
                if not os.read(0, 100):
                    return
                asked = True
            else:
                data = socks[fd].recv(1 << 20)
                assert data, "the server has closed a connection"
                got[fd] += len(data)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
