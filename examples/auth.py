"""Who may connect is decided in `upgrade`: by a signed cookie, or by a token among the subprotocols.

A browser sends its cookies along, but its WebSocket cannot set headers: where there is no cookie, a token travels as an
offered subprotocol. To try, run `python examples/auth.py`, open http://127.0.0.1:8765/login?user=ada and connect in the
console of that page, in one of two ways:

    ws = new WebSocket("ws://127.0.0.1:8765/inbox/ada");  // the cookie
    ws = new WebSocket("ws://127.0.0.1:8765/inbox/ada", ["app.v1", "token.<from /token?user=ada>"]);
    ws.onmessage = e => console.log(e.data);
"""

import base64
import hmac
import secrets
import time

import fastws

KEY = secrets.token_bytes(32)  # read it from the environment for sessions that outlive the process
LIFETIME = 3600  # seconds
PREFIX = "token."

app = fastws.App()


def sign(user: str) -> str:
    """The user and until when, behind their HMAC, in base64url: fit for a cookie and for a subprotocol."""
    payload = f"{time.time() + LIFETIME:.0f} {user}".encode()
    return base64.urlsafe_b64encode(hmac.digest(KEY, payload, "sha256") + payload).decode().rstrip("=")


def verify(proof: str) -> str | None:
    """The user of an unexpired `sign()`, else None."""
    try:
        signed = base64.urlsafe_b64decode(proof + "=" * (-len(proof) % 4))
    except ValueError:
        return None
    mac, payload = signed[:32], signed[32:]
    if not hmac.compare_digest(mac, hmac.digest(KEY, payload, "sha256")):  # in constant time
        return None
    expires, _, user = payload.decode().partition(" ")
    return user if time.time() < int(expires) else None


@app.websocket("/inbox/{user}")
class Inbox:
    def upgrade(self, request: fastws.Request) -> fastws.Accept | fastws.Response:
        proofs = [offer.removeprefix(PREFIX) for offer in request.subprotocols if offer.startswith(PREFIX)]
        user = verify(proofs[0] if proofs else request.cookies.get("session", ""))
        if user is None:
            return request.reject(401, "log in first\n", headers={"WWW-Authenticate": "Bearer"})
        if user != request.path_params["user"]:
            return request.reject(403, "not yours\n")
        # The token is no protocol, so it is never the answer; and a browser that offered something wants one.
        return request.accept(data=user, subprotocol="app.v1" if "app.v1" in request.subprotocols else None)

    def open(self, ws: fastws.WebSocket) -> None:
        ws.send(f"hello {ws.data}")


@app.http("/login")
def login(request: fastws.Request) -> fastws.Response:
    """Stands for a real login, which asks for more than a name. Over TLS add `Secure`."""
    session = sign(request.query_params.get("user", ""))
    cookie = f"session={session}; Path=/; Max-Age={LIFETIME}; HttpOnly; SameSite=Strict"
    return fastws.Response(body="logged in\n", headers={"Set-Cookie": cookie, "Cache-Control": "no-store"})


@app.http("/token")
def token(request: fastws.Request) -> fastws.Response:
    """So does this, for clients without cookies."""
    return fastws.Response(body=sign(request.query_params.get("user", "")), headers={"Cache-Control": "no-store"})


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=8765)
