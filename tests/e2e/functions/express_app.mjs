// A web server with everything that should pass through: bodies both ways, events, a WebSocket.
import express from "express";
import http from "node:http";
import { WebSocketServer } from "ws";

const app = express();
app.get("/", (req, res) => res.send(`hello from ${process.pid}`));
app.get("/env", (req, res) => res.json(process.env));
app.all("/echo", (req, res) => {
  const parts = [];
  req.on("data", (part) => parts.push(part));
  req.on("end", () =>
    res
      .status(Number(req.query.status ?? 200))
      .set("X-Reply", "yes")
      .append("Set-Cookie", "a=1")
      .append("Set-Cookie", "b=2")
      .json({ method: req.method, url: req.originalUrl, headers: req.headers, body: Buffer.concat(parts).toString() }),
  );
});
// Each part of the request goes back at once, before the next has come.
app.post("/mirror", (req, res) => {
  res.set("Content-Type", "application/octet-stream");
  res.flushHeaders();
  req.on("data", (part) => res.write(part));
  req.on("end", () => res.end());
});
// Server-Sent Events: the second goes out only when somebody has asked for it.
const listeners = new Set();
app.get("/events", (req, res) => {
  res.set("Content-Type", "text/event-stream");
  res.write("data: first\n\n");
  listeners.add(res);
  req.on("close", () => listeners.delete(res));
});
app.post("/publish/:text", (req, res) => {
  for (const each of listeners) each.write(`data: ${req.params.text}\n\n`);
  res.json({ listeners: listeners.size });
});
app.get("/wait/:name", (req, res) => waiting(req.params.name, res));
app.post("/events", express.json(), (req, res) => res.json({ invoked: req.body, path: req.path }));
app.get("/log/:text", (req, res) => {
  console.log(req.params.text);
  res.send("logged");
});
app.get("/exit", () => process.exit(7));

// Answers only once two requests wait at the same time: proof that both are in this instance.
const pairs = new Map();
function waiting(name, res) {
  const other = pairs.get(name);
  if (!other) return pairs.set(name, res);
  for (const each of [other, res]) each.send(String(process.pid));
  pairs.delete(name);
}

const server = http.createServer(app);
new WebSocketServer({ server, path: "/socket" }).on("connection", (socket) => {
  socket.on("message", (data, binary) => socket.send(data, { binary }));
});
server.listen(process.env.PORT, "127.0.0.1");
