// InvokeWithResponseStream through aws-sdk-js v3.
import assert from "node:assert/strict";
import * as lambda from "@aws-sdk/client-lambda";

const [FunctionName] = process.argv.slice(2);
const client = new lambda.LambdaClient({ maxAttempts: 1 });
const decoder = new TextDecoder();

async function call(event, more = {}) {
  const command = new lambda.InvokeWithResponseStreamCommand({ FunctionName, Payload: JSON.stringify(event), ...more });
  const answer = await client.send(command);
  assert.equal(answer.StatusCode, 200);
  let text = "";
  let last;
  for await (const event of answer.EventStream) {
    if (event.PayloadChunk) text += decoder.decode(event.PayloadChunk.Payload);
    if (event.InvokeComplete) last = event.InvokeComplete;
  }
  return [text, last];
}

const [text, last] = await call({ pieces: ["a", "\u00e4"] }, { LogType: "Tail" });
assert.equal(text, "a\u00e4");
assert.equal(last.ErrorCode, undefined);
assert.match(Buffer.from(last.LogResult, "base64").toString(), /REPORT RequestId/);
const [begun, failed] = await call({ pieces: ["x"], late: true });
assert.equal(begun, "x");
assert.equal(failed.ErrorCode, "Unhandled");
assert.equal(JSON.parse(failed.ErrorDetails).errorMessage, "late");
await assert.rejects(call({}, { Qualifier: "77" }), lambda.ResourceNotFoundException);
console.log("all of it held");
