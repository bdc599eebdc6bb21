// Drives ws for via_node.py: a command per line of JSON in, an event per line of JSON out, one connection at a time,
// whose number each of its events bears. Bytes travel as base64, text as it is.
"use strict";

const WebSocket = require("ws");

let ws = null;
let number = 0;

function tell(connection, event, details) {
  process.stdout.write(JSON.stringify({ connection, event, ...details }) + "\n");
}

function connect(url, subprotocols, deflate) {
  const own = new WebSocket(url, subprotocols, deflate ? { perMessageDeflate: deflate } : {});
  const mine = number;
  let extensions = "";
  let compressed = false; // the message that comes next
  const on = (name, details) => own.on(name, (...given) => tell(mine, name, details(...given)));
  own.on("upgrade", (response) => (extensions = response.headers["sec-websocket-extensions"] ?? ""));
  on("open", () => {
    // Its receiver says of no message how it came; what inflates the compressed ones is called for each of them.
    const inflate = own._receiver.decompress;
    own._receiver.decompress = (...given) => {
      compressed = true;
      return inflate.apply(own._receiver, given);
    };
    return { subprotocol: own.protocol, extensions };
  });
  on("message", (data, isBinary) => {
    const details = { compressed };
    compressed = false;
    return { ...details, ...(isBinary ? { bytes: data.toString("base64") } : { text: data.toString() }) };
  });
  on("pong", (data) => ({ bytes: data.toString("base64") }));
  on("error", (error) => ({ error: String(error) })); // "close" follows
  on("close", (code, reason) => ({ code, reason: reason.toString() }));
  on("unexpected-response", (_request, response) => {
    own.terminate();
    return { status: response.statusCode };
  });
  return own;
}

const commands = {
  connect({ connection, url, subprotocols, deflate }) {
    number = connection;
    ws = connect(url, subprotocols, deflate);
  },
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
    try {
      commands[command.do](command);
    } catch (error) {
      tell(number, "exception", { error: String(error) });
    }
  })
  .on("close", () => process.exit());
