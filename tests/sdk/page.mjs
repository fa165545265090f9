// What a web page does with retryd: calls of fetch(), and of the OpenAI SDK as npm has it, without a bundler.
//
//   GET /page?job={"base": "http://127.0.0.1:4290/v1", "calls": ["chat", ...]}
//
// What came of them goes to the page's own server as one JSON object by name: POST /told. A call that
// the browser does not let through is {"refused": NAME OF THE ERROR}.

import OpenAI, { APIError } from 'openai';

const { base, calls } = JSON.parse(new URLSearchParams(location.search).get('job'));
const openai = new OpenAI({ baseURL: base, apiKey: 'sk-page', dangerouslyAllowBrowser: true });
const asked = (model, more) => ({ model, messages: [{ role: 'user', content: 'hi' }], ...more });

function post(model, more) {
  const headers = { authorization: 'Bearer sk-page', 'content-type': 'application/json', 'x-custom': '1' };
  return fetch(base + '/chat/completions', {
    method: 'POST',
    headers,
    body: JSON.stringify(asked(model, more)),
  });
}

async function read(answer) {
  return { status: answer.status, headers: Object.fromEntries(answer.headers), body: await answer.text() };
}

// A request that no browser asks about before it sends it.
const plain = { method: 'POST', headers: { 'content-type': 'text/plain' } };

// Resolves when the element is done with its source, whichever way.
function element(name, fields, parent = document.body) {
  return new Promise((resolve) => {
    const e = Object.assign(document.createElement(name), fields);
    e.onload = () => resolve({ event: 'load' });
    e.onerror = () => resolve({ event: 'error' });
    parent.append(e);
  });
}

const ops = {
  async chat() {
    return read(await post('chat'));
  },
  async stream() {
    const answer = await post('stream', { stream: true });
    const pieces = [];
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let r = await reader.read(); !r.done; r = await reader.read()) pieces.push(r.value);
    return { status: answer.status, headers: Object.fromEntries(answer.headers), body: pieces.join('') };
  },
  async error() {
    return read(await post('error'));
  },
  async ours() {
    return read(await post('ours'));
  },
  async refused() {
    return read(await fetch(base.replace('/v1', '/nowhere'), { headers: { authorization: 'Bearer sk-page' } }));
  },
  async 'sdk-chat'() {
    return { text: (await openai.chat.completions.create(asked('sdk-chat'))).choices[0].message.content };
  },
  async 'sdk-stream'() {
    let text = '';
    const chunks = await openai.chat.completions.create(asked('sdk-stream', { stream: true }));
    for await (const chunk of chunks) text += chunk.choices[0]?.delta?.content ?? '';
    return { text };
  },
  async 'sdk-broken'() {
    let text = '';
    try {
      const chunks = await openai.chat.completions.create(asked('sdk-broken', { stream: true }));
      for await (const chunk of chunks) text += chunk.choices[0]?.delta?.content ?? '';
    } catch (error) {
      return { text, isAPIError: error instanceof APIError, code: error.code };
    }
    return { text };
  },
  async 'sdk-ours'() {
    try {
      return { answer: await openai.chat.completions.create(asked('sdk-ours')) };
    } catch (error) {
      const attempts = error.headers?.get('x-retryd-attempts');
      return { status: error.status, code: error.code, attempts, name: error.constructor.name };
    }
  },
  // --- what needs nobody's leave ---
  async plain() {
    return read(await fetch(base + '/chat/completions', { ...plain, body: JSON.stringify(asked('plain')) }));
  },
  async opaque() {
    const answer = await fetch(base + '/chat/completions', {
      ...plain,
      mode: 'no-cors',
      body: JSON.stringify(asked('opaque')),
    });
    return { type: answer.type, status: answer.status, body: await answer.text() };
  },
  async 'opaque-get'() {
    const answer = await fetch(base + '/models?by=opaque', { mode: 'no-cors' });
    return { type: answer.type, status: answer.status, body: await answer.text() };
  },
  async image() {
    return element('img', { src: base + '/models?by=image' });
  },
  async script() {
    return element('script', { src: base + '/models?by=script' });
  },
  async form() {
    const loaded = element('iframe', { name: 'there' });
    await loaded;
    const form = Object.assign(document.createElement('form'), {
      action: base + '/chat/completions',
      method: 'post',
      enctype: 'text/plain',
      target: 'there',
    });
    document.body.append(form);
    const gone = new Promise((resolve) => (document.querySelector('iframe').onload = resolve));
    form.submit();
    await gone;
    let read = null;
    try {
      read = document.querySelector('iframe').contentDocument?.body.textContent ?? null;
    } catch {
      // The frame is of another origin.
    }
    return { read };
  },
  async socket() {
    return new Promise((resolve) => {
      const socket = new WebSocket(base.replace('http', 'ws') + '/realtime');
      socket.onopen = () => resolve({ event: 'open' });
      socket.onerror = () => resolve({ event: 'error' });
    });
  },
};

const told = {};
await Promise.all(
  calls.map(async (name) => {
    try {
      told[name] = await ops[name]();
    } catch (error) {
      told[name] = { refused: error.constructor.name };
    }
  }),
);
await fetch('/told', { method: 'POST', body: JSON.stringify(told) });
