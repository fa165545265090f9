// Calls through Google's SDK for Node, in the version that its first argument names; jobs as in batch.mjs.

import { batch, facts } from './batch.mjs';

const { ApiError, GoogleGenAI } = await import(process.argv[2]);
const ai = new GoogleGenAI({ apiKey: process.env.GEMINI_API_KEY, httpOptions: { baseUrl: process.env.BASE_URL } });

const asked = (job) => ({
  model: job.model,
  contents: 'hi',
  config: { httpOptions: { headers: job.headers } },
});

function take(chunk, result) {
  result.text += chunk.text ?? '';
  result.finish = chunk.candidates?.[0]?.finishReason ?? result.finish;
}

const ops = {
  async whole(job, result) {
    take(await ai.models.generateContent(asked(job)), result);
  },
  async stream(job, result) {
    for await (const chunk of await ai.models.generateContentStream(asked(job))) take(chunk, result);
  },
};

await batch(
  (job, result) => ops[job.op](job, result),
  (error) => facts(error, error instanceof ApiError),
);
