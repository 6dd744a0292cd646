// Streams of events by the official JavaScript SDK: `stream: true`.

import assert from 'node:assert/strict';
import fs from 'node:fs';

import { OpenAI, PHOTO, SMALL, Simulator, cell, checkPng, prompt, setting, toFile } from './common.mjs';

const simulator = new Simulator(setting('SUITE_SIMULATOR'));
const sandbox = new OpenAI({ baseURL: `${setting('SUITE_GATEWAY')}/v1`, apiKey: setting('SUITE_SANDBOX_KEY') });
const faulty = new OpenAI({ baseURL: `${setting('SUITE_FAULTY')}/v1`, apiKey: setting('SUITE_KEY') });

const photo = () => toFile(fs.readFileSync(PHOTO), 'photo.png');

async function all(stream) {
  const events = [];
  for await (const event of stream) events.push(event);
  return events;
}

cell('stream', 'a streamed edit', async () => {
  const asked = { image: await photo(), prompt: prompt(), stream: true, partial_images: 2, ...SMALL };
  const events = await all(await sandbox.images.edit(asked));
  assert.deepEqual(
    events.map((event) => event.type),
    ['image_edit.completed'],
  );
  checkPng(Buffer.from(events[0].b64_json, 'base64'), '256x256');
  assert.equal(events[0].usage.total_tokens, events[0].usage.input_tokens + events[0].usage.output_tokens);
});

cell('stream', 'a streamed generation of two', async () => {
  const events = await all(await sandbox.images.generate({ prompt: prompt(), n: 2, stream: true, ...SMALL }));
  assert.deepEqual(
    events.map((event) => event.type),
    Array(2).fill('image_generation.completed'),
  );
  for (const event of events) checkPng(Buffer.from(event.b64_json, 'base64'), '256x256');
});

cell('errors', 'an early refusal is no stream', async () => {
  await simulator.reset();
  const asked = { image: await photo(), prompt: prompt('forbidden-picture'), stream: true, ...SMALL };
  await assert.rejects(faulty.images.edit(asked), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError, error);
    assert.equal(error.code, 'moderation_blocked');
    return true;
  });
});

cell('errors', 'a late failure is thrown from the stream', async () => {
  await simulator.reset();
  await simulator.slow(2, { outcome: 'failed_provider' });
  const stream = await faulty.images.edit({ image: await photo(), prompt: prompt(), stream: true, ...SMALL });
  await assert.rejects(all(stream), (error) => {
    assert.ok(error instanceof OpenAI.APIError, error);
    assert.equal(error.code, 'image_generation_failed');
    return true;
  });
  assert.equal(await simulator.submits(), 1);
});
