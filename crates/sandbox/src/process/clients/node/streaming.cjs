// Answers in pieces, for Node: what `awslambda.streamifyResponse` makes of a handler, and the stream that it writes to.
//
// The answer goes out as a chunked body (`Lambda-Runtime-Function-Response-Mode: streaming`); what goes wrong after its
// first byte is told in trailers. Only functions that stream pay for loading this.
'use strict';

const { Writable } = require('stream');

const HEAD_FIRST = 'application/vnd.awslambda.http-integration-response';
const OCTETS = 'application/octet-stream';
const TRAILERS = ['Lambda-Runtime-Function-Error-Type', 'Lambda-Runtime-Function-Error-Body'];

/** A chunk of a body (RFC 9112 §7.1). */
function framed(chunk) {
  return Buffer.concat([Buffer.from(`${chunk.length.toString(16)}\r\n`), chunk, Buffer.from('\r\n')]);
}

/** An error as trailers: its type, and its report in base64. */
function trailers({ type, json }) {
  return `${TRAILERS[0]}: ${type}\r\n${TRAILERS[1]}: ${Buffer.from(json).toString('base64')}\r\n`;
}

/**
 * What a handler writes its answer to. A chunk is taken when the socket has taken it, so that who writes as the stream
 * allows is held up by who reads. `exchange` is the connection's: `begin(head)`, `write(data, taken)`.
 */
class ResponseStream extends Writable {
  constructor(exchange, highWaterMark) {
    super(highWaterMark === undefined ? {} : { highWaterMark });
    this.exchange = exchange;
    this.contentType = undefined;
    /** Called with a function that writes, just before the first chunk is. */
    this._onBeforeFirstWrite = undefined;
    this.begun = false;
    this.asked = false;
  }

  setContentType(type) {
    if (this.asked) {
      const error = new Error('Cannot set content-type, too late.');
      error.name = 'InvalidStreamingOperation';
      throw error;
    }
    this.contentType = String(type);
  }

  /** Anything else than bytes and text is written as its JSON. */
  write(chunk, encoding, taken) {
    const plain = typeof chunk === 'string' || chunk instanceof Uint8Array;
    return super.write(plain ? chunk : JSON.stringify(chunk), encoding, taken);
  }

  _write(chunk, encoding, taken) {
    const data = Buffer.isBuffer(chunk) ? chunk : Buffer.from(chunk, encoding);
    if (this.asked) return this.send(data, taken);
    const before = this.before();
    return this.send(before.length === 0 ? data : Buffer.concat([before, data]), taken);
  }

  /** What comes before the first chunk. */
  before() {
    this.asked = true;
    const chunks = [];
    const ask = this._onBeforeFirstWrite;
    if (ask) ask((chunk) => chunks.push(Buffer.from(chunk)));
    return Buffer.concat(chunks);
  }

  send(data, taken) {
    if (data.length === 0) return taken();
    const chunk = framed(data);
    if (this.begun) return this.exchange.write(chunk, taken);
    this.exchange.write(Buffer.concat([Buffer.from(this.head()), chunk]), taken);
  }

  head() {
    this.begun = true;
    const type = (this.contentType || OCTETS).replace(/[^\x20-\x7e]/g, '');
    return this.exchange.begin(
      `Content-Type: ${type}\r\nLambda-Runtime-Function-Response-Mode: streaming\r\n` +
        `Transfer-Encoding: chunked\r\nTrailer: ${TRAILERS.join(', ')}\r\n`,
    );
  }

  /** All is written. The answer's end goes out when the handler is done too. */
  _final(taken) {
    if (!this.asked) {
      const before = this.before();
      if (before.length > 0) return this.send(before, taken);
    }
    taken();
  }

  /** The answer is over, with an error if there is one. */
  conclude(error, taken) {
    const head = this.begun ? '' : this.head();
    this.exchange.write(Buffer.from(`${head}0\r\n${error ? trailers(error) : ''}\r\n`), taken || (() => {}));
  }
}

/** `awslambda.HttpResponseStream`: a response with status, headers and cookies. */
const HttpResponseStream = {
  from(stream, metadata) {
    stream.setContentType(HEAD_FIRST);
    const head = JSON.stringify(metadata === undefined || metadata === null ? {} : metadata);
    stream._onBeforeFirstWrite = (write) => {
      write(head);
      write(new Uint8Array(8));
    };
    return stream;
  },
};

module.exports = { ResponseStream, HttpResponseStream };
