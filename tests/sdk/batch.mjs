// Runs many jobs in one process, for the drivers beside it: starting Node costs more than a call.
//
//   node openai.mjs <jobs.json
//
// The jobs are a JSON array on stdin, each {name, op, model, headers, ...}. Many run at the same time.
// What came of each is one line of JSON on stdout: {name, kind, text, finish, error}, where kind is
// "whole" or "error", text is all that the application was given before, and finish is why the model
// ended, as far as the client says.

const AT_ONCE = 40;

// The fields of an error that the drivers describe alike.
export function facts(error, isAPIError) {
  return {
    name: error?.constructor?.name ?? typeof error,
    isAPIError,
    status: error?.status ?? error?.statusCode ?? null,
    code: error?.code ?? null,
    message: String(error?.message ?? error),
  };
}

async function one(job, run, describe) {
  const result = { name: job.name, kind: 'whole', text: '', finish: null, error: null };
  try {
    await run(job, result);
  } catch (error) {
    result.kind = 'error';
    result.error = describe(error);
  }
  return result;
}

// run(job, result) makes the call, adds to result.text and sets result.finish; what it throws is
// told by describe(error).
export async function batch(run, describe) {
  let text = '';
  for await (const piece of process.stdin) text += piece;
  const jobs = JSON.parse(text);
  const worker = async () => {
    for (let job = jobs.shift(); job; job = jobs.shift())
      process.stdout.write(JSON.stringify(await one(job, run, describe)) + '\n');
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}
