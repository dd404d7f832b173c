// Boots Node before its function is known: see the orders in clients.rs. What is touched here is in memory when
// the function comes; the client itself begins with the function's environment in place.
'use strict';

const fs = require('fs');
const path = require('path');
require('net');
require('util');
require('url');
const Module = require('module');
// Made when it is first asked for.
void process.stdout;
void process.stderr;

const CLIENT = path.join(__dirname, 'bootstrap.cjs');
const ORDERS = 3;

/** Makes what was ordered the environment, and nothing else. */
function become(environment) {
  for (const name of Object.keys(process.env)) delete process.env[name];
  Object.assign(process.env, environment);
  process.chdir(process.env.LAMBDA_TASK_ROOT || '/var/task');
}

const text = fs.readFileSync(ORDERS, 'utf8');
fs.closeSync(ORDERS);
if (text === '') process.exit(0);
become(JSON.parse(text));
process.argv[1] = CLIENT;
delete require.cache[__filename];
// As the program that Node was started with.
Module._load(CLIENT, null, true);
