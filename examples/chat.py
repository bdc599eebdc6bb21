"""Chat with rooms: a topic for each room, to which its connections subscribe.

To try, run `python examples/chat.py`, and after `pip install websockets`, in two more terminals:

    python -m websockets "ws://127.0.0.1:8765/chat/tea?name=Ada"
    python -m websockets "ws://127.0.0.1:8765/chat/tea?name=Grace"
"""

import fastws

app = fastws.App(max_message_size=4096)


def topic(ws: fastws.WebSocket) -> str:
    return f"chat/{ws.path_params['room']}"


@app.websocket("/chat/{room}")
class Chat:
    def upgrade(self, request: fastws.Request) -> fastws.Accept | fastws.Response:
        name = request.query_params.get("name", "")
        if not 1 <= len(name) <= 32 or len(request.path_params["room"]) > 32:
            return request.reject(400, "give a room and ?name= of at most 32 characters\n")
        return request.accept(data=name)

    def open(self, ws: fastws.WebSocket) -> None:
        ws.subscribe(topic(ws))
        app.publish(topic(ws), f"* {ws.data} came: {app.num_subscribers(topic(ws))} here")  # to all, ws as well

    def message(self, ws: fastws.WebSocket, data: str | bytes) -> None:
        if isinstance(data, str):
            ws.publish(topic(ws), f"{ws.data}: {data}")  # to all but ws
        else:
            ws.close(1003, "text only")

    def close(self, ws: fastws.WebSocket, code: int, reason: str) -> None:
        # It has left its topics by now, so that it is not counted.
        app.publish(topic(ws), f"* {ws.data} left: {app.num_subscribers(topic(ws))} here")


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=8765)
