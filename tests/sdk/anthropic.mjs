// Calls through Anthropic's SDK for TypeScript; jobs as in batch.mjs.

import Anthropic, { APIError } from '@anthropic-ai/sdk';
import { batch, facts } from './batch.mjs';

const anthropic = new Anthropic({ apiKey: process.env.ANTHROPIC_API_KEY, baseURL: process.env.BASE_URL });
const asked = (job) => ({ model: job.model, max_tokens: 9, messages: [{ role: 'user', content: 'hi' }] });

const ops = {
  async whole(job, result) {
    const message = await anthropic.messages.create(asked(job), { headers: job.headers });
    result.text = message.content[0].text;
    result.finish = message.stop_reason;
  },
  async stream(job, result) {
    const events = await anthropic.messages.create({ ...asked(job), stream: true }, { headers: job.headers });
    for await (const event of events) {
      if (event.type === 'content_block_delta') result.text += event.delta.text;
      if (event.type === 'message_delta') result.finish = event.delta.stop_reason;
    }
  },
};

await batch(
  (job, result) => ops[job.op](job, result),
  (error) => facts(error, error instanceof APIError),
);
