// Chat completions by the official JavaScript SDK: a conversation whose answers are pictures.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import { beforeEach, test } from 'node:test';

import { OpenAI, PHOTO, SMALL, Simulator, checkPng, prompt, setting } from './common.mjs';

const simulator = new Simulator(setting('SUITE_SIMULATOR'));
const client = new OpenAI({ baseURL: `${setting('SUITE_FAULTY')}/v1`, apiKey: setting('SUITE_KEY') });

beforeEach(() => simulator.reset());

const user = (content) => ({ role: 'user', content });
const complete = (messages, more = {}) => client.chat.completions.create({ messages, ...SMALL, ...more });

/** The bytes of the picture of a text that is one picture. */
async function pictureIn(text) {
  const address = /^!\[image\]\((http:\/\/[^)]+)\)$/.exec(text)?.[1];
  assert.ok(address, text);
  const bytes = Buffer.from(await (await fetch(address)).arrayBuffer());
  checkPng(bytes, '256x256');
  return bytes;
}

test('a conversation: a picture, and an edit of it', async () => {
  const words = user(prompt('a harbour'));
  const first = await complete([words]);
  assert.equal(first.object, 'chat.completion');
  assert.equal(first.choices.length, 1);
  assert.equal(first.choices[0].finish_reason, 'stop');
  const { message } = first.choices[0];
  const made = await pictureIn(message.content);
  assert.equal(first.usage.total_tokens, first.usage.prompt_tokens + first.usage.completion_tokens);
  const second = await complete([words, message, user(prompt('paint it blue'))]);
  assert.notDeepEqual(await pictureIn(second.choices[0].message.content), made);
  assert.equal(await simulator.submits(), 2);
});

test('a picture of the user is edited', async () => {
  const url = `data:image/png;base64,${fs.readFileSync(PHOTO).toString('base64')}`;
  const parts = [
    { type: 'text', text: prompt() },
    { type: 'image_url', image_url: { url } },
  ];
  await pictureIn((await complete([user(parts)])).choices[0].message.content);
  assert.deepEqual(Object.keys((await simulator.counters()).accepted_by_api).length, 1);
  assert.equal(await simulator.submits(), 1);
});

test('a stream with its token counts', async () => {
  const words = user(prompt('a harbour'));
  const chunks = [];
  const stream = await complete([words], { stream: true, stream_options: { include_usage: true } });
  for await (const chunk of stream) chunks.push(chunk);
  const last = chunks.pop();
  assert.deepEqual(last.choices, []);
  assert.equal(chunks.at(-1).choices[0].finish_reason, 'stop');
  assert.equal(chunks[0].choices[0].delta.role, 'assistant');
  const streamed = await pictureIn(chunks.map((chunk) => chunk.choices[0].delta.content ?? '').join(''));
  const whole = await complete([words]);
  assert.deepEqual(await pictureIn(whole.choices[0].message.content), streamed);
  assert.deepEqual(last.usage, whole.usage);
  assert.equal(await simulator.submits(), 1);
});

for (const stream of [false, true]) {
  test(`an early refusal, ${stream ? '' : 'not '}streamed`, async () => {
    await assert.rejects(complete([user(prompt('forbidden-picture'))], { stream }), (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError, error);
      assert.equal(error.code, 'moderation_blocked');
      return true;
    });
  });
}

test('a late failure is thrown from the stream', async () => {
  await simulator.slow(2, { outcome: 'failed_provider' });
  const stream = await complete([user(prompt('a harbour'))], { stream: true });
  await assert.rejects(
    async () => {
      for await (const chunk of stream) assert.ok(chunk);
    },
    (error) => {
      assert.ok(error instanceof OpenAI.APIError, error);
      assert.equal(error.code, 'image_generation_failed');
      return true;
    },
  );
  assert.equal(await simulator.submits(), 1);
});

test('a request for JSON buys nothing', async () => {
  const asked = complete([user('the title of this conversation')], { response_format: { type: 'json_object' } });
  await assert.rejects(asked, (error) => {
    assert.equal(error.code, 'text_not_supported');
    return true;
  });
  assert.equal(await simulator.submits(), 0);
});
