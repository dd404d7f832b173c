// Hands over what Node has compiled so far, where Virga initialises a function in order to keep that: see
// compiled/parcel.rs for the form. The client calls it once the handler is loaded; for a web server it is loaded before
// the program, and does so again and again until the sandbox is ended.
'use strict';

const fs = require('fs');
const path = require('path');
const Module = require('module');

const PARCEL = 3;
const HEAD = 8;
const EVERY_MS = 200;
const { NODE_COMPILE_CACHE: folder } = process.env;
/** The head of what was handed over last: how many files, and their size. */
let handed = Buffer.alloc(0);

/** Every file below the folder: Node has one folder a version and flags, and files in that. */
function* files() {
  for (const version of fs.readdirSync(folder)) {
    for (const name of fs.readdirSync(path.join(folder, version))) {
      yield [Buffer.from(`${version}/${name}`), fs.readFileSync(path.join(folder, version, name))];
    }
  }
}

function packed() {
  const parts = [Buffer.alloc(HEAD)];
  let count = 0;
  let size = 0;
  for (const [name, content] of files()) {
    const head = Buffer.alloc(6);
    head.writeUInt16LE(name.length, 0);
    head.writeUInt32LE(content.length, 2);
    parts.push(head, name, content);
    count += 1;
    size += head.length + name.length + content.length;
  }
  parts[0].writeUInt32LE(count, 0);
  parts[0].writeUInt32LE(size, 4);
  return parts;
}

function handOver() {
  Module.flushCompileCache();
  try {
    const [head, ...parts] = packed();
    if (head.equals(handed)) return;
    // What it holds counts once the head says so.
    fs.writeSync(PARCEL, Buffer.alloc(HEAD), 0, HEAD, 0);
    let at = HEAD;
    for (const part of parts) at += fs.writeSync(PARCEL, part, 0, part.length, at);
    fs.writeSync(PARCEL, head, 0, HEAD, 0);
    handed = head;
  } catch (_) {
    // More than it takes, or a process that was not handed one: what is compiled is not kept.
  }
}

module.exports = handOver;
if (module.isPreloading) setInterval(handOver, EVERY_MS).unref();
