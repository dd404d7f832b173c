// Boots Node before its function is known: see the orders in clients.rs. What every function needs is done once
// here, so that it is loaded and compiled when the function comes; the client itself begins with the function's
// environment in place.
'use strict';

const fs = require('fs');
const net = require('net');
const path = require('path');
const util = require('util');
const { pathToFileURL } = require('url');
const Module = require('module');

const CLIENT = path.join(__dirname, 'bootstrap.cjs');
const ORDERS = 3;

/** Loads a module of each kind, as a handler will be. */
async function loadSomething() {
  const file = path.join(__dirname, 'warm.cjs');
  fs.statSync(file).isFile();
  Module.createRequire(file)(file).handler();
  delete require.cache[file];
  await import(pathToFileURL(path.join(__dirname, 'warm.mjs')).href);
}

/** Connects to where nobody listens: all but the answer is as it will be. */
function connectSomewhere() {
  return new Promise((done) => {
    const socket = net.connect({ host: '127.0.0.1', port: 1, noDelay: true });
    socket.on('data', () => {});
    socket.on('error', () => {});
    socket.on('close', done);
    socket.write('x');
  });
}

/** Makes what was ordered the environment, and nothing else. */
function become(environment) {
  for (const name of Object.keys(process.env)) delete process.env[name];
  Object.assign(process.env, environment);
  process.chdir(process.env.LAMBDA_TASK_ROOT || '/var/task');
  // Node reads this as it starts, and has started.
  if (process.env.NODE_COMPILE_CACHE) Module.enableCompileCache(process.env.NODE_COMPILE_CACHE);
}

async function main() {
  await loadSomething();
  await connectSomewhere();
  // Made when they are first asked for.
  void process.stdout;
  void process.stderr;
  util.format('%s %j', JSON.parse('"x"'), new Date(0).toISOString());
  const text = fs.readFileSync(ORDERS, 'utf8');
  fs.closeSync(ORDERS);
  if (text === '') process.exit(0);
  become(JSON.parse(text));
  process.argv[1] = CLIENT;
  delete require.cache[__filename];
  // As the program that Node was started with, outside of this function's promise.
  setImmediate(() => Module._load(CLIENT, null, true));
}

main();
