// A queue through aws-sdk-js v3, which checks the digests of bodies by itself.
import assert from "node:assert/strict";
import * as sqs from "@aws-sdk/client-sqs";

const client = new sqs.SQSClient({ maxAttempts: 1 });
const { QueueUrl } = await client.send(new sqs.CreateQueueCommand({ QueueName: `js-${process.pid}-${Date.now()}` }));

const MessageAttributes = {
  text: { DataType: "String", StringValue: "ä" },
  bytes: { DataType: "Binary", BinaryValue: Buffer.from([0, 255]) },
};
await client.send(new sqs.SendMessageCommand({ QueueUrl, MessageBody: "one ä", MessageAttributes }));
const Entries = [0, 1].map((n) => ({ Id: `m${n}`, MessageBody: `batch ${n}` }));
const sent = await client.send(new sqs.SendMessageBatchCommand({ QueueUrl, Entries }));
assert.equal(sent.Successful.length, 2);

const ask = { QueueUrl, MaxNumberOfMessages: 10, MessageAttributeNames: ["All"], WaitTimeSeconds: 5 };
const { Messages } = await client.send(new sqs.ReceiveMessageCommand(ask));
assert.deepEqual(Messages.map((each) => each.Body).sort(), ["batch 0", "batch 1", "one ä"]);
const one = Messages.find((each) => each.Body === "one ä");
assert.deepEqual(Buffer.from(one.MessageAttributes.bytes.BinaryValue), Buffer.from([0, 255]));
const handles = Messages.map(({ ReceiptHandle }, n) => ({ Id: `m${n}`, ReceiptHandle }));
const deleted = await client.send(new sqs.DeleteMessageBatchCommand({ QueueUrl, Entries: handles }));
assert.equal(deleted.Successful.length, 3);

await client.send(new sqs.DeleteQueueCommand({ QueueUrl }));
await assert.rejects(client.send(new sqs.GetQueueAttributesCommand({ QueueUrl })), sqs.QueueDoesNotExist);
console.log("all of it held");
