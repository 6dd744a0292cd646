// Edits by the official JavaScript SDK with its own retries, many at once; prints as JSON what came of them.
//
//     node broken_network.mjs BASE-URL KEY PREFIX CALLS IN-FLIGHT TIMEOUT-SECONDS PICTURE...

import assert from 'node:assert/strict';
import fs from 'node:fs';

import OpenAI, { toFile } from 'openai';

const [base, apiKey, prefix, calls, inFlight, timeout, ...paths] = process.argv.slice(2);
const pictures = paths.map((path) => fs.readFileSync(path));
const client = new OpenAI({ baseURL: base, apiKey, timeout: Number(timeout) * 1000 });
assert.equal(client.maxRetries, 2, "no longer the SDK's default");
const outcomes = {};
let next = 0;

async function edit(number) {
  let answer;
  try {
    answer = await client.images.edit({
      model: 'gpt-image-1.5',
      size: '256x256',
      quality: 'low',
      image: await toFile(pictures[number % pictures.length], 'photo.png', { type: 'image/png' }),
      prompt: `paint it blue: ${prefix}-${number}, please`,
    });
  } catch (error) {
    // An answer that breaks off is no error of the SDK's own; it does not ask again for it.
    return error.status ? `${error.status} ${error.code}` : error.constructor.name;
  }
  const bytes = Buffer.from(answer.data[0].b64_json, 'base64');
  assert.equal(bytes.subarray(0, 8).toString('latin1'), '\x89PNG\r\n\x1a\n');
  return 'picture';
}

async function work() {
  while (next < Number(calls)) {
    const outcome = await edit(next++);
    outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
  }
}

await Promise.all(Array.from({ length: Number(inFlight) }, work));
console.log(JSON.stringify(outcomes));
