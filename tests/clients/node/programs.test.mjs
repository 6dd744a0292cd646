// Programs in JavaScript: those that are packages themselves, and those whose requests are made by packages that run
// here.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import { Readable } from 'node:stream';
import { beforeEach } from 'node:test';

import {
  MASK,
  OpenAI,
  PHOTO,
  SECOND,
  Simulator,
  cell,
  checkItem,
  checkPng,
  load,
  prompt,
  setting,
  toFile,
  versionOf,
} from './common.mjs';

const { default: axios } = await load('axios');
const { default: FormData } = await load('form-data');
const { generateImage } = await load('ai');
const { createXai } = await load('@ai-sdk/xai');
const { createOpenAICompatible } = await load('@ai-sdk/openai-compatible');
const tanstack = await load('@tanstack/ai');
const { createOpenaiImage } = await load('@tanstack/ai-openai');

const simulator = new Simulator(setting('SUITE_SIMULATOR'));
const GATEWAY = { baseURL: `${setting('SUITE_FAULTY')}/v1`, apiKey: setting('SUITE_KEY') };
const photo = () => fs.readFileSync(PHOTO);

beforeEach(() => simulator.reset());

/** The status and the code of a refusal that axios throws. */
async function refusal(request) {
  const error = await request.then(
    () => assert.fail('it was not refused'),
    (error) => error,
  );
  return [error.response?.status, error.response?.data.error.code];
}

// ---- what axios posts: LibreChat and n8n ----

/** LibreChat's api/app/clients/tools/structured/OpenAIImageTools.js: streams of unknown length, fields in its order. */
async function libreChat(at, paths, words = 'paint it blue', { fields = {}, ...more } = {}) {
  const form = new FormData();
  const all = { model: 'gpt-image-1.5', prompt: prompt(words), quality: 'auto', size: 'auto', ...fields };
  for (const [name, value] of Object.entries(all)) form.append(name, value);
  for (const path of paths) {
    // What comes from a store has no length: only a file's stream would be asked for it.
    const stream = Readable.from(fs.createReadStream(path));
    form.append('image[]', stream, { filename: 'photo.png', contentType: 'image/png' });
  }
  const headers = { ...form.getHeaders(), Authorization: `Bearer ${at.apiKey}` };
  const answer = await axios.post('/images/edits', form, { baseURL: at.baseURL, headers, ...more });
  return answer.data;
}

/** n8n's node @n8n/n8n-nodes-langchain, OpenAi v2, image/edit: `image[]` from binary fields, an empty organisation. */
async function n8n(at, paths, words = 'paint it blue', { fields = {}, ...more } = {}) {
  const form = new FormData();
  const all = { model: 'gpt-image-1.5', prompt: prompt(words), n: '1', size: '256x256', quality: 'low', ...fields };
  for (const path of paths)
    form.append('image[]', fs.readFileSync(path), { filename: 'photo.png', contentType: 'image/png' });
  for (const [name, value] of Object.entries(all)) form.append(name, value);
  const headers = { ...form.getHeaders(), Authorization: `Bearer ${at.apiKey}`, 'OpenAI-Organization': '' };
  const answer = await axios.post('/images/edits', form.getBuffer(), { baseURL: at.baseURL, headers, ...more });
  return answer.data;
}

for (const [name, version, send, size] of [
  ['LibreChat', 'axios', libreChat, undefined],
  ['n8n', '2.41', n8n, '256x256'],
]) {
  const row = { client: name, version };
  const checkAnswer = (answer) => checkItem(answer.data[0], size ?? answer.size);

  cell('edit', `${name}: edit`, async () => checkAnswer(await send(GATEWAY, [PHOTO])), row);
  cell('list', `${name}: edit of a list`, async () => checkAnswer(await send(GATEWAY, [PHOTO, SECOND])), row);

  cell(
    'errors',
    `${name}: refusals`,
    async () => {
      const stranger = { ...GATEWAY, apiKey: 'sk-nobody-knows-this-one' };
      assert.deepEqual(await refusal(send(stranger, [PHOTO])), [401, 'invalid_api_key']);
      assert.deepEqual(await refusal(send(GATEWAY, [PHOTO], 'forbidden-picture')), [400, 'moderation_blocked']);
      await simulator.scenario({ balance: { usd: 0 } });
      assert.deepEqual(await refusal(send(GATEWAY, [PHOTO])), [429, 'insufficient_quota']);
    },
    row,
  );

  cell(
    'retry',
    `${name}: what is asked again is bought once`,
    async () => {
      await simulator.slow(1, { medium_ms: [100_000, 100_000] });
      const fields = { prompt: prompt() };
      await assert.rejects(send(GATEWAY, [PHOTO], '', { fields, timeout: 500 }), { code: 'ECONNABORTED' });
      checkAnswer(await send(GATEWAY, [PHOTO], '', { fields }));
      assert.equal(await simulator.submits(), 1);
    },
    row,
  );

  cell(
    'waits',
    `${name}: white space before the answer is no harm`,
    async () => {
      await simulator.slow(2, { medium_ms: [200_000, 200_000] });
      checkAnswer(await send({ ...GATEWAY, baseURL: `${setting('SUITE_WHITESPACE')}/v1` }, [PHOTO]));
    },
    row,
  );
}

cell(
  'generate',
  'LibreChat: generate, through the official SDK',
  async () => {
    const client = new OpenAI(GATEWAY);
    const answer = await client.images.generate({
      model: 'gpt-image-1.5',
      prompt: prompt('a harbour'),
      n: 1,
      background: 'auto',
      output_format: 'png',
      quality: 'auto',
      size: 'auto',
    });
    checkItem(answer.data[0], answer.size);
  },
  { client: 'LibreChat', version: 'axios' },
);

cell(
  'generate',
  'n8n: the test of its credential, and a generation',
  async () => {
    const headers = { Authorization: `Bearer ${GATEWAY.apiKey}`, 'OpenAI-Organization': '' };
    const models = await axios.get('/models', { baseURL: GATEWAY.baseURL, headers });
    assert.equal(models.status, 200);
    const asked = { model: 'gpt-image-1.5', prompt: prompt(), n: 1, size: '256x256', quality: 'low' };
    const answer = await axios.post('/images/generations', asked, { baseURL: GATEWAY.baseURL, headers });
    checkItem(answer.data.data[0], '256x256');
  },
  { client: 'n8n', version: '2.41' },
);

// ---- LobeChat: the official SDK, with whatever its model cards have as parameters ----

/** LobeChat's packages/model-runtime/src/core/openaiCompatibleFactory/createImage.ts. */
async function lobeChat(at, paths, asked = {}) {
  const files = await Promise.all(
    paths.map((path) => toFile(fs.readFileSync(path), 'image.png', { type: 'image/png' })),
  );
  const client = new OpenAI({ ...at, maxRetries: 0 });
  return client.images
    .edit({
      model: 'gpt-image-1.5',
      prompt: prompt(),
      n: 1,
      size: '256x256',
      quality: 'low',
      image: files.length === 1 ? files[0] : files,
      input_fidelity: 'high',
      seed: 42,
      cfg: 2.5,
      steps: 20,
      aspectRatio: '1:1',
      ...asked,
    })
    .withResponse();
}

const lobe = { client: 'LobeChat', version: '1.143' };
const LENIENT = { baseURL: `${setting('SUITE_LENIENT')}/v1`, apiKey: setting('SUITE_KEY') };

cell(
  'edit',
  'LobeChat: edit',
  async () => {
    const { data } = await lobeChat(GATEWAY, [PHOTO], { model: 'gpt-image-1' });
    checkItem(data.data[0], '256x256');
  },
  lobe,
);

cell(
  'edit',
  'LobeChat: edit, where what the model cannot do is dropped',
  async () => {
    const { data, response } = await lobeChat(LENIENT, [PHOTO]);
    checkItem(data.data[0], '256x256');
    assert.equal(response.headers.get('x-gateway-dropped'), 'input_fidelity');
  },
  lobe,
);

cell(
  'list',
  'LobeChat: edit of a list',
  async () => {
    const { data } = await lobeChat(GATEWAY, [PHOTO, SECOND], { model: 'gpt-image-1' });
    checkItem(data.data[0], '256x256');
  },
  lobe,
);

cell(
  'errors',
  'LobeChat: what the model cannot do is refused by name otherwise',
  async () => {
    await assert.rejects(lobeChat(GATEWAY, [PHOTO]), (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError, error);
      assert.equal(error.param, 'input_fidelity');
      return true;
    });
    assert.equal(await simulator.submits(), 0);
  },
  lobe,
);

// ---- AI SDK's other providers ----

for (const [name, folder, image] of [
  ['AI SDK xai', '@ai-sdk/xai', (at) => createXai(at).image('gpt-image-1.5')],
  [
    'AI SDK openai-compatible',
    '@ai-sdk/openai-compatible',
    (at) => createOpenAICompatible({ name: 'gateway', ...at }).imageModel('gpt-image-1.5'),
  ],
]) {
  const row = { client: name, version: versionOf(folder) };
  const sized = name === 'AI SDK xai' ? {} : { size: '256x256' };
  const checkAnswer = ({ images }) => {
    const bytes = Buffer.from(images[0].uint8Array);
    checkPng(bytes, sized.size ?? `${bytes.readUInt32BE(16)}x${bytes.readUInt32BE(20)}`);
  };
  const edit = (at, images, more = {}, words = 'paint it blue') =>
    generateImage({ model: image(at), maxRetries: 0, ...sized, prompt: { text: prompt(words), images, ...more } });

  cell('edit', `${name}: edit`, async () => checkAnswer(await edit(GATEWAY, [photo()])), row);
  cell(
    'list',
    `${name}: edit of a list`,
    async () => checkAnswer(await edit(GATEWAY, [photo(), fs.readFileSync(SECOND)])),
    row,
  );
  cell(
    'generate',
    `${name}: generate`,
    async () => {
      checkAnswer(await generateImage({ model: image(GATEWAY), ...sized, prompt: prompt('a harbour') }));
    },
    row,
  );
  if (name !== 'AI SDK xai') {
    cell(
      'mask',
      `${name}: edit with a mask`,
      async () => {
        checkAnswer(await edit(GATEWAY, [photo()], { mask: fs.readFileSync(MASK) }));
      },
      row,
    );
    cell(
      'url',
      `${name}: an address instead of base64`,
      async () => {
        const providerOptions = { gateway: { response_format: 'url' } };
        const asked = {
          model: image(GATEWAY),
          ...sized,
          providerOptions,
          prompt: { text: prompt(), images: [photo()] },
        };
        checkAnswer(await generateImage(asked));
      },
      row,
    );
  }
  cell(
    'errors',
    `${name}: a forbidden prompt`,
    async () => {
      await assert.rejects(edit(GATEWAY, [photo()], {}, 'forbidden-picture'), (error) => {
        assert.equal(error.statusCode, 400);
        assert.equal(JSON.parse(error.responseBody).error.code, 'moderation_blocked');
        return true;
      });
    },
    row,
  );
}

// ---- TanStack AI ----

const tan = { client: 'TanStack AI', version: versionOf('@tanstack/ai-openai') };
const part = (path, metadata) => ({
  type: 'image',
  source: { type: 'data', value: fs.readFileSync(path).toString('base64'), mimeType: 'image/png' },
  metadata,
});

async function tanStack(at, words, parts) {
  const adapter = createOpenaiImage('gpt-image-1', at.apiKey, { baseURL: at.baseURL });
  const { images } = await tanstack.generateImage({
    adapter,
    prompt: parts.length ? [{ type: 'text', content: prompt(words) }, ...parts] : prompt(words),
    size: '1024x1024',
    modelOptions: { quality: 'low' },
  });
  checkPng(Buffer.from(images[0].b64Json, 'base64'), '1024x1024');
}

cell('edit', 'TanStack AI: edit', async () => tanStack(GATEWAY, 'blue', [part(PHOTO)]), tan);
cell('list', 'TanStack AI: edit of a list', async () => tanStack(GATEWAY, 'blue', [part(PHOTO), part(SECOND)]), tan);
cell(
  'mask',
  'TanStack AI: a mask',
  async () => tanStack(GATEWAY, 'blue', [part(PHOTO), part(MASK, { role: 'mask' })]),
  tan,
);
cell('generate', 'TanStack AI: generate', async () => tanStack(GATEWAY, 'a harbour', []), tan);
cell(
  'errors',
  'TanStack AI: a forbidden prompt',
  async () => {
    await assert.rejects(tanStack(GATEWAY, 'forbidden-picture', [part(PHOTO)]), /safety|rejected|refused|policy/i);
  },
  tan,
);
