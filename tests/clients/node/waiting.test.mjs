// How a long wait without a stream is survived: `102 Processing` and white space before the JSON. Node's own HTTP
// client gives up after 300 seconds without a header; here that is lowered to two, and a picture takes four.

import assert from 'node:assert/strict';
import fs from 'node:fs';

import {
  MAJOR,
  OpenAI,
  PHOTO,
  SMALL,
  Simulator,
  cell,
  checkItem,
  load,
  plain,
  prompt,
  setting,
  toFile,
} from './common.mjs';

const { Agent } = await load('undici');

const simulator = new Simulator(setting('SUITE_SIMULATOR'));
const dispatcher = new Agent({ headersTimeout: 2000, bodyTimeout: 2000 });

function clientOf(name, options) {
  const common = { baseURL: `${setting(name)}/v1`, apiKey: setting('SUITE_KEY'), maxRetries: 0, ...options };
  // Version 4 brings an HTTP client of its own, which waits for ever.
  return new OpenAI(MAJOR < 5 ? common : { ...common, fetchOptions: { dispatcher } });
}

async function edit(client) {
  const image = await toFile(fs.readFileSync(PHOTO), 'photo.png');
  return client.images.edit({ image, prompt: prompt(), ...SMALL });
}

plain('without them the client gives up', async () => {
  await simulator.reset();
  await simulator.slow(4);
  await assert.rejects(edit(clientOf('SUITE_FAULTY')), OpenAI.APIConnectionError);
});

for (const [manner, gateway] of [
  ['102 Processing', 'SUITE_INTERIM'],
  ['white space', 'SUITE_WHITESPACE'],
]) {
  cell('waits', `the client waits: ${manner}`, async () => {
    await simulator.reset();
    await simulator.slow(4);
    checkItem((await edit(clientOf(gateway))).data[0], '256x256');
    assert.equal(await simulator.submits(), 1);
  });
}

cell('waits', 'an error after interim answers keeps its status', async () => {
  await simulator.reset();
  await simulator.slow(4, { outcome: 'failed_policy' });
  await assert.rejects(edit(clientOf('SUITE_INTERIM')), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError, error);
    assert.equal(error.code, 'moderation_blocked');
    return true;
  });
  assert.equal(await simulator.submits(), 1);
});

cell('waits', 'an error after white space is no success, and asking again tells it', async () => {
  await simulator.reset();
  await simulator.slow(4, { outcome: 'failed_provider' });
  const asked = { image: await toFile(fs.readFileSync(PHOTO), 'photo.png'), prompt: prompt(), ...SMALL };
  const client = clientOf('SUITE_WHITESPACE');
  // An answer that breaks off is no error of the SDK's own.
  await assert.rejects(client.images.edit(asked), (error) => error.status === undefined);
  const { submits } = await simulator.counters();
  await assert.rejects(client.images.edit({ ...asked }), (error) => {
    assert.equal(error.code, 'image_generation_failed');
    return true;
  });
  assert.deepEqual([submits, await simulator.submits()], [1, 1]);
});
