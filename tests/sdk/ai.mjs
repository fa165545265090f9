// Streams through the Vercel AI SDK that stands beside this file; jobs as in batch.mjs. The op "chat" is
// the chat model of @ai-sdk/openai, "responses" its Responses model, "compatible" the model of
// @ai-sdk/openai-compatible.
//
// A status and an error event of the API come as the SDK's own AI_APICallError and
// AI_StreamProviderError, after retries in an AI_RetryError. A connection that breaks gives an
// AI_APICallError with status 200, and what could not be read one of the others: neither counts.

import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { APICallError, RetryError, streamText } from 'ai';
import { batch, facts } from './batch.mjs';

globalThis.AI_SDK_LOG_WARNINGS = false;

const where = { baseURL: process.env.OPENAI_BASE_URL, apiKey: process.env.OPENAI_API_KEY };
const openai = createOpenAI(where);
const compatible = createOpenAICompatible({ ...where, name: 'compatible', includeUsage: true });
const models = {
  chat: (name) => openai.chat(name),
  responses: (name) => openai.responses(name),
  compatible: (name) => compatible.chatModel(name),
};

async function run(job, result) {
  const { fullStream } = streamText({
    model: models[job.op](job.model),
    prompt: 'hi',
    headers: job.headers,
    onError: () => {}, // it would write the error to the console
  });
  for await (const part of fullStream) {
    if (part.type === 'text-delta') result.text += part.text;
    if (part.type === 'finish') result.finish = part.finishReason;
    if (part.type === 'error') throw part.error;
  }
}

function describe(error) {
  if (RetryError.isInstance(error)) return describe(error.lastError);
  const code = error?.code ?? error?.data?.error?.code ?? null;
  const isAPIError = APICallError.isInstance(error)
    ? error.statusCode >= 400
    : error?.name === 'AI_StreamProviderError';
  return { ...facts(error, isAPIError), name: error?.name ?? null, code };
}

await batch(run, describe);
