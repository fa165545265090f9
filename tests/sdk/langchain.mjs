// Streams through LangChain.js's ChatOpenAI that stands beside this file; jobs as in batch.mjs.
// A job's max_retries takes the place of LangChain's own 6.

import { ChatOpenAI } from '@langchain/openai';
import { APIError } from 'openai';
import { batch, facts } from './batch.mjs';

async function run(job, result) {
  const model = new ChatOpenAI({
    model: job.model,
    useResponsesApi: job.op === 'responses',
    configuration: { baseURL: process.env.OPENAI_BASE_URL, defaultHeaders: job.headers },
    ...(job.max_retries === undefined ? {} : { maxRetries: job.max_retries }),
  });
  for await (const chunk of await model.stream('hi')) {
    result.text += chunk.text;
    const told = chunk.response_metadata;
    result.finish = told?.finish_reason ?? told?.status ?? result.finish;
  }
}

await batch(run, (error) => facts(error, error instanceof APIError));
