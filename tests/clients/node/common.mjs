// What the JavaScript suites share. `run.sh node` starts the gateways and names them in the environment, and in
// SUITE_OPENAI the package that is the official SDK: package.json has several versions of it.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

function fail(message) {
  console.error(message);
  process.exit(1);
}

export function setting(name) {
  return process.env[name] || fail(`${name} is not set: start the suite with tests/clients/run.sh node`);
}

export async function load(name) {
  try {
    return await import(name);
  } catch (error) {
    if (error.code !== 'ERR_MODULE_NOT_FOUND') throw error;
    return fail(`the package ${name} is missing: npm ci --prefix tests/clients/node`);
  }
}

const here = import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname);

/** The installed version of a package, by the name that package.json gives it. */
export function versionOf(name) {
  return JSON.parse(fs.readFileSync(path.join(here, 'node_modules', name, 'package.json'))).version;
}

const sdk = process.env.SUITE_OPENAI ?? 'openai';
export const { default: OpenAI, toFile } = await load(sdk);
export const MAJOR = Number.parseInt(versionOf(sdk), 10);

// Reasons, by the test that they are about: what differs with this profile of the simulator.
const differences = JSON.parse(fs.readFileSync(path.join(here, '..', 'lib', 'differences.json')));
const leftOut = new Map(
  Object.entries(differences[setting('SUITE_PROFILE')] ?? {}).flatMap(([reason, names]) => names.map((name) => [name, reason])),
);

/** A test that fills a cell of the table that run.sh prints: that column of the client's row. */
export function cell(column, title, run, { client = setting('SUITE_CLIENT'), version = versionOf(sdk) } = {}) {
  test(title, { skip: leftOut.get(title) ?? false }, async () => {
    let verdict = 'failed';
    try {
      await run();
      verdict = 'passed';
    } finally {
      const line = { client, version, cell: column, verdict, test: title };
      fs.appendFileSync(setting('SUITE_RESULTS'), `${JSON.stringify(line)}\n`);
    }
  });
}

const picture = (name) => path.join(setting('SUITE_PICTURES'), name);
export const PHOTO = picture('photo.png');
export const SECOND = picture('second.png');
export const MASK = picture('mask.png');
export const LARGE = picture('large.png');
export const HUGE = picture('huge.png');

// Small and cheap, so that the suites are quick.
export const SMALL = { model: 'gpt-image-1.5', size: '256x256', quality: 'low' };

/** A prompt that no other test uses, so that nothing is answered from the cache by accident. */
export const prompt = (words = 'paint it blue') => `${words} ${randomUUID()}`;

/** A test of the suite that fills no cell; older versions run those that do. */
export const plain = process.env.SUITE_ONLY_CELLS ? () => {} : test;

/** Checks that the bytes begin as a PNG of that size does. */
export function checkPng(bytes, size) {
  assert.equal(bytes.subarray(0, 8).toString('latin1'), '\x89PNG\r\n\x1a\n');
  assert.equal(`${bytes.readUInt32BE(16)}x${bytes.readUInt32BE(20)}`, size);
  assert.equal(bytes.subarray(-8, -4).toString('latin1'), 'IEND');
}

/** Checks one item of an answer in base64. */
export function checkItem(item, size) {
  assert.equal(item.url, undefined);
  assert.match(item.b64_json, /^[A-Za-z0-9+/]+={0,2}$/);
  checkPng(Buffer.from(item.b64_json, 'base64'), size);
}

/** The control routes of a simulator. */
export class Simulator {
  constructor(address) {
    this.address = address;
  }

  async #ask(method, route, body) {
    const answer = await fetch(`${this.address}/_simulator/${route}`, { method, body: body && JSON.stringify(body) });
    assert.ok(answer.ok, `${method} ${route}: ${answer.status}`);
    const text = await answer.text();
    return text ? JSON.parse(text) : undefined;
  }

  counters = () => this.#ask('GET', 'counters');
  submits = async () => (await this.counters()).submits;
  scenario = (sections) => this.#ask('PUT', 'scenario', sections);
  /** Sets how long every picture takes; the simulator runs a hundred times as fast as its clock. */
  slow = (seconds, life) =>
    this.scenario({ life: { low_ms: [seconds * 100_000, seconds * 100_000], size_counts: 'no', ...life } });
  fault = (on, fault, more) => this.#ask('POST', 'faults', { on, fault, ...more });
  reset = () => this.#ask('POST', 'reset');
}
