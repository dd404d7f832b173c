// Virga's runtime client for Node event handlers.
//
// Asks the Lambda Runtime API (2018-06-01) for events, calls the handler, posts what it returns. Speaks HTTP
// over a plain socket, since Node's own client costs more than most handlers. Needs nothing but Node 16.
'use strict';

const net = require('net');
const fs = require('fs');
const path = require('path');
const util = require('util');
const { pathToFileURL } = require('url');
const { createRequire } = require('module');

const API = '/2018-06-01/runtime/';
const NEXT = 'invocation/next';
const TASK = process.env.LAMBDA_TASK_ROOT || '/var/task';
const ADDRESS = process.env.AWS_LAMBDA_RUNTIME_API;

// What the function may replace and the client goes on needing.
const { now } = Date;
const exit = process.exit.bind(process);

/** How many invocations may be under way at once. */
const MOST = Number(process.env.AWS_LAMBDA_MAX_CONCURRENCY) || 1;
const SEVERAL = MOST > 1;

/** With several: whose code is running. */
const hooks = SEVERAL ? require('async_hooks') : undefined;
const storage = SEVERAL ? new hooks.AsyncLocalStorage() : undefined;
/** With one: the invocation under way. */
let only;

/** The invocation that log lines and errors which no handler catches belong to. */
function current() {
  return SEVERAL ? storage.getStore() : only;
}

/** The invocations under way. */
const running = new Set();

// While a function runs, only its own work keeps the event loop alive: the client's sockets never do, and this timer
// does while nothing runs. It never comes to anything. With several invocations at once it always does: what one has
// left to do may be waiting for the next one.
const keeper = setInterval(() => {}, 0x7fffffff);

function begins(invocation) {
  running.add(invocation);
  if (SEVERAL) return;
  only = invocation;
  keeper.unref();
}

function ends(invocation) {
  running.delete(invocation);
  if (SEVERAL) return;
  only = undefined;
  keeper.ref();
}

// --- The Runtime API over one kept connection ---

/** One request at a time; the answer comes as `(error, status, headers, body)`. */
class Connection {
  constructor(address) {
    const colon = address.lastIndexOf(':');
    this.options = { host: address.slice(0, colon), port: Number(address.slice(colon + 1)), noDelay: true };
    this.host = address;
    this.socket = undefined;
    this.chunks = [];
    this.size = 0;
    this.needed = 0;
    this.waiting = undefined;
  }

  get(path, headers, done) {
    this.send(`GET ${API}${path} HTTP/1.1\r\nHost: ${this.host}\r\n${headers}\r\n`, undefined, done);
  }

  post(path, headers, body, done) {
    const length = Buffer.byteLength(body);
    const head = `POST ${API}${path} HTTP/1.1\r\nHost: ${this.host}\r\n${headers}Content-Length: ${length}\r\n\r\n`;
    this.send(head, body, done);
  }

  /** A message is one write. A kept connection that turns out to be broken is opened again once. */
  send(head, body, done) {
    const message = body === undefined ? head : typeof body === 'string' ? head + body : Buffer.concat([Buffer.from(head), body]);
    this.waiting = { message, done, again: this.socket !== undefined };
    this.write(message);
  }

  write(message) {
    if (!this.socket) this.open();
    this.socket.write(message);
  }

  /**
   * Begins a message whose body is written piece by piece: its head, to go out with the first piece. The answer may come
   * before the body's end. It is not sent again.
   */
  begin(path, headers, done) {
    this.waiting = { done, again: false };
    return `POST ${API}${path} HTTP/1.1\r\nHost: ${this.host}\r\n${headers}\r\n`;
  }

  /** Writes a piece. Until the socket has taken it, it keeps the event loop alive. */
  piece(data, taken) {
    if (!this.socket) this.open();
    const { socket } = this;
    socket.ref();
    socket.write(data, (error) => {
      socket.unref();
      taken(error);
    });
  }

  open() {
    const socket = net.connect(this.options);
    this.socket = socket;
    this.forget();
    socket.unref();
    socket.on('data', (chunk) => this.read(chunk));
    socket.on('error', () => {});
    socket.on('close', () => {
      if (this.socket === socket) this.closed();
    });
  }

  closed() {
    this.socket = undefined;
    const waiting = this.waiting;
    if (!waiting) return;
    if (waiting.again) {
      waiting.again = false;
      this.write(waiting.message);
    } else {
      this.waiting = undefined;
      waiting.done(new Error('the Runtime API cannot be reached'));
    }
  }

  forget() {
    this.chunks = [];
    this.size = 0;
    this.needed = 0;
  }

  read(chunk) {
    this.chunks.push(chunk);
    this.size += chunk.length;
    if (this.size < this.needed) return;
    const data = this.chunks.length === 1 ? chunk : Buffer.concat(this.chunks, this.size);
    this.chunks = [data];
    const end = data.indexOf('\r\n\r\n');
    if (end < 0) return;
    const lines = data.toString('utf8', 0, end).split('\r\n');
    const headers = Object.create(null);
    for (let i = 1; i < lines.length; i++) {
      const colon = lines[i].indexOf(':');
      headers[lines[i].slice(0, colon).toLowerCase()] = lines[i].slice(colon + 1).trim();
    }
    this.needed = end + 4 + Number(headers['content-length'] || 0);
    if (data.length < this.needed) return;
    const body = data.subarray(end + 4, this.needed);
    const { done } = this.waiting;
    this.waiting = undefined;
    this.forget();
    done(undefined, Number(lines[0].split(' ', 2)[1]), headers, body);
  }
}

/**
 * A connection that asks for an event, brings it, and takes its answer. There are as many as invocations were ever
 * under way at once, and one that asks for more, up to the function's concurrency.
 */
class Slot {
  constructor() {
    this.connection = new Connection(ADDRESS);
    this.asks = false;
    this.half = false;
    slots.push(this);
  }

  /** Asks for an event. */
  next(headers = '') {
    this.asks = true;
    this.connection.get(NEXT, headers, (failure, status, head, body) => {
      if (failure) return this.failed(failure);
      if (status !== 200) return lost(new Error(`the Runtime API answered ${status} to next`));
      this.got(head, body);
    });
  }

  /** Answers an invocation. The reply is the next event, unless the API has something to say against the answer. */
  answer(path, headers, body) {
    this.asks = true;
    this.connection.post(path, `${headers}Virga-Next: 1\r\n`, body, (failure, status, head, reply) => {
      if (failure) return lost(failure);
      if (status !== 200) return this.next();
      this.got(head, reply);
    });
  }

  /** What a streamed answer is written to. Its reply is not the next event: the function may yet end the process. */
  exchange(path) {
    return {
      begin: (headers) => this.connection.begin(path, headers, (failure) => {
        if (failure) return lost(failure);
        this.replied();
      }),
      write: (data, taken) => this.connection.piece(data, taken),
    };
  }

  /** The API has replied to a streamed answer, or all of that is written: after both the next event is asked for. */
  replied() {
    this.half = !this.half;
    if (!this.half) this.next();
  }

  got(headers, body) {
    this.asks = false;
    if (SEVERAL && slots.length < MOST && !slots.some((slot) => slot.asks)) new Slot().next();
    const invocation = new Invocation(this, headers);
    if (!SEVERAL) return run(invocation, body);
    // A resource of its own: what the function enters in storage of its own does not stay with the socket.
    new hooks.AsyncResource('Invocation').runInAsyncScope(() => storage.run(invocation, run, invocation, body));
  }

  /** One slot of several may fail to open, as when too many files are open; the others go on. */
  failed(failure) {
    slots.splice(slots.indexOf(this), 1);
    if (slots.length === 0) lost(failure);
  }
}

const slots = [];
const first = new Slot();

/** Nothing can be done without the API. */
function lost(error) {
  process.stderr.write(`${error.message}\n`);
  exit(1);
}

// --- Errors, as Lambda reports them ---

/** An error that the client itself found, with Lambda's name for it. */
class Fault extends Error {
  constructor(name, message, cause) {
    super(message);
    this.name = name;
    if (cause && cause.stack) this.stack = `${name}: ${message}\n${String(cause.stack).split('\n').slice(1).join('\n')}`;
  }
}

function isError(value) {
  return value instanceof Error || util.types.isNativeError(value);
}

/** What is posted. */
function described(error) {
  if (!isError(error)) {
    return { errorType: typeof error, errorMessage: String(error), trace: [] };
  }
  return {
    errorType: String(error.name),
    errorMessage: String(error.message),
    trace: String(error.stack || '').split('\n'),
  };
}

/** What is logged: the error's own members too. */
function forLog(error) {
  if (!isError(error)) return { errorType: typeof error, errorMessage: String(error), stack: [] };
  return {
    errorType: error.name,
    errorMessage: error.message,
    ...error,
    stack: typeof error.stack === 'string' ? error.stack.split('\n') : error.stack,
  };
}

function json(value) {
  try {
    return JSON.stringify(value);
  } catch (_) {
    return JSON.stringify({ errorType: String(value.errorType), errorMessage: String(value.errorMessage) });
  }
}

function logError(title, error) {
  if (process.env.AWS_LAMBDA_LOG_FORMAT === 'JSON') {
    writeEntry('ERROR', [isError(error) ? error : forLog(error)]);
    return;
  }
  writeLine('ERROR', `${title}\t${json(forLog(error))}`);
}

/** What an error is posted as: headers and body. */
function reported(error) {
  const report = described(error);
  const type = report.errorType.replace(/[^\x21-\x7e]/g, '_') || 'Error';
  return [`Content-Type: application/json\r\nLambda-Runtime-Function-Error-Type: ${type}\r\n`, json(report)];
}

/** Initialisation failed. */
function failInit(error) {
  keeper.ref();
  const [headers, body] = reported(error);
  first.connection.post('init/error', headers, body, (failure) => (failure ? lost(failure) : exit(1)));
}

/**
 * An error that nothing caught. With several invocations under way it is the answer of the one that it belongs to,
 * and the others go on; else it is reported where it belongs, and is the end of the process.
 */
function uncaught(title, error, code) {
  const invocation = current();
  logError(title, error);
  if (SEVERAL && invocation && !invocation.over) return invocation.report(error);
  keeper.ref();
  const [headers, body] = reported(error);
  const done = () => exit(code);
  if (!handler) return first.connection.post('init/error', headers, body, done);
  if (SEVERAL) {
    // Late work of an invocation that is over harms nobody else.
    if (invocation) return undefined;
    return running.size === 0 ? exit(code) : failAll(error, done);
  }
  if (!invocation) return exit(code);
  invocation.lastError(error, done);
}

/** Nobody knows whose error it is: it is everybody's. */
function failAll(error, done) {
  let left = running.size;
  for (const invocation of running) {
    invocation.lastError(error, () => {
      left -= 1;
      if (left === 0) done();
    });
  }
}

// --- Output ---

const stdout = process.stdout;

/** Lambda's form of a console line; its newlines become carriage returns, so that it stays one event. */
function writeLine(level, text) {
  const invocation = current();
  const id = invocation ? invocation.id : undefined;
  const line = `${new Date(now()).toISOString()}\t${id}\t${level}\t${text}`.replace(/\n/g, '\r');
  stdout.write(`${line}\n`);
}

/** From the least important to the most, as the function's configuration names them. */
const LEVELS = ['TRACE', 'DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL'];

/** Lambda's form of an error in a log of JSON. */
function errorEntry(error) {
  return { errorType: error.name, errorMessage: error.message, stackTrace: String(error.stack).split('\n') };
}

/** A line of a log of JSON (Lambda: Using structured JSON logs with Node.js). */
function writeEntry(level, values) {
  const invocation = current();
  const entry = { timestamp: new Date(now()).toISOString(), level };
  if (invocation) entry.requestId = invocation.id;
  const [first] = values;
  const replaced = (_, value) => (value instanceof Error ? errorEntry(value) : value);
  let text;
  try {
    const plain = values.length === 1 && typeof first === 'object' && first !== null;
    text = JSON.stringify({ ...entry, message: plain ? first : util.format(...values), ...errorOf(values) }, replaced);
  } catch (_) {
    // It leads back to itself, or is of a kind that JSON does not have.
    text = JSON.stringify({ ...entry, message: util.format(...values) });
  }
  stdout.write(`${text}\n`);
}

/** Of several values the first error is told apart. */
function errorOf(values) {
  const error = values.length > 1 ? values.find((value) => value instanceof Error) : undefined;
  return error ? errorEntry(error) : {};
}

function patchConsoleForJson() {
  const from = LEVELS.indexOf(process.env.AWS_LAMBDA_LOG_LEVEL);
  const levels = { trace: 'TRACE', debug: 'DEBUG', log: 'INFO', info: 'INFO', warn: 'WARN', error: 'ERROR', fatal: 'FATAL' };
  for (const [method, level] of Object.entries(levels)) {
    console[method] = LEVELS.indexOf(level) < from ? () => {} : (...values) => writeEntry(level, values);
  }
}

function patchConsole() {
  if (process.env.AWS_LAMBDA_LOG_FORMAT === 'JSON') {
    patchConsoleForJson();
    return;
  }
  const levels = { log: 'INFO', info: 'INFO', debug: 'DEBUG', warn: 'WARN', error: 'ERROR' };
  for (const [method, level] of Object.entries(levels)) {
    console[method] = (...values) => writeLine(level, util.format(...values));
  }
  console.fatal = (...values) => writeLine('FATAL', util.format(...values));
  console.trace = function trace(...values) {
    const here = { name: 'Trace', message: util.format(...values) };
    Error.captureStackTrace(here, trace);
    writeLine('TRACE', here.stack);
  };
}

// --- The handler ---

/** Splits `dir/module.some.function` into the module's path and the function's. */
function parseHandler(handler) {
  if (handler.includes('..')) {
    throw new Fault('Runtime.MalformedHandlerName', `'${handler}' is not a valid handler name. Use absolute paths when specifying root directories in handler names.`);
  }
  const base = path.basename(handler);
  const parts = base.match(/^([^.]*)\.(.+)$/);
  if (!parts) throw new Fault('Runtime.MalformedHandlerName', 'Bad handler');
  return { module: path.join(handler.slice(0, handler.length - base.length), parts[1]), members: parts[2].split('.') };
}

function isFile(file) {
  try {
    return fs.statSync(file).isFile();
  } catch (_) {
    return false;
  }
}

/** Lambda's order: the file without an extension, .js, .mjs, .cjs; then whatever `require` finds. */
async function loadModule(name) {
  const file = path.resolve(TASK, name);
  if (isFile(file)) return require(file);
  for (const extension of ['.js', '.mjs', '.cjs']) {
    if (!isFile(file + extension)) continue;
    const esm = extension === '.mjs' || (extension === '.js' && isModulePackage(file));
    return esm ? import(pathToFileURL(file + extension).href) : require(file + extension);
  }
  // A folder with an index, or a package of a layer.
  const fromTask = createRequire(path.join(TASK, 'index.js'));
  let found;
  try {
    found = fromTask.resolve(file);
  } catch (_) {
    try {
      found = fromTask.resolve(name);
    } catch (_) {
      throw new Fault('Runtime.ImportModuleError', `Error: Cannot find module '${path.basename(name)}'\nRequire stack:\n- ${__filename}`);
    }
  }
  return require(found);
}

/** Whether the nearest package.json says `"type": "module"`. */
function isModulePackage(file) {
  for (let folder = path.dirname(file); ; folder = path.dirname(folder)) {
    try {
      return JSON.parse(fs.readFileSync(path.join(folder, 'package.json'), 'utf8')).type === 'module';
    } catch (error) {
      if (error.code !== 'ENOENT') return false;
    }
    if (folder === TASK || folder === path.dirname(folder)) return false;
  }
}

async function findHandler(name) {
  const { module, members } = parseHandler(name);
  let found;
  try {
    found = await loadModule(module);
  } catch (error) {
    if (error instanceof Fault) throw error;
    if (error instanceof SyntaxError) throw new Fault('Runtime.UserCodeSyntaxError', String(error), error);
    const missing = error && (error.code === 'MODULE_NOT_FOUND' || error.code === 'ERR_MODULE_NOT_FOUND');
    if (missing) throw new Fault('Runtime.ImportModuleError', String(error), error);
    throw error;
  }
  let handler = member(found, members);
  // A CommonJS module that was imported keeps its exports below `default`.
  if (handler === undefined && found && found.default) handler = member(found.default, members);
  if (handler === undefined || handler === null) {
    throw new Fault('Runtime.HandlerNotFound', `${name} is undefined or not exported`);
  }
  if (typeof handler !== 'function') throw new Fault('Runtime.HandlerNotFound', `${name} is not a function`);
  return handler;
}

function member(object, names) {
  return names.reduce((value, name) => (value === undefined || value === null ? undefined : value[name]), object);
}

// --- One invocation ---

function readJson(text) {
  if (!text) return undefined;
  try {
    return JSON.parse(text);
  } catch (_) {
    return undefined;
  }
}

/** What every invocation of this process is told. Read by the first: reading the environment takes a lock and a copy. */
let fixed;

function aboutInstance() {
  const { env } = process;
  fixed = {
    functionVersion: env.AWS_LAMBDA_FUNCTION_VERSION,
    functionName: env.AWS_LAMBDA_FUNCTION_NAME,
    memoryLimitInMB: env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: env.AWS_LAMBDA_LOG_STREAM_NAME,
  };
  return fixed;
}

/** An invocation and the one outcome that it may have. */
class Invocation {
  constructor(slot, headers) {
    this.slot = slot;
    this.id = headers['lambda-runtime-aws-request-id'];
    this.headers = headers;
    // With several the loop is never empty.
    this.waitForEmptyLoop = !SEVERAL;
    this.over = false;
    /** A callback's outcome that waits until the event loop is empty. */
    this.held = undefined;
    /** What a streaming handler writes to. */
    this.stream = undefined;
    /** Whether that handler has returned, or what it promised has come. */
    this.returned = false;
  }

  context() {
    const { functionVersion, functionName, memoryLimitInMB, logGroupName, logStreamName } = fixed || aboutInstance();
    const { headers } = this;
    const deadline = Number(headers['lambda-runtime-deadline-ms']);
    const invocation = this;
    const atOnce = (error, result) => {
      invocation.waitForEmptyLoop = false;
      invocation.settle(error, result);
    };
    return {
      get callbackWaitsForEmptyEventLoop() {
        return invocation.waitForEmptyLoop;
      },
      set callbackWaitsForEmptyEventLoop(wait) {
        invocation.waitForEmptyLoop = wait;
      },
      functionVersion,
      functionName,
      memoryLimitInMB,
      logGroupName,
      logStreamName,
      clientContext: readJson(headers['lambda-runtime-client-context']),
      identity: readJson(headers['lambda-runtime-cognito-identity']),
      invokedFunctionArn: headers['lambda-runtime-invoked-function-arn'],
      xRayTraceId: headers['lambda-runtime-trace-id'],
      awsRequestId: this.id,
      getRemainingTimeInMillis: () => Math.max(deadline - now(), 0),
      done: atOnce,
      succeed: (result) => atOnce(null, result),
      fail: (error) => atOnce(error === undefined || error === null ? 'handled' : error),
    };
  }

  /** From a callback: with Lambda's default it is answered when nothing is left to do. */
  settle(error, result) {
    if (this.over || this.held) return;
    if (!this.waitForEmptyLoop || error) {
      this.finish(error, result);
    } else {
      this.held = { result };
    }
  }

  finish(error, result) {
    if (this.over) return;
    this.over = true;
    if (error !== undefined && error !== null && error !== false) return this.fail(error);
    let body;
    try {
      body = JSON.stringify(result);
    } catch (cause) {
      return this.fail(new Fault('Runtime.UnserializableResult', `Unable to stringify response body: ${cause.message}`, cause));
    }
    // What has no JSON (undefined, a function) is null.
    const text = body === undefined ? 'null' : body;
    ends(this);
    this.slot.answer(`invocation/${this.id}/response`, 'Content-Type: application/json\r\n', text);
  }

  fail(error) {
    logError('Invoke Error ', error);
    this.report(error);
  }

  report(error) {
    this.over = true;
    if (this.stream && this.stream.begun) return this.conclude(error);
    if (this.stream) this.stream.destroy();
    ends(this);
    this.slot.answer(`invocation/${this.id}/error`, ...reported(error));
  }

  /** Reports an error that the process ends with. */
  lastError(error, done) {
    this.over = true;
    const [headers, body] = reported(error);
    if (!this.stream || !this.stream.begun) {
      return this.slot.connection.post(`invocation/${this.id}/error`, headers, body, done);
    }
    // The API's reply says that it is taken.
    this.slot.replied = done;
    this.stream.conclude(inTrailers(error));
  }

  // What a streaming handler makes.

  open(highWaterMark) {
    const { ResponseStream } = streaming();
    const stream = new ResponseStream(this.slot.exchange(`invocation/${this.id}/response`), highWaterMark);
    stream.on('finish', () => this.streamed());
    // One that is given up before its end has failed, whatever the handler does then.
    stream.on('error', (error) => this.finish(error));
    stream.on('close', () => {
      if (!stream.writableFinished) this.finish(new Fault('Runtime.StreamError', 'The response stream was destroyed before its end.'));
    });
    this.stream = stream;
    return stream;
  }

  /** The handler is done, or the stream is: the answer is over after both. */
  streamed() {
    if (!this.over && this.returned && this.stream.writableFinished) this.conclude();
  }

  conclude(error) {
    this.over = true;
    const { stream, slot } = this;
    stream.conclude(error ? inTrailers(error) : undefined, () => slot.replied());
    if (error) stream.destroy();
    ends(this);
  }

  /** Nothing is left to do: a callback's outcome goes out, and no outcome at all is null. */
  loopIsEmpty() {
    if (this.over) return;
    if (!this.stream) return this.finish(null, this.held ? this.held.result : null);
    this.returned = true;
    this.stream.end();
    this.streamed();
  }
}

let handler;

// --- Answers in pieces ---

const STREAMING = Symbol.for('aws.lambda.runtime.handler.streaming');
const HIGH_WATER_MARK = Symbol.for('aws.lambda.runtime.handler.streaming.highWaterMark');

function streaming() {
  return require('./streaming.cjs');
}

/** An error as a streamed answer's trailers tell it. */
function inTrailers(error) {
  const report = described(error);
  return { type: report.errorType.replace(/[^\x21-\x7e]/g, '_') || 'Error', json: json(report) };
}

/** What functions find as `awslambda`. */
globalThis.awslambda = {
  ...globalThis.awslambda,
  streamifyResponse(streams, options) {
    streams[STREAMING] = 'response';
    if (options && options.highWaterMark !== undefined) streams[HIGH_WATER_MARK] = Number(options.highWaterMark);
    return streams;
  },
  get HttpResponseStream() {
    return streaming().HttpResponseStream;
  },
};

/** Runs a handler that writes its answer to a stream. */
function runStreaming(invocation, event) {
  const stream = invocation.open(handler[HIGH_WATER_MARK]);
  const returned = () => {
    invocation.returned = true;
    invocation.streamed();
  };
  const result = handler(event, stream, invocation.context());
  if (result === null || result === undefined || typeof result.then !== 'function') return returned();
  result.then(returned, (error) => invocation.finish(isNothing(error) ? new Error(String(error)) : error));
}

function isNothing(error) {
  return error === undefined || error === null || error === false;
}

function run(invocation, body) {
  begins(invocation);
  if (!SEVERAL) {
    const trace = invocation.headers['lambda-runtime-trace-id'];
    if (trace) process.env._X_AMZN_TRACE_ID = trace;
    else delete process.env._X_AMZN_TRACE_ID;
  }
  let event;
  try {
    event = JSON.parse(body.toString('utf8'));
  } catch (error) {
    return invocation.finish(new Fault('Runtime.UnmarshalError', `Unable to unmarshal input: ${error.message}`));
  }
  try {
    if (handler[STREAMING]) return runStreaming(invocation, event);
    const result = handler(event, invocation.context(), (error, value) => invocation.settle(error, value));
    if (result !== null && result !== undefined && typeof result.then === 'function') {
      result.then(
        (value) => invocation.finish(null, value),
        (error) => invocation.finish(isNothing(error) ? new Error(String(error)) : error),
      );
    } else if (SEVERAL && handler.length < 3) {
      // It took no callback and gave no promise: it is done. One alone is done when the loop is empty.
      invocation.finish(null, null);
    }
  } catch (error) {
    invocation.finish(error === undefined || error === null ? new Error(String(error)) : error);
  }
}

// --- The process ---

process.on('uncaughtException', (error) => uncaught('Uncaught Exception ', error, 129));

process.on('unhandledRejection', (reason, promise) => {
  const message = isError(reason) ? reason.toString() : String(reason);
  const error = new Fault('Runtime.UnhandledPromiseRejection', message, isError(reason) ? reason : undefined);
  error.reason = reason;
  error.promise = promise;
  uncaught('Unhandled Promise Rejection ', error, 128);
});

process.on('beforeExit', () => {
  if (only) {
    only.loopIsEmpty();
  } else if (!handler) {
    const message = 'The handler module was not loaded: a top-level await or a promise in it was never settled.';
    failInit(new Fault('Runtime.NodeJsExit', message));
  }
});

async function main() {
  patchConsole();
  // While it initialises, too, only the function's own work keeps the event loop alive.
  keeper.unref();
  const began = process.hrtime.bigint();
  try {
    handler = await findHandler(process.env._HANDLER || '');
  } catch (error) {
    logError('Uncaught Exception ', error);
    return failInit(error);
  }
  keeper.ref();
  if (process.env.VIRGA_COMPILED) require('./compiled.cjs')();
  first.next(`Virga-Init-Began: ${began}\r\n`);
}

main();
