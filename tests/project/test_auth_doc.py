"""The programs of docs/auth.md, run as a reader would run them: who gets in, and who does not."""

from __future__ import annotations

import contextlib
import http.server
import re
import threading
from collections.abc import Iterator

from harness import CLOSE, HttpResponse, RawClient, request_bytes
from harness.programs import ROOT, serving

PAGE = (ROOT / "docs" / "auth.md").read_text()
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COOKIE, TICKET, MESSAGE = PROGRAMS

Headers = list[tuple[str, str]]


def get(port: int, target: str, headers: Headers) -> HttpResponse:
    client = RawClient.connect(port)
    lines = "".join(f"{name}: {value}\r\n" for name, value in [("Host", "localhost"), *headers])
    client.send_raw(f"GET {target} HTTP/1.1\r\n{lines}\r\n".encode())
    return client.recv_http()


def refused(port: int, status: int, path: str = "/inbox", headers: Headers | None = None) -> None:
    client = RawClient.connect(port)
    client.send_raw(request_bytes(path, headers=headers or []))
    client.expect_reject(status)
    client.close()


def log_in_again(client: RawClient, reason: str) -> None:
    """The server closes with 4401; the client answers, and the server ends it."""
    frame = client.recv_frame()
    assert (frame.opcode, frame.payload) == (CLOSE, (4401).to_bytes(2, "big") + reason.encode())
    client.send_close(4401)
    client.expect_eof()
    client.close()


# The cookie


class Service(http.server.BaseHTTPRequestHandler):
    """The other service: it knows one session, and sends the others to its login page."""

    def do_GET(self) -> None:
        known = self.path == "/whoami" and "sessionid=of-ada" in self.headers.get("Cookie", "").split("; ")
        body = b"ada" if known else b"<h1>log in</h1>"
        self.send_response(200 if known else 302)
        self.send_header("Location", "/login")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def service() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_cookie_that_another_service_made() -> None:
    with service() as elsewhere, serving(COOKIE.replace("8000", str(elsewhere))) as port:
        session = ("Cookie", "theme=dark; sessionid=of-ada")
        client = RawClient.open(port, "/inbox", headers=[session])
        assert client.recv() == "hello ada"
        refused(port, 401)
        refused(port, 401, headers=[("Cookie", "sessionid=of-adam")])
        refused(port, 403, headers=[session, ("Origin", "https://evil.example")])


# The ticket


def ticket(port: int) -> str:
    answer = get(port, "/ticket", [("Authorization", "Bearer secret-of-ada")])
    assert answer.status == 200
    assert answer.headers["cache-control"] == "no-store"
    return answer.body.decode()


def test_a_one_time_ticket() -> None:
    with serving(TICKET) as port:
        first, second = ticket(port), ticket(port)
        assert first != second
        client = RawClient.open(port, f"/inbox?ticket={first}")
        assert client.recv() == "hello ada"
        refused(port, 401, f"/inbox?ticket={first}")
        refused(port, 401, "/inbox?ticket=")
        refused(port, 401)
        client = RawClient.open(port, f"/inbox?ticket={second}")
        assert client.recv() == "hello ada"
        assert get(port, "/ticket", []).status == 401
        assert get(port, "/ticket", [("Authorization", "Bearer of-nobody")]).status == 401


def test_a_ticket_that_is_too_old() -> None:
    with serving(TICKET.replace("LIFETIME = 10 ", "LIFETIME = -1 ")) as port:
        refused(port, 401, f"/inbox?ticket={ticket(port)}")


# The first message


def test_a_token_in_the_first_message() -> None:
    with serving(MESSAGE) as port:
        clients = [RawClient.open(port, "/inbox") for _ in range(2)]
        for client in clients:
            for token in ("secret-of-ada", "another-of-ada"):
                client.send(f"token {token}")
                assert client.recv() == "hello ada"
            client.send(b"\xff")
            assert client.recv() == b"\xff"
        clients[0].send("log out everywhere")
        for client in clients:
            log_in_again(client, "logged out")


def test_what_is_no_token() -> None:
    with serving(MESSAGE) as port:
        for message, reason in (
            ("hello", "log in first"),
            (b"token secret-of-ada", "log in first"),
            ("token of-nobody", "token not valid"),
        ):
            client = RawClient.open(port, "/inbox")
            client.send(message)
            log_in_again(client, reason)


def test_no_token_in_time() -> None:
    with serving(MESSAGE.replace("LOGIN_TIMEOUT = 5 ", "LOGIN_TIMEOUT = 0.1 ")) as port:
        log_in_again(RawClient.open(port, "/inbox"), "log in first")


def test_a_token_that_expires() -> None:
    with serving(MESSAGE.replace("LIFETIME = 3600 ", "LIFETIME = 0.1 ")) as port:
        client = RawClient.open(port, "/inbox")
        client.send("token secret-of-ada")
        assert client.recv() == "hello ada"
        log_in_again(client, "token expired")
