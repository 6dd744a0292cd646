// Vercel's AI SDK, which insists on base64 in every item and sends fields of its own.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';

import { MASK, PHOTO, SECOND, checkPng, load, prompt, setting } from './common.mjs';

const { generateImage } = await load('ai');
const { createOpenAI } = await load('@ai-sdk/openai');

const provider = createOpenAI({ baseURL: `${setting('SUITE_GATEWAY')}/v1`, apiKey: setting('SUITE_SANDBOX_KEY') });
const common = {
  model: provider.image('gpt-image-1.5'),
  size: '256x256',
  providerOptions: { openai: { quality: 'low' } },
};

test('edit with one image', async () => {
  const { images } = await generateImage({ ...common, prompt: { text: prompt(), images: [fs.readFileSync(PHOTO)] } });
  assert.equal(images.length, 1);
  checkPng(Buffer.from(images[0].uint8Array), '256x256');
});

test('edit with two images and a mask', async () => {
  const { images } = await generateImage({
    ...common,
    prompt: {
      text: prompt(),
      images: [fs.readFileSync(PHOTO), fs.readFileSync(SECOND)],
      mask: fs.readFileSync(MASK),
    },
  });
  checkPng(Buffer.from(images[0].uint8Array), '256x256');
});

test('two generated pictures', async () => {
  const { images } = await generateImage({ ...common, prompt: prompt('a harbour'), n: 2 });
  assert.equal(images.length, 2);
  for (const image of images) checkPng(Buffer.from(image.uint8Array), '256x256');
});
