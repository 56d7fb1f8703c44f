// What does a program do that uses the official client? One run from upload to result, told as a line of JSON.
//
// Usage: node journey.mjs SERVER_URL KEY DEPLOYMENT_ID

import http from "node:http";
import { once } from "node:events";
import { createRequire } from "node:module";

const { ComfyDeploy } = createRequire(import.meta.url)("comfydeploy");

const [serverURL, bearer, deploymentId] = process.argv.slice(2);
const sdk = new ComfyDeploy({ serverURL, bearer });
const told = {};

// A receiver of webhooks that reads them with the client's own validation.
const hooks = [];
const receiver = http.createServer(async (request, response) => {
  let body = "";
  for await (const chunk of request) body += chunk;
  const { method, headers } = request;
  const url = `http://${headers.host}${request.url}`;
  hooks.push(await sdk.validateWebhook({ request: { body, headers, url, method } }));
  response.end("ok");
});
receiver.listen(0, "127.0.0.1");
await once(receiver, "listening");

const deployments = await sdk.deployments.list({ environment: "production" });
told.deployments = deployments.map((deployment) => deployment.workflow.name);
told.inputs = deployments.find((one) => one.id === deploymentId).inputTypes.map((input) => input.inputId);

const file = new Blob([new Uint8Array([1, 2, 3])]);
const uploaded = await sdk.file.upload({ file: { fileName: "me.png", content: file } });
told.uploaded = uploaded.fileName;

const { runId } = await sdk.run.deployment.queue({
  deploymentId,
  inputs: { prompt: "a lighthouse", seed: 5, image: uploaded.fileUrl },
  webhook: `http://127.0.0.1:${receiver.address().port}/hook`,
});
let run;
do {
  await new Promise((resolve) => setTimeout(resolve, 20));
  run = await sdk.run.get({ runId });
} while (!["success", "failed", "timeout", "cancelled"].includes(run.status));
told.status = run.status;
told.createdAt = run.createdAt instanceof Date;
told.runDuration = run.runDuration;
told.kinds = run.outputs.map((output) => Object.keys(output.data)[0]);

const events = [];
for await (const event of await sdk.run.deployment.stream({ deploymentId, inputs: { prompt: "streamed" } })) {
  events.push(event.data.event);
}
told.stream = events.slice(0, 2);

try {
  await sdk.run.get({ runId: "00000000-0000-4000-8000-00000000dead" });
} catch (error) {
  told.unknown = error.statusCode;
}
for (let waited = 0; hooks.length < 4 && waited < 100; waited++) {
  await new Promise((resolve) => setTimeout(resolve, 20));
}
told.hooks = hooks.map((hook) => hook.status).sort();
receiver.close();
receiver.closeAllConnections();
console.log(JSON.stringify(told));
