// The same question asked by another hand: chat turns over raw WebSockets from Node, none of agentd's code in between.
//
//   npm install ws && AGENTD_TOKEN=... node bench/load.mjs URL [--sessions 16] [--rate 200] [--seconds 5]
//
// Open loop: requests leave when they should, whatever became of the ones before, and latency begins then. Numbers,
// deltas and ends are checked. Prints one JSON object; exit code 1 when something was broken, 2 when it could not begin.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

// `ws` is taken from the folder in which it was installed: the working directory, or LOAD_MODULES.
const require = createRequire(pathToFileURL(`${process.env.LOAD_MODULES ?? process.cwd()}/`));
let WebSocket;
try {
  WebSocket = require("ws");
} catch {
  console.error("the package ws is missing: npm install ws");
  process.exit(2);
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    sessions: { type: "string", default: "16" },
    rate: { type: "string", default: "200" },
    seconds: { type: "string", default: "5" },
  },
});
const url = (positionals[0] ?? process.env.AGENTD_URL ?? "http://127.0.0.1:18790").replace(/^http/, "ws");
const sessions = Number(values.sessions);
const rate = Number(values.rate);
const seconds = Number(values.seconds);
const words = 20;
const drainMs = 20_000;

const breaches = [];
const took = [];
const open = new Map(); // request or run -> when it should have left
let sent = 0;
let completed = 0;
let refused = 0;

function breach(what) {
  if (breaches.length < 20) breaches.push(what);
}

function session(number) {
  const key = `node-${process.pid}-${Date.now()}-${number}`;
  const socket = new WebSocket(`${url}/v1/agents/default/stream?session=${key}`, {
    headers: { authorization: `Bearer ${process.env.AGENTD_TOKEN ?? ""}` },
    perMessageDeflate: false,
  });
  let seq = 0;
  const shown = new Map();
  const ended = new Set();
  socket.on("message", (data) => {
    const frame = JSON.parse(data.toString());
    if (frame.request !== undefined) {
      const due = open.get(frame.request);
      open.delete(frame.request);
      if (due === undefined) breach(`an answer to ${frame.request}, which nobody asked`);
      else if (frame.type === "run.accepted") open.set(frame.run, due);
      else if (frame.type === "error" && frame.code === "overloaded") refused += 1;
      else breach(`${frame.type} ${frame.code ?? ""} in answer to ${frame.request}`);
    }
    if (frame.seq !== undefined && frame.type !== "session.ack" && frame.type !== "stream.lagged") {
      if (frame.seq !== seq + 1) breach(`seq ${frame.seq} after ${seq} in ${key}`);
      seq = frame.seq;
    }
    if (frame.type === "session.delta") shown.set(frame.message, (shown.get(frame.message) ?? "") + frame.text);
    if (frame.type === "session.receive") {
      if (shown.get(frame.message) !== frame.content) breach(`the deltas of ${frame.message} do not add up`);
      if (frame.content.split(/\s+/).length !== words) breach(`${frame.message} has not ${words} words`);
      shown.delete(frame.message);
    }
    if (/^run\.(completed|failed|cancelled)$/.test(frame.type)) {
      if (ended.has(frame.run)) breach(`run ${frame.run} ended twice`);
      ended.add(frame.run);
      const due = open.get(frame.run);
      open.delete(frame.run);
      if (frame.type !== "run.completed") breach(`${frame.type} of ${frame.run}`);
      else if (due !== undefined) took.push(performance.now() - due);
      completed += 1;
    }
  });
  return new Promise((resolve, reject) => {
    socket.once("open", () => resolve(socket));
    socket.once("error", reject);
  });
}

function percentile(sorted, share) {
  return sorted.length ? Number(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))].toFixed(2)) : null;
}

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

let sockets;
try {
  sockets = await Promise.all(Array.from({ length: sessions }, (_, number) => session(number)));
} catch (error) {
  console.error(`cannot connect to ${url}: ${error.message}`);
  process.exit(2);
}
const begin = performance.now();
const total = Math.round(rate * seconds);
while (sent < total) {
  const due = begin + (sent * 1000) / rate;
  const early = due - performance.now();
  if (early > 0) await wait(early);
  const id = `n${sent}`;
  open.set(id, due);
  sockets[sent % sessions].send(
    JSON.stringify({ type: "chat.send", id, content: `hello ${sent} [[chunks=${words}]]` }),
  );
  sent += 1;
}
const lastMs = performance.now() + drainMs;
while (open.size && performance.now() < lastMs) await wait(10);
for (const what of open.keys()) breach(`${what} has no end`);
const elapsed = (performance.now() - begin) / 1000;
for (const socket of sockets) socket.close();

took.sort((a, b) => a - b);
console.log(
  JSON.stringify({
    sent, completed, refused, breaches,
    offered_per_s: rate, achieved_per_s: Number((completed / elapsed).toFixed(1)),
    p50_ms: percentile(took, 0.5), p99_ms: percentile(took, 0.99), max_ms: percentile(took, 1),
  }),
);
process.exit(breaches.length ? 1 : 0);
