// Makes one call with the OpenAI SDK for Node that stands beside this file, as an application would.
//
//   node driver.mjs '{"op": "chat", "client": {...}, "call": {...}}'
//
// client holds the SDK's own options and call those of this one call; where the API is and the key
// come from the environment. What came of it is one line of JSON on stdout: {"text"} or {"error"}.
//
// With "abort": true the call is given up as soon as a line arrives on stdin; the result then has
// "aborted_at", in milliseconds of the monotonic clock. A stream first tells of its first text by a
// line {"first": TEXT}.

import OpenAI, { APIError } from 'openai';

const job = JSON.parse(process.argv[2]);
const openai = new OpenAI(job.client ?? {});
const call = { ...job.call };
const chat = { model: 'gpt-4o', messages: [{ role: 'user', content: 'hi' }] };
const response = { model: 'gpt-4o', input: 'hi' };
let told = '';

const say = (what) => process.stdout.write(JSON.stringify(what) + '\n');

function add(piece) {
  if (told === '' && piece && job.abort) say({ first: piece });
  told += piece ?? '';
}

const ops = {
  async chat() {
    told = (await openai.chat.completions.create(chat, call)).choices[0].message.content;
  },
  async 'chat-stream'() {
    const chunks = await openai.chat.completions.create({ ...chat, stream: true }, call);
    for await (const chunk of chunks) add(chunk.choices[0]?.delta?.content);
  },
  async responses() {
    told = (await openai.responses.create(response, call)).output_text;
  },
  async 'responses-stream'() {
    const events = await openai.responses.create({ ...response, stream: true }, call);
    for await (const event of events)
      if (event.type === 'response.output_text.delta') add(event.delta);
  },
  async embeddings() {
    const input = { model: 'text-embedding-3-small', input: 'hi' };
    told = (await openai.embeddings.create(input, call)).data[0].embedding;
  },
  async models() {
    told = [];
    for await (const model of openai.models.list(call)) told.push(model.id);
  },
};

function describe(error) {
  return {
    name: error.constructor.name,
    isAPIError: error instanceof APIError,
    status: error.status ?? null,
    code: error.code ?? null,
    message: error.message,
    requestID: error.requestID ?? error.request_id ?? null,
    attempts: header(error, 'x-retryd-attempts'),
  };
}

// Version 4 has the headers as an object, later ones as Headers.
function header(error, name) {
  if (!error.headers) return null;
  return (error.headers.get ? error.headers.get(name) : error.headers[name]) ?? null;
}

const result = {};
if (job.abort) {
  const controller = new AbortController();
  call.signal = controller.signal;
  process.stdin.once('data', () => {
    result.aborted_at = Number(process.hrtime.bigint()) / 1e6;
    controller.abort();
    process.stdin.pause();
  });
}
try {
  await ops[job.op]();
} catch (error) {
  result.error = describe(error);
}
say({ ...result, text: told });
