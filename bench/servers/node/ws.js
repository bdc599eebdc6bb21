// Node's ws, with its native bufferutil where npm has a binary of it for this machine: before Node 26.12, ws unmasks
// with it. UTF-8 Node itself validates. A message comes as a Buffer, of which its user makes a string.
//
// A broadcast is a loop over the clients, pings go out from a timer: both as its README shows. --deflate is permessage-
// deflate as ws has it by default: level 6, a window of 32 KiB, contexts taken over; its README advises against it.
"use strict";

const { parseArgs } = require("node:util");
const { WebSocket, WebSocketServer } = require("ws");

const { values: options } = parseArgs({
  options: {
    port: { type: "string" },
    "ping-interval": { type: "string" },
    deflate: { type: "boolean", default: false },
  },
});

const server = new WebSocketServer({
  host: "127.0.0.1",
  port: Number(options.port),
  backlog: 4096,
  maxPayload: 16 << 20,
  perMessageDeflate: options.deflate,
});
const subscribers = new Set();

function echo(data, isBinary) {
  this.send(isBinary ? data : data.toString());
}

function broadcast(data, isBinary) {
  const message = isBinary ? data : Buffer.from(data.toString());
  for (const client of subscribers) {
    if (client !== this && client.readyState === WebSocket.OPEN) client.send(message, { binary: isBinary });
  }
}

server.on("connection", (ws, request) => {
  ws.on("error", () => {}); // a reset: "close" follows
  if (request.url === "/broadcast") {
    subscribers.add(ws);
    ws.on("message", broadcast);
    ws.on("close", () => subscribers.delete(ws));
  } else {
    ws.on("message", echo);
  }
});

if (options["ping-interval"]) {
  const alive = new WeakSet();
  server.on("connection", (ws) => {
    alive.add(ws);
    ws.on("pong", () => alive.add(ws));
  });
  setInterval(() => {
    for (const ws of server.clients) {
      if (!alive.delete(ws)) ws.terminate();
      else ws.ping();
    }
  }, 1000 * Number(options["ping-interval"]));
}
