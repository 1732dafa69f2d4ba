/* What a user of the AWS SDK for JavaScript v3 does, with nothing of Cleave's. The engine is where AWS_ENDPOINT_URL says;
 * the zips and the runtime come as JSON on standard input. Prints one JSON object: what was observed, by name. It judges
 * nothing: tests/compat/test_sdks.py does, and asks tests/compat/go for the same. */

import { readFileSync } from "node:fs";
import * as sdk from "@aws-sdk/client-lambda";

const { runtime, role, code, changed } = JSON.parse(readFileSync(0, "utf8"));
const client = new sdk.LambdaClient({ maxAttempts: 1 });
const send = (command, options) => client.send(command, options);
const FunctionName = "from-js";
const waiting = { client, maxWaitTime: 50 };
const seen = {};

const text = (bytes) => new TextDecoder().decode(bytes);
const invoke = (event, more = {}) =>
  send(new sdk.InvokeCommand({ FunctionName, Payload: JSON.stringify(event), ...more }));
const value = async (event, more) => JSON.parse(text((await invoke(event, more)).Payload));

/** What a call was refused with: the class it can be caught by, and what the class tells. */
async function refusal(call) {
  try {
    await call;
  } catch (error) {
    return {
      class: error.constructor.name,
      name: error.name,
      status: error.$metadata?.httpStatusCode,
      attempts: error.$metadata?.attempts,
      reason: error.Reason ?? null,
      retry_after: error.retryAfterSeconds ?? null,
      message: error.message,
    };
  }
  return "nothing was refused";
}

/** The chunks of a stream, and how it ended. */
async function streamed(event, more = {}) {
  const answer = await send(
    new sdk.InvokeWithResponseStreamCommand({ FunctionName: "stream-js", Payload: JSON.stringify(event), ...more }),
  );
  const told = { chunks: [], status: answer.StatusCode, type: answer.ResponseStreamContentType, after_end: 0 };
  for await (const part of answer.EventStream) {
    if (told.end) told.after_end += 1;
    if (part.PayloadChunk) told.chunks.push(text(part.PayloadChunk.Payload));
    if (part.InvokeComplete) {
      const { ErrorCode, ErrorDetails, LogResult } = part.InvokeComplete;
      told.end = { code: ErrorCode ?? null, details: ErrorDetails ?? null, log: LogResult ?? null };
    }
  }
  return told;
}

const create = (name, more = {}) =>
  send(
    new sdk.CreateFunctionCommand({
      FunctionName: name,
      Runtime: runtime,
      Role: role,
      Handler: "app.handler",
      Code: { ZipFile: Buffer.from(code, "base64") },
      ...more,
    }),
  );

const steps = {
  async create() {
    const made = await create(FunctionName, {
      Environment: { Variables: { GREETING: "Ahoy – «world»" } },
      Tags: { team: "a b/ü" },
      Timeout: 20,
    });
    const waited = await sdk.waitUntilFunctionActiveV2(waiting, { FunctionName });
    const got = await send(new sdk.GetFunctionCommand({ FunctionName }));
    const download = await fetch(got.Code.Location);
    await create("stream-js", { Handler: "app.stream", Timeout: 50 });
    await sdk.waitUntilFunctionActiveV2(waiting, { FunctionName: "stream-js" });
    return {
      state: made.State,
      sha256: made.CodeSha256,
      waited: waited.state,
      state_then: got.Configuration.State,
      environment: got.Configuration.Environment.Variables,
      tags: got.Tags,
      code_is_what_was_sent: Buffer.from(await download.arrayBuffer()).toString("base64") === code,
    };
  },
  async payload() {
    const event = { do: "echo", text: "Ahoy – «world» \u0000 😀", list: [1, 2.5, null, true] };
    const answer = await invoke(event);
    const { StatusCode: status, ExecutedVersion: version, FunctionError: error } = answer;
    return { value: JSON.parse(text(answer.Payload)), sent: event, status, version, error: error ?? null };
  },
  async large_payload() {
    const event = { do: "echo", text: "x".repeat(5_000_000) };
    return { same: (await value(event)).text === event.text };
  },
  async too_large_payload() {
    return refusal(invoke({ do: "echo", text: "x".repeat(6_291_457) }));
  },
  async function_error() {
    const answer = await invoke({ do: "fail" });
    return { status: answer.StatusCode, error: answer.FunctionError, document: JSON.parse(text(answer.Payload)) };
  },
  async log_tail() {
    const answer = await invoke({ do: "echo" }, { LogType: "Tail" });
    return { log: Buffer.from(answer.LogResult, "base64").toString(), without: (await invoke({ do: "echo" })).LogResult ?? null };
  },
  async client_context() {
    const context = { custom: { key: "välue" }, client: { app_title: "a" } };
    return value({ do: "context" }, { ClientContext: Buffer.from(JSON.stringify(context)).toString("base64") });
  },
  async other_types() {
    const event = await invoke({ do: "echo" }, { InvocationType: "Event" });
    const dry = await invoke({ do: "echo" }, { InvocationType: "DryRun" });
    return { event: event.StatusCode, dry: dry.StatusCode };
  },
  async at_once() {
    const answers = await Promise.all([...Array(12).keys()].map((n) => value({ do: "echo", n })));
    return answers.map((answer) => answer.n);
  },
  async stream() {
    return streamed({ count: 50 });
  },
  async stream_log() {
    return (await streamed({ count: 2 }, { LogType: "Tail" })).end;
  },
  async stream_failure() {
    return streamed({ count: 3, then: "fail" });
  },
  async stream_of_nobody() {
    return refusal(streamed({}, { FunctionName: "nobody" }));
  },
  async stream_as_made() {
    // The function goes on for longer than this waits.
    const leave = new AbortController();
    const late = setTimeout(() => leave.abort(), 30_000);
    const request = { FunctionName: "stream-js", Payload: JSON.stringify({ count: 1, then: "hold" }) };
    const answer = await send(new sdk.InvokeWithResponseStreamCommand(request), { abortSignal: leave.signal });
    const first = await answer.EventStream[Symbol.asyncIterator]().next();
    clearTimeout(late);
    leave.abort();
    return text(first.value.PayloadChunk.Payload);
  },
  async absent() {
    return refusal(invoke({}, { FunctionName: "nobody" }));
  },
  async invalid() {
    return refusal(send(new sdk.UpdateFunctionConfigurationCommand({ FunctionName, MemorySize: 1 })));
  },
  async conflict() {
    return refusal(create(FunctionName));
  },
  async throttle() {
    await send(new sdk.PutFunctionConcurrencyCommand({ FunctionName, ReservedConcurrentExecutions: 0 }));
    const patient = new sdk.LambdaClient({ maxAttempts: 2 });
    const told = await refusal(patient.send(new sdk.InvokeCommand({ FunctionName })));
    patient.destroy();
    await send(new sdk.DeleteFunctionConcurrencyCommand({ FunctionName }));
    return { ...told, afterwards: (await value({ do: "echo", n: 1 })).n };
  },
  async update() {
    const before = await send(new sdk.GetFunctionConfigurationCommand({ FunctionName }));
    await send(
      new sdk.UpdateFunctionConfigurationCommand({ FunctionName, MemorySize: 256, RevisionId: before.RevisionId }),
    );
    const stale = await refusal(
      send(new sdk.UpdateFunctionConfigurationCommand({ FunctionName, MemorySize: 512, RevisionId: before.RevisionId })),
    );
    await sdk.waitUntilFunctionUpdatedV2(waiting, { FunctionName });
    await send(new sdk.UpdateFunctionCodeCommand({ FunctionName, ZipFile: Buffer.from(changed, "base64") }));
    const waited = await sdk.waitUntilFunctionUpdatedV2(waiting, { FunctionName });
    return { waited: waited.state, stale: stale.class, memory_mb: await value({ do: "memory" }), value: await value({ do: "echo" }) };
  },
  async publish() {
    const version = await send(new sdk.PublishVersionCommand({ FunctionName, Description: "one" }));
    await sdk.waitUntilPublishedVersionActive(waiting, { FunctionName, Qualifier: version.Version });
    const alias = await send(new sdk.CreateAliasCommand({ FunctionName, Name: "live", FunctionVersion: version.Version }));
    const ways = [
      { Qualifier: version.Version },
      { Qualifier: "live" },
      { FunctionName: `${FunctionName}:live` },
      { FunctionName: alias.AliasArn },
      { FunctionName: `000000000000:function:${FunctionName}`, Qualifier: "live" },
    ];
    const ran = [];
    for (const way of ways) ran.push((await invoke({ do: "version" }, way)).ExecutedVersion);
    return { version: version.Version, arn: alias.AliasArn, ran };
  },
  async timestamp() {
    const mapping = await send(
      new sdk.CreateEventSourceMappingCommand({ FunctionName, EventSourceArn: "arn:aws:sqs:us-east-1:000000000000:jobs" }),
    );
    const deleted = await send(new sdk.DeleteEventSourceMappingCommand({ UUID: mapping.UUID }));
    return { ms: mapping.LastModified.getTime(), state: deleted.State };
  },
  async pages() {
    for (const n of [1, 2, 3]) await create(`page-js-${n}`);
    const pages = [];
    for await (const page of sdk.paginateListFunctions({ client, pageSize: 2 }, {})) {
      pages.push(page.Functions.map((one) => one.FunctionName));
    }
    return pages;
  },
  async delete() {
    const names = [FunctionName, "stream-js", "page-js-1", "page-js-2", "page-js-3"];
    for (const name of names) await send(new sdk.DeleteFunctionCommand({ FunctionName: name }));
    const left = (await send(new sdk.ListFunctionsCommand({}))).Functions.map((one) => one.FunctionName);
    return { left, then: await refusal(send(new sdk.GetFunctionCommand({ FunctionName }))) };
  },
};

for (const [name, step] of Object.entries(steps)) {
  try {
    seen[name] = await step();
  } catch (error) {
    seen[name] = { failed: String(error.stack ?? error) };
  }
}
client.destroy();
process.stdout.write(JSON.stringify(seen));
