// Does for a test what it writes, a line of JSON each, through aws-sdk-js v3: {service, operation, input} in, and out
// {output} or {error, status, message}. Bytes are {"$bytes": base64} both ways.
import { createInterface } from "node:readline";
import * as lambda from "@aws-sdk/client-lambda";
import * as logs from "@aws-sdk/client-cloudwatch-logs";
import * as iam from "@aws-sdk/client-iam";
import * as sqs from "@aws-sdk/client-sqs";
import * as sts from "@aws-sdk/client-sts";

const settings = { maxAttempts: 1, disableHostPrefix: true };
const services = {
  lambda: [lambda, new lambda.LambdaClient(settings)],
  logs: [logs, new logs.CloudWatchLogsClient(settings)],
  iam: [iam, new iam.IAMClient(settings)],
  sqs: [sqs, new sqs.SQSClient(settings)],
  sts: [sts, new sts.STSClient(settings)],
};

const bytesIn = (_, value) => (value?.$bytes === undefined ? value : Buffer.from(value.$bytes, "base64"));
// A Date has its own form before a replacer sees it, which is why this walks by itself.
function plain(value) {
  if (value instanceof Date) return value.toISOString();
  if (value instanceof Uint8Array) return { $bytes: Buffer.from(value).toString("base64") };
  if (Array.isArray(value)) return value.map(plain);
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, plain(each)]));
  }
  return value;
}

// Streams of events are read to their end, or to the first event where they have none.
async function whole({ $metadata, ...output }) {
  for (const [name, value] of Object.entries(output)) {
    if (typeof value?.[Symbol.asyncIterator] !== "function") continue;
    output[name] = [];
    for await (const event of value) {
      output[name].push(event);
      if (event.sessionStart) break;
    }
  }
  return plain(output);
}

async function answer({ service, operation, input }) {
  const [library, client] = services[service];
  try {
    return { output: await whole(await client.send(new library[`${operation}Command`](input))) };
  } catch (error) {
    return { error: error.name, status: error.$metadata?.httpStatusCode, message: error.message };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await answer(JSON.parse(line, bytesIn))));
}
// A live tail that was left has its connection still.
process.exit();
