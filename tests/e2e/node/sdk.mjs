// The life of a function through aws-sdk-js v3, with an endpoint and keys from the environment only.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import * as lambda from "@aws-sdk/client-lambda";

const [zip, runtime] = process.argv.slice(2);
const client = new lambda.LambdaClient({ maxAttempts: 1 });
const FunctionName = `js-${process.pid}-${Date.now()}`;
const text = (payload) => Buffer.from(payload).toString();

const created = await client.send(
  new lambda.CreateFunctionCommand({
    FunctionName,
    Runtime: runtime,
    Handler: "app.handler",
    Role: "arn:aws:iam::111122223333:role/e2e",
    Code: { ZipFile: readFileSync(zip) },
    Timeout: 10,
  }),
);
assert.equal(created.State, "Pending");
const waiter = { client, minDelay: 0.1, maxDelay: 1, maxWaitTime: 60 };
await lambda.waitUntilFunctionActiveV2(waiter, { FunctionName });

const invoke = (event, more = {}) =>
  client.send(new lambda.InvokeCommand({ FunctionName, Payload: JSON.stringify(event), LogType: "Tail", ...more }));
const answer = await invoke({ a: 1 });
assert.equal(answer.StatusCode, 200);
assert.equal(answer.FunctionError, undefined);
assert.deepEqual(JSON.parse(text(answer.Payload)).event, { a: 1 });
assert.match(Buffer.from(answer.LogResult, "base64").toString(), /REPORT RequestId/);

const failed = await invoke({ do: "raise", text: "from js" });
assert.equal(failed.FunctionError, "Unhandled");
assert.equal(JSON.parse(text(failed.Payload)).errorMessage, "from js");

await client.send(new lambda.UpdateFunctionConfigurationCommand({ FunctionName, MemorySize: 256 }));
await lambda.waitUntilFunctionUpdatedV2(waiter, { FunctionName });
await client.send(new lambda.UpdateFunctionCodeCommand({ FunctionName, ZipFile: readFileSync(zip) }));
await lambda.waitUntilFunctionUpdatedV2(waiter, { FunctionName });
const got = await client.send(new lambda.GetFunctionCommand({ FunctionName }));
assert.equal(got.Configuration.MemorySize, 256);
assert.deepEqual(Buffer.from(await (await fetch(got.Code.Location)).arrayBuffer()), readFileSync(zip));
assert.equal((await client.send(new lambda.PublishVersionCommand({ FunctionName }))).Version, "1");

const publisher = "arn:aws:signer:us-east-1:111122223333:/signing-profiles/nobody";
const { CodeSigningConfig } = await client.send(
  new lambda.CreateCodeSigningConfigCommand({
    AllowedPublishers: { SigningProfileVersionArns: [publisher] },
    CodeSigningPolicies: { UntrustedArtifactOnDeployment: "Enforce" },
  }),
);
const { CodeSigningConfigArn } = CodeSigningConfig;
await client.send(new lambda.PutFunctionCodeSigningConfigCommand({ FunctionName, CodeSigningConfigArn }));
const unsigned = client.send(new lambda.UpdateFunctionCodeCommand({ FunctionName, ZipFile: readFileSync(zip) }));
await assert.rejects(unsigned, lambda.CodeVerificationFailedException);
const having = await client.send(new lambda.ListFunctionsByCodeSigningConfigCommand({ CodeSigningConfigArn }));
assert.deepEqual(having.FunctionArns, [got.Configuration.FunctionArn]);
await client.send(new lambda.DeleteFunctionCodeSigningConfigCommand({ FunctionName }));
await client.send(new lambda.DeleteCodeSigningConfigCommand({ CodeSigningConfigArn }));
const gone = client.send(new lambda.PutFunctionCodeSigningConfigCommand({ FunctionName, CodeSigningConfigArn }));
await assert.rejects(gone, lambda.CodeSigningConfigNotFoundException);

const weights = { AdditionalVersionWeights: { 2: 0.25 } };
await client.send(new lambda.UpdateFunctionConfigurationCommand({ FunctionName, MemorySize: 128 }));
await lambda.waitUntilFunctionUpdatedV2(waiter, { FunctionName });
assert.equal((await client.send(new lambda.PublishVersionCommand({ FunctionName }))).Version, "2");
await lambda.waitUntilPublishedVersionActive(waiter, { FunctionName, Qualifier: "2" });
const alias = await client.send(
  new lambda.CreateAliasCommand({ FunctionName, Name: "live", FunctionVersion: "1", RoutingConfig: weights }),
);
assert.deepEqual(alias.RoutingConfig, weights);
assert.ok(["1", "2"].includes((await invoke({}, { Qualifier: "live" })).ExecutedVersion));
const moved = { FunctionName, Name: "live", FunctionVersion: "2", RoutingConfig: { AdditionalVersionWeights: {} } };
await client.send(new lambda.UpdateAliasCommand({ ...moved, RevisionId: alias.RevisionId }));
const stale = client.send(new lambda.UpdateAliasCommand({ ...moved, RevisionId: alias.RevisionId }));
await assert.rejects(stale, lambda.PreconditionFailedException);
assert.equal((await invoke({}, { Qualifier: "live" })).ExecutedVersion, "2");
const removal = client.send(new lambda.DeleteFunctionCommand({ FunctionName, Qualifier: "2" }));
await assert.rejects(removal, lambda.ResourceConflictException);
assert.equal((await client.send(new lambda.GetAliasCommand({ FunctionName, Name: "live" }))).FunctionVersion, "2");
assert.equal((await client.send(new lambda.ListAliasesCommand({ FunctionName }))).Aliases.length, 1);
await client.send(new lambda.DeleteAliasCommand({ FunctionName, Name: "live" }));

const url = await client.send(new lambda.CreateFunctionUrlConfigCommand({ FunctionName, AuthType: "NONE" }));
assert.match(url.FunctionUrl, /^http:\/\/[a-z0-9]{32}\.lambda-url\./);

const statement = { FunctionName, StatementId: "one", Action: "lambda:InvokeFunction", Principal: "s3.amazonaws.com" };
const added = JSON.parse((await client.send(new lambda.AddPermissionCommand(statement))).Statement);
assert.deepEqual(added.Principal, { Service: "s3.amazonaws.com" });
await assert.rejects(client.send(new lambda.AddPermissionCommand(statement)), lambda.ResourceConflictException);
const policy = await client.send(new lambda.GetPolicyCommand({ FunctionName }));
assert.deepEqual(JSON.parse(policy.Policy).Statement, [added]);
const other = { FunctionName, StatementId: "one", RevisionId: "0" };
await assert.rejects(client.send(new lambda.RemovePermissionCommand(other)), lambda.PreconditionFailedException);
await client.send(new lambda.RemovePermissionCommand({ FunctionName, StatementId: "one" }));
await assert.rejects(client.send(new lambda.GetPolicyCommand({ FunctionName })), lambda.ResourceNotFoundException);
const closed = await client.send(new lambda.UpdateFunctionUrlConfigCommand({ FunctionName, AuthType: "AWS_IAM" }));
assert.equal(closed.AuthType, "AWS_IAM");

const names = [];
for await (const page of lambda.paginateListFunctions({ client, pageSize: 1 }, {}))
  names.push(...page.Functions.map((each) => each.FunctionName));
assert.ok(names.includes(FunctionName));

await client.send(new lambda.DeleteFunctionCommand({ FunctionName }));
await assert.rejects(client.send(new lambda.GetFunctionCommand({ FunctionName })), lambda.ResourceNotFoundException);
console.log("all of it held");
