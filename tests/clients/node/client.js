// Drives ws for via_node.py: a command per line of JSON in, an event per line of JSON out, one connection at a time.
// Bytes travel as base64, text as it is.
"use strict";

const WebSocket = require("ws");

let ws = null;

function tell(event) {
  process.stdout.write(JSON.stringify(event) + "\n");
}

function connect(url, subprotocols) {
  ws = new WebSocket(url, subprotocols);
  ws.on("open", () => tell({ event: "open", subprotocol: ws.protocol }));
  ws.on("unexpected-response", (_request, response) => {
    ws.terminate();
    tell({ event: "refused", status: response.statusCode });
  });
  // A connection that is cut short, or never opened; "close" follows, or "unexpected-response" came before.
  ws.on("error", (error) => tell({ event: "error", error: String(error) }));
  ws.on("message", (data, isBinary) => {
    tell(isBinary ? { event: "message", bytes: data.toString("base64") } : { event: "message", text: data.toString() });
  });
  ws.on("pong", (data) => tell({ event: "pong", bytes: data.toString("base64") }));
  ws.on("close", (code, reason) => tell({ event: "close", code, reason: reason.toString() }));
}

const commands = {
  connect: ({ url, subprotocols }) => connect(url, subprotocols),
  send: ({ bytes, text }) => ws.send(text ?? Buffer.from(bytes, "base64")),
  // ws makes a continuation of what follows a frame that is not final.
  fragment: ({ bytes, isText, fin }) => ws.send(Buffer.from(bytes, "base64"), { binary: !isText, fin }),
  ping: ({ bytes }) => ws.ping(Buffer.from(bytes, "base64")),
  close: ({ code, reason }) => (code === null ? ws.close() : ws.close(code, reason)),
  abort: ({ reset }) => (reset ? ws._socket.resetAndDestroy() : ws.terminate()),
};

require("node:readline")
  .createInterface({ input: process.stdin })
  .on("line", (line) => {
    const command = JSON.parse(line);
    commands[command.do](command);
  })
  .on("close", () => process.exit());
