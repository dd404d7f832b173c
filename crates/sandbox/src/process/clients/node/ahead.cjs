// Boots Node before its function is known: see the orders in clients.rs. What is loaded here is in memory when the
// function comes; the client itself begins with the function's environment in place.
'use strict';

const fs = require('fs');
const vm = require('vm');
const path = require('path');
const Module = require('module');
require('net');
require('util');
require('url');

const CLIENT = path.join(__dirname, 'bootstrap.cjs');
const ORDERS = 3;

/** The client, compiled but not begun. */
function compiled() {
  const source = fs.readFileSync(CLIENT, 'utf8');
  return vm.compileFunction(source, ['exports', 'require', 'module', '__filename', '__dirname'], { filename: CLIENT });
}

/** Makes what was ordered the environment, and nothing else. */
function become(environment) {
  for (const name of Object.keys(process.env)) delete process.env[name];
  Object.assign(process.env, environment);
  process.chdir(process.env.LAMBDA_TASK_ROOT || '/var/task');
}

const client = compiled();
const text = fs.readFileSync(ORDERS, 'utf8');
fs.closeSync(ORDERS);
if (text === '') process.exit(0);
become(JSON.parse(text));
process.argv[1] = CLIENT;
const module_ = new Module(CLIENT, null);
module_.filename = CLIENT;
module_.paths = Module._nodeModulePaths(__dirname);
process.mainModule = module_;
client.call(module_.exports, module_.exports, module_.require.bind(module_), module_, CLIENT, __dirname);
