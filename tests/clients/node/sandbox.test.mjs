// The official JavaScript SDK against a sandbox, in all the ways it can ask for pictures.

import assert from 'node:assert/strict';
import fs from 'node:fs';

import {
  MASK,
  OpenAI,
  PHOTO,
  SECOND,
  SMALL,
  cell,
  checkItem,
  checkPng,
  plain,
  prompt,
  setting,
  toFile,
} from './common.mjs';

const client = new OpenAI({ baseURL: `${setting('SUITE_GATEWAY')}/v1`, apiKey: setting('SUITE_SANDBOX_KEY') });

cell('edit', 'edit with a read stream of unannounced length', async () => {
  const answer = await client.images.edit({ image: fs.createReadStream(PHOTO), prompt: prompt(), ...SMALL });
  assert.equal(answer.data.length, 1);
  checkItem(answer.data[0], '256x256');
});

cell('bytes', 'edit with a file that has no type', async () => {
  const image = await toFile(fs.readFileSync(PHOTO), 'photo.png');
  assert.equal(image.type, '');
  const answer = await client.images.edit({ image, prompt: prompt(), ...SMALL });
  checkItem(answer.data[0], '256x256');
});

cell('edit', 'edit with a file that has a type', async () => {
  const image = await toFile(fs.readFileSync(PHOTO), 'photo.png', { type: 'image/png' });
  const answer = await client.images.edit({ image, prompt: prompt(), ...SMALL });
  checkItem(answer.data[0], '256x256');
});

cell('list', 'edit with a list of images', async () => {
  const image = [fs.createReadStream(PHOTO), await toFile(fs.readFileSync(SECOND), 'second.png')];
  const answer = await client.images.edit({ image, prompt: prompt(), ...SMALL });
  checkItem(answer.data[0], '256x256');
});

cell('mask', 'edit with a mask', async () => {
  const answer = await client.images.edit({
    image: fs.createReadStream(PHOTO),
    mask: fs.createReadStream(MASK),
    prompt: prompt(),
    ...SMALL,
  });
  checkItem(answer.data[0], '256x256');
});

plain('edit with a prompt of several lines', async () => {
  const answer = await client.images.edit({
    image: fs.createReadStream(PHOTO),
    prompt: prompt('one\ntwo\n'),
    ...SMALL,
  });
  checkItem(answer.data[0], '256x256');
});

plain('edit as JSON by plain HTTP', async () => {
  const image_url = `data:image/png;base64,${fs.readFileSync(PHOTO).toString('base64')}`;
  const answer = await fetch(`${setting('SUITE_GATEWAY')}/v1/images/edits`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${setting('SUITE_SANDBOX_KEY')}` },
    body: JSON.stringify({ images: [{ image_url }], prompt: prompt(), ...SMALL }),
  });
  assert.equal(answer.status, 200);
  checkItem((await answer.json()).data[0], '256x256');
});

cell('generate', 'generate', async () => {
  const answer = await client.images.generate({ prompt: prompt('a harbour'), ...SMALL });
  checkItem(answer.data[0], '256x256');
});

plain('two pictures at once', async () => {
  const answer = await client.images.edit({ image: fs.createReadStream(PHOTO), prompt: prompt(), n: 2, ...SMALL });
  assert.equal(answer.data.length, 2);
  for (const item of answer.data) checkItem(item, '256x256');
  assert.notEqual(answer.data[0].b64_json, answer.data[1].b64_json);
});

plain('size and quality are as asked', async () => {
  const answer = await client.images.edit({
    image: fs.createReadStream(PHOTO),
    prompt: prompt(),
    model: 'gpt-image-1.5',
    size: '1024x1536',
    quality: 'low',
  });
  checkItem(answer.data[0], '1024x1536');
  assert.equal(answer.size, '1024x1536');
  assert.equal(answer.quality, 'low');
});

cell('url', 'an address instead of base64', async () => {
  const answer = await client.images.edit({
    image: fs.createReadStream(PHOTO),
    prompt: prompt(),
    response_format: 'url',
    ...SMALL,
  });
  const item = answer.data[0];
  assert.equal(item.b64_json, undefined);
  const download = await fetch(item.url);
  assert.equal(download.status, 200);
  assert.equal(download.headers.get('content-type'), 'image/png');
  checkPng(Buffer.from(await download.arrayBuffer()), '256x256');
});

for (const [output_format, signature] of [
  ['jpeg', /^\xff\xd8\xff/],
  ['webp', /^RIFF....WEBP/s],
]) {
  cell('edit', `the format is as asked: ${output_format}`, async () => {
    const image = await toFile(fs.readFileSync(PHOTO), 'photo.png');
    const answer = await client.images.edit({
      image,
      prompt: prompt(),
      output_format,
      output_compression: 80,
      ...SMALL,
    });
    assert.match(Buffer.from(answer.data[0].b64_json, 'base64').toString('latin1'), signature);
    assert.equal(answer.output_format, output_format);
  });
}

plain('models are listed and retrieved', async () => {
  const models = await client.models.list();
  const names = models.data.map((model) => model.id);
  assert.ok(names.includes('gpt-image-1.5') && names.includes('gpt-image-2'), names.join());
  const model = await client.models.retrieve('gpt-image-2');
  assert.equal(model.id, 'gpt-image-2');
  assert.equal(model.object, 'model');
});
