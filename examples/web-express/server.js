// An ordinary Express server: nothing in it knows that it runs as a function.

import http from "node:http";
import express from "express";
import { WebSocketServer } from "ws";

const app = express();
const started = new Date();

app.get("/", (request, response) => {
  console.log(`${request.method} ${request.originalUrl}`);
  const name = request.query.name ?? "world";
  response.type("text/plain").send(
    [
      `Hello, ${name}, from Express!`,
      `This server has been up since ${started.toISOString()}.`,
      "Try /sse (server-sent events), /ws (a WebSocket that echoes), POST /echo (streams back what it gets).",
      "",
    ].join("\n"),
  );
});

// `virga invoke` and the SDKs' Invoke arrive here; the answer's body is the result.
app.post("/events", express.json({ limit: "6mb" }), (request, response) => {
  console.log(`event with ${Object.keys(request.body ?? {}).length} keys`);
  response.json({ received: request.body });
});

// Streams both ways: what comes in goes out at once.
app.post("/echo", (request, response) => {
  response.type(request.headers["content-type"] ?? "application/octet-stream");
  request.pipe(response);
});

app.get("/sse", (request, response) => {
  response.set({ "content-type": "text/event-stream", "cache-control": "no-store" });
  let count = 0;
  const timer = setInterval(() => {
    count += 1;
    response.write(`id: ${count}\ndata: tick ${count}\n\n`);
    if (count === 5) response.end();
  }, 200);
  response.on("close", () => clearInterval(timer));
});

const server = http.createServer(app);
const sockets = new WebSocketServer({ server, path: "/ws" });
sockets.on("connection", (socket) => {
  socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
});

server.listen(process.env.PORT ?? 8080, () => console.log(`listening on ${server.address().port}`));
