"""A client that never waits, for worlds in which the test has each side take its steps."""

from __future__ import annotations

import re
import socket
import zlib

from .deflating import Params, Receiver, agree
from .frames import BadFrame, deflated_frames

EXTENSIONS = re.compile(rb"(?im)^sec-websocket-extensions: (.*?)\r?$")


class Peer:
    """Reads what has come: an answer, then frames, inflated as was agreed. What it makes of them is for each kind."""

    def __init__(self, sock: socket.socket, offer: str = "") -> None:
        sock.setblocking(False)
        self.sock = sock
        self.offer = offer  # of compression
        self.agreed: Params | None = None
        self.status = 0  # of the answer; 0 until its head is here
        self.incoming = bytearray()
        self.gone = False  # it has closed its socket

    @property
    def opened(self) -> bool:
        return self.status == 101

    def read(self, size: int = 1 << 18) -> bool:
        """Whether anything has come."""
        try:
            data = self.sock.recv(size)
        except BlockingIOError:
            return False
        except ConnectionError:
            data = b""
        if not data:
            self.ended()
            return False
        self.incoming += data
        if not self.status:
            self._read_answer()
        if self.opened:
            for frame, is_compressed in deflated_frames(self.incoming):
                payload = self._inflate(frame.payload) if is_compressed else frame.payload
                self.heard(frame.fin, frame.opcode, payload, len(frame.payload) if is_compressed else None)
                if self.gone:
                    break
        return True

    def _read_answer(self) -> None:
        head, end, rest = bytes(self.incoming).partition(b"\r\n\r\n")
        if not end:
            return
        self.incoming[:] = rest
        self.status = int(head.split(b" ")[1])
        if answers := EXTENSIONS.findall(head):
            answer = Params.read(b", ".join(answers).decode())
            self.agreed = agree(Params.read(self.offer, is_offer=True), answer)
            self.receiver = Receiver(self.agreed)
        self.answered(head)

    def _inflate(self, payload: bytes) -> bytes:
        if self.agreed is None:
            raise BadFrame(f"a compressed message: {payload!r:.60}")
        try:
            return self.receiver.message(payload)
        except (AssertionError, zlib.error) as error:
            raise BadFrame(f"what cannot be inflated, {payload!r:.60}: {error}") from error

    def answered(self, head: bytes) -> None:
        """The head of the answer is here."""

    def heard(self, fin: bool, opcode: int, payload: bytes, wire: int | None) -> None:
        """A frame is here. `wire` is how many bytes it had where it was compressed."""

    def ended(self) -> None:
        """The server has."""

    def close(self) -> None:
        self.gone = True
        self.sock.close()
