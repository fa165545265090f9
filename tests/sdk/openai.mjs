// Streams through the OpenAI SDK for Node that stands beside this file; jobs as in batch.mjs.

import OpenAI, { APIError } from 'openai';
import { batch, facts } from './batch.mjs';

const openai = new OpenAI();

const ops = {
  async chat(job, result) {
    const asked = {
      model: job.model,
      messages: [{ role: 'user', content: 'hi' }],
      stream: true,
      stream_options: { include_usage: true },
    };
    const chunks = await openai.chat.completions.create(asked, { headers: job.headers });
    for await (const chunk of chunks) {
      result.text += chunk.choices?.[0]?.delta?.content ?? '';
      result.finish = chunk.choices?.[0]?.finish_reason ?? result.finish;
    }
  },
  async responses(job, result) {
    const asked = { model: job.model, input: 'hi', stream: true };
    const events = await openai.responses.create(asked, { headers: job.headers });
    for await (const event of events) {
      if (event.type === 'response.output_text.delta') result.text += event.delta;
      if (['response.completed', 'response.incomplete', 'response.failed'].includes(event.type))
        result.finish = event.response.status;
    }
  },
};

await batch(
  (job, result) => ops[job.op](job, result),
  (error) => facts(error, error instanceof APIError),
);
