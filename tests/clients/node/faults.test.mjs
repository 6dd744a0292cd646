// Every refusal and every accident, by the error the official JavaScript SDK makes of it, and what it cost.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import { beforeEach } from 'node:test';

import {
  HUGE,
  LARGE,
  MAJOR,
  MASK,
  OpenAI,
  PHOTO,
  SMALL,
  Simulator,
  cell,
  checkItem,
  plain,
  prompt,
  setting,
  toFile,
} from './common.mjs';

const simulator = new Simulator(setting('SUITE_SIMULATOR'));

function clientOf(name, options) {
  return new OpenAI({ baseURL: `${setting(name)}/v1`, apiKey: setting('SUITE_KEY'), ...options });
}

const once = clientOf('SUITE_FAULTY', { maxRetries: 0 });
const usual = clientOf('SUITE_FAULTY');

/** A file that can be sent again: a stream cannot, and the SDK would not retry it. */
const photo = () => toFile(fs.readFileSync(PHOTO), 'photo.png');

async function edit(client, asked = {}) {
  return client.images.edit({ image: await photo(), prompt: prompt(), ...SMALL, ...asked });
}

beforeEach(() => simulator.reset());

// ---- refused before anything is bought ----

cell('errors', 'a wrong key', async () => {
  const stranger = clientOf('SUITE_FAULTY', { apiKey: 'sk-nobody-knows-this-one' });
  await assert.rejects(edit(stranger), (error) => {
    assert.ok(error instanceof OpenAI.AuthenticationError, error);
    assert.equal(error.status, 401);
    assert.equal(error.code, 'invalid_api_key');
    assert.match(MAJOR < 5 ? error.request_id : error.requestID, /^req_/);
    return true;
  });
  assert.equal(await simulator.submits(), 0);
});

for (const [kind, open] of [
  ['a stream', () => fs.createReadStream(HUGE)],
  ['a file', async () => toFile(fs.readFileSync(HUGE), 'huge.png')],
]) {
  plain(`a wrong key with a large upload of ${kind} is no connection error`, async () => {
    const stranger = clientOf('SUITE_DIRECT', { apiKey: 'sk-nobody-knows-this-one', maxRetries: 0 });
    await assert.rejects(edit(stranger, { image: await open() }), (error) => {
      assert.ok(error instanceof OpenAI.AuthenticationError, error);
      return true;
    });
  });

  plain(`a body of ${kind} that is too large is no connection error`, async () => {
    await assert.rejects(edit(clientOf('SUITE_NARROW', { maxRetries: 0 }), { image: await open() }), (error) => {
      assert.ok(error instanceof OpenAI.APIError, error);
      assert.equal(error.status, 413);
      assert.equal(error.code, 'body_too_large');
      return true;
    });
  });
}

plain('a body that is a little too large', async () => {
  await assert.rejects(edit(clientOf('SUITE_NARROW'), { image: fs.createReadStream(LARGE) }), { status: 413 });
});

plain('an unknown model is not retrieved', async () => {
  await assert.rejects(once.models.retrieve('painter-9000'), (error) => {
    assert.ok(error instanceof OpenAI.NotFoundError, error);
    assert.equal(error.code, 'model_not_found');
    return true;
  });
});

const bad = [
  [{ size: '257x259' }, 'size', 'invalid_value'],
  [{ quality: 'brilliant' }, 'quality', 'invalid_value'],
  [{ n: 11 }, 'n', 'integer_above_max_value'],
  // What is not there is refused by name, never left out in silence.
  [{ output_format: 'svg' }, 'output_format', 'unsupported_parameter'],
  [{ image: [] }, 'image', 'missing_required_parameter'],
  [{ model: 'gpt-image-2.5-flare', size: '1024x1024', mask: MASK }, 'mask', 'unsupported_parameter'],
  [
    { model: 'gpt-image-2', size: '1024x1024', input_fidelity: 'high' },
    'input_fidelity',
    'invalid_input_fidelity_model',
  ],
];
for (const [asked, param, code] of bad) {
  cell('errors', `a bad request: ${param}, ${code}`, async () => {
    const opened = asked.mask ? { ...asked, mask: fs.createReadStream(asked.mask) } : asked;
    await assert.rejects(edit(once, opened), (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError, error);
      assert.equal(error.status, 400);
      assert.equal(error.param, param);
      assert.equal(error.code, code);
      return true;
    });
    assert.equal(await simulator.submits(), 0);
  });
}

// ---- what costs nothing ----

plain('headers, and the cache', async () => {
  const asked = { prompt: prompt(), ...SMALL };
  const ask = () => once.images.edit({ image: fs.createReadStream(PHOTO), ...asked }).withResponse();

  const first = await ask();
  const submits = await simulator.submits();
  const second = await ask();

  assert.equal(await simulator.submits(), submits);
  for (const { response, request_id } of [first, second]) {
    assert.match(response.headers.get('x-request-id'), /^req_/);
    assert.equal(request_id, response.headers.get('x-request-id'));
    assert.match(response.headers.get('openai-processing-ms'), /^\d+$/);
  }
  assert.equal(first.response.headers.get('x-gateway-cache'), 'miss');
  assert.equal(second.response.headers.get('x-gateway-cache'), 'hit');
  assert.equal(first.data.data[0].b64_json, second.data.data[0].b64_json);
});

// ---- refused or broken by the service ----

cell('errors', 'a forbidden prompt', async () => {
  await assert.rejects(edit(usual, { prompt: prompt('forbidden-picture') }), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError, error);
    assert.equal(error.code, 'moderation_blocked');
    return true;
  });
  assert.equal(await simulator.submits(), 1);
});

cell('errors', 'an exhausted balance', async () => {
  await simulator.scenario({ balance: { usd: 0 } });
  await assert.rejects(edit(usual), (error) => {
    assert.ok(error instanceof OpenAI.RateLimitError, error);
    assert.equal(error.code, 'insufficient_quota');
    return true;
  });
  assert.equal(await simulator.submits(), 1);
});

plain('an unknown outcome is never bought again', async () => {
  await simulator.fault('submit', 'drop_after', { times: 5 });
  await assert.rejects(edit(usual), (error) => {
    assert.ok(error instanceof OpenAI.InternalServerError, error);
    assert.equal(error.status, 502);
    assert.equal(error.code, 'submission_outcome_unknown');
    assert.equal(error.headers.get('x-should-retry'), 'false');
    return true;
  });
  assert.equal(await simulator.submits(), 1);
});

cell('errors', 'a failed task is not bought again', async () => {
  await simulator.scenario({ life: { outcome: 'failed_provider' } });
  await assert.rejects(edit(usual), (error) => {
    assert.ok(error instanceof OpenAI.InternalServerError, error);
    assert.equal(error.code, 'image_generation_failed');
    return true;
  });
  assert.equal(await simulator.submits(), 1);
});

// ---- slow pictures and impatient clients ----

plain('a slow picture is collected by asking again', async () => {
  await simulator.slow(3);
  const client = clientOf('SUITE_IMPATIENT', { maxRetries: 0 });
  const asked = { prompt: prompt() };
  const deadline = Date.now() + 20_000;
  let refusals = 0;
  let answer;
  while (!answer) {
    try {
      answer = await edit(client, asked);
    } catch (error) {
      assert.ok(error instanceof OpenAI.InternalServerError, error);
      assert.equal(error.status, 504);
      assert.equal(error.code, 'prediction_still_running');
      refusals += 1;
      assert.ok(Date.now() < deadline, 'the picture never came');
    }
  }
  checkItem(answer.data[0], '256x256');
  assert.ok(refusals >= 1);
  assert.equal(await simulator.submits(), 1);
});

// Version 4 sends a form again with an empty body; see below. What it asks as JSON it can ask again.
const again = (client, asked) =>
  MAJOR < 5 ? client.images.generate({ prompt: prompt(), ...SMALL, ...asked }) : edit(client, asked);

cell('retry', "the SDK's own retries collect a slow picture", async () => {
  await simulator.slow(2);
  const answer = await again(clientOf('SUITE_IMPATIENT'));
  checkItem(answer.data[0], '256x256');
  assert.equal(await simulator.submits(), 1);
});

cell('retry', 'a retry after a time-out joins what it began', async () => {
  await simulator.slow(3);
  // The headers are replaced, so that the gateway does not know how soon this client gives up.
  const defaultHeaders = { 'x-stainless-timeout': '600' };
  const answer = await again(clientOf('SUITE_FAULTY', { timeout: 1600, defaultHeaders }));
  checkItem(answer.data[0], '256x256');
  const { submits, submits_accepted } = await simulator.counters();
  assert.deepEqual([submits, submits_accepted], [1, 1]);
});

if (MAJOR < 5) {
  cell('errors', 'a form that is sent again without its body is refused for good', async () => {
    await simulator.slow(6);
    const client = clientOf('SUITE_NARROW', { timeout: 2000, defaultHeaders: { 'x-stainless-timeout': '600' } });
    // The first try times out. The next one announces the same length and brings nothing, which the gateway awaits for
    // 1 s.
    await assert.rejects(edit(client), (error) => {
      assert.equal(error.status, 408);
      assert.equal(error.headers['x-should-retry'], 'false');
      return true;
    });
    assert.equal(await simulator.submits(), 1);
  });
}

plain('a client that hung up finds its picture', async () => {
  await simulator.slow(2);
  const asked = { image: await photo(), prompt: prompt(), ...SMALL };
  await assert.rejects(once.images.edit(asked, { signal: AbortSignal.timeout(700) }), OpenAI.APIUserAbortError);
  const answer = await once.images.edit(asked);
  checkItem(answer.data[0], '256x256');
  assert.equal(await simulator.submits(), 1);
});
