// Vercel's AI SDK, which insists on base64 in every item and sends fields of its own: SUITE_AI and SUITE_AI_OPENAI are
// the packages, of which package.json has two versions.

import assert from 'node:assert/strict';
import fs from 'node:fs';

import { MASK, PHOTO, SECOND, Simulator, cell, checkPng, load, prompt, setting, versionOf } from './common.mjs';

const sdk = process.env.SUITE_AI ?? 'ai';
const { generateImage, APICallError } = await load(sdk);
const { createOpenAI } = await load(process.env.SUITE_AI_OPENAI ?? '@ai-sdk/openai');

const { Agent } = await load('undici');

const row = { version: versionOf(sdk) };
const simulator = new Simulator(setting('SUITE_SIMULATOR'));
const at = (gateway, apiKey) => createOpenAI({ baseURL: `${setting(gateway)}/v1`, apiKey });
const provider = at('SUITE_GATEWAY', setting('SUITE_SANDBOX_KEY'));
const options = { size: '256x256', providerOptions: { openai: { quality: 'low' } } };
const common = { ...options, model: provider.image('gpt-image-1.5') };
const photo = () => fs.readFileSync(PHOTO);

cell(
  'edit',
  'edit with one image',
  async () => {
    const { images } = await generateImage({ ...common, prompt: { text: prompt(), images: [photo()] } });
    assert.equal(images.length, 1);
    checkPng(Buffer.from(images[0].uint8Array), '256x256');
  },
  row,
);

cell(
  'bytes',
  'edit with an image in base64, as it is kept in a message',
  async () => {
    const { images } = await generateImage({
      ...common,
      prompt: { text: prompt(), images: [photo().toString('base64')] },
    });
    checkPng(Buffer.from(images[0].uint8Array), '256x256');
  },
  row,
);

cell(
  'list',
  'edit with two images',
  async () => {
    const { images } = await generateImage({
      ...common,
      prompt: { text: prompt(), images: [photo(), fs.readFileSync(SECOND)] },
    });
    checkPng(Buffer.from(images[0].uint8Array), '256x256');
  },
  row,
);

cell(
  'mask',
  'edit with two images and a mask',
  async () => {
    const { images } = await generateImage({
      ...common,
      prompt: { text: prompt(), images: [photo(), fs.readFileSync(SECOND)], mask: fs.readFileSync(MASK) },
    });
    checkPng(Buffer.from(images[0].uint8Array), '256x256');
  },
  row,
);

cell(
  'generate',
  'two generated pictures',
  async () => {
    const { images } = await generateImage({ ...common, prompt: prompt('a harbour'), n: 2 });
    assert.equal(images.length, 2);
    for (const image of images) checkPng(Buffer.from(image.uint8Array), '256x256');
  },
  row,
);

for (const [name, apiKey, words, status, code] of [
  ['a wrong key', 'sk-nobody-knows-this-one', 'paint it blue', 401, 'invalid_api_key'],
  ['a forbidden prompt', setting('SUITE_KEY'), 'forbidden-picture', 400, 'moderation_blocked'],
]) {
  cell(
    'errors',
    `${name} is reported with the gateway's message`,
    async () => {
      await simulator.reset();
      const model = at('SUITE_FAULTY', apiKey).image('gpt-image-1.5');
      await assert.rejects(
        generateImage({ ...options, model, prompt: { text: prompt(words), images: [photo()] } }),
        (error) => {
          assert.ok(APICallError.isInstance(error), error);
          assert.equal(error.statusCode, status);
          const said = JSON.parse(error.responseBody).error;
          assert.equal(said.code, code);
          assert.equal(error.message, said.message);
          return true;
        },
      );
    },
    row,
  );
}

cell(
  'retry',
  'its own retries collect a slow picture',
  async () => {
    await simulator.reset();
    await simulator.slow(2.5);
    const model = at('SUITE_IMPATIENT', setting('SUITE_KEY')).image('gpt-image-1.5');
    const { images } = await generateImage({ ...options, model, prompt: { text: prompt(), images: [photo()] } });
    checkPng(Buffer.from(images[0].uint8Array), '256x256');
    assert.equal(await simulator.submits(), 1);
  },
  row,
);

// Node's HTTP client gives up after 300 seconds without a header; here after two.
const dispatcher = new Agent({ headersTimeout: 2000, bodyTimeout: 2000 });
for (const [manner, gateway] of [
  ['102 Processing', 'SUITE_INTERIM'],
  ['white space', 'SUITE_WHITESPACE'],
]) {
  cell(
    'waits',
    `it waits for a slow picture: ${manner}`,
    async () => {
      await simulator.reset();
      await simulator.slow(4);
      const patient = createOpenAI({
        baseURL: `${setting(gateway)}/v1`,
        apiKey: setting('SUITE_KEY'),
        fetch: (url, more) => fetch(url, { ...more, dispatcher }),
      });
      const asked = {
        ...options,
        model: patient.image('gpt-image-1.5'),
        prompt: { text: prompt(), images: [photo()] },
      };
      const { images } = await generateImage({ ...asked, maxRetries: 0 });
      checkPng(Buffer.from(images[0].uint8Array), '256x256');
      assert.equal(await simulator.submits(), 1);
    },
    row,
  );
}
