// Call the emulator's Files and Batch through the official client for Node: `npm_calls.cjs URL TOKEN FILE` prints JSON.
const fs = require("node:fs");
const OpenAI = require("openai");

async function errorOf(call) {
  try {
    await call();
  } catch (error) {
    return { class: error.constructor.name, status: error.status, code: error.code };
  }
  return null;
}

async function main([url, token, path]) {
  const client = new OpenAI({ apiKey: `Authorization: Bearer ${token}`, baseURL: url, maxRetries: 0 });
  const unauthorized = new OpenAI({ apiKey: "wrong", baseURL: url, maxRetries: 0 });
  const upload = () => client.files.create({ file: fs.createReadStream(path), purpose: "batch" });
  const create = (file) =>
    client.batches.create({ input_file_id: file, endpoint: "/v1/chat/completions", completion_window: "24h" });
  const created = [];
  for (let n = 0; n < 3; n += 1) created.push(await create((await upload()).id));
  const job = await client.batches.retrieve(created[0].id);
  const text = await (await client.files.content(job.output_file_id)).text();
  const listed = [];
  for await (const one of client.batches.list({ limit: 2 })) listed.push(one.id);
  return {
    jobs: created.map((one) => one.id),
    listed,
    status: job.status,
    lines: text.trim().split("\n").map((one) => JSON.parse(one)),
    token: await errorOf(() => unauthorized.batches.retrieve(job.id)),
    unknown: await errorOf(() => client.batches.retrieve("batch_0")),
    window: await errorOf(() =>
      client.batches.create({ input_file_id: "x", endpoint: "/v1/chat/completions", completion_window: "1h" }),
    ),
    ended: await errorOf(() => client.batches.cancel(job.id)),
  };
}

main(process.argv.slice(2)).then((found) => console.log(JSON.stringify(found)));
