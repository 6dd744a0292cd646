// The client API, with the key of this tab. Addresses are relative, so that the page also works below a path of a proxy.

const KEY = "gateway-key";
/** An address of a result is renewed when it expires within this time, in seconds. */
const RENEWED_BEFORE = 60;
let key = "";
let keyRefused = () => {};
/** Seconds that the gateway's clock is ahead of this machine's. */
let clockOffset = 0;

const memory = new Map();

/** This tab's storage. Where the browser stores nothing, or no more, a value lasts until the page is left. */
export const store = {
  get(name) {
    try {
      return memory.get(name) ?? sessionStorage.getItem(name);
    } catch {
      return null;
    }
  },
  /** Returns whether the value outlasts the page. */
  set(name, value) {
    memory.set(name, value);
    try {
      sessionStorage.setItem(name, value);
      return true;
    } catch {
      return false;
    }
  },
  clear() {
    memory.clear();
    try {
      sessionStorage.clear();
    } catch {
      // Nothing is stored.
    }
  },
};

/** `listener` is called with a text when the gateway does not accept the key. */
export function setUp(listener) {
  keyRefused = listener;
}

const keyOfAddress = () => new URLSearchParams(location.hash.slice(1)).get("key")?.trim();

/**
 * Takes the key from behind the # of the address, and removes it from there; else from this tab's storage. What is stored for
 * another key is cleared.
 */
export function storedKey() {
  const stored = store.get(KEY) ?? "";
  const given = keyOfAddress();
  if (!given) return stored;
  history.replaceState(null, "", location.pathname + location.search);
  if (given !== stored) store.clear();
  return given;
}

// An address with a key may be opened in a tab that shows the page already: it begins again.
addEventListener("hashchange", () => keyOfAddress() && location.reload());

/** Returns whether the key outlasts the page. */
export function useKey(value) {
  key = value;
  return store.set(KEY, value);
}

export function forgetKey() {
  key = "";
  store.set(KEY, "");
}

/** Names what is stored for the current key, without showing anything of it: a short digest. */
export function keyMark() {
  let digest = 0x811c9dc5;
  for (const character of key) digest = Math.imul(digest ^ character.codePointAt(0), 0x01000193) >>> 0;
  return digest.toString(36);
}

/** The gateway's time, in Unix seconds. */
export const now = () => Date.now() / 1000 + clockOffset;

/** An answer that is an error: what the gateway says about it. */
export class ApiError extends Error {
  constructor(status, error, headers) {
    super(error?.message || `The gateway answered with status ${status}.`);
    Object.assign(this, { status, code: error?.code ?? null, param: error?.param ?? null, type: error?.type ?? null });
    this.requestId = headers?.get("x-request-id") ?? null;
    this.retryAfter = Number(headers?.get("retry-after")) || null;
    this.prediction = headers?.get("x-gateway-prediction") ?? null;
  }
}

/** The gateway could not be reached, or the connection broke. */
export class ConnectionError extends Error {}

/** Sends a request and returns the response, also one with an error status. */
export async function send(route, { headers = {}, ...rest } = {}) {
  let response;
  try {
    response = await fetch(route, { headers: { authorization: `Bearer ${key}`, ...headers }, redirect: "error", ...rest });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ConnectionError("The gateway does not answer.");
  }
  const date = Date.parse(response.headers.get("date"));
  if (date) clockOffset = Math.round((date - Date.now()) / 1000);
  return response;
}

/** Sends a request and returns the response, or throws its error. */
export async function call(route, options) {
  const response = await send(route, options);
  if (!response.ok) throw await errorOf(response);
  return response;
}

export async function errorOf(response) {
  const body = await response.json().catch(() => null);
  const error = new ApiError(response.status, body?.error, response.headers);
  // Requests that were on their way when the key was refused say nothing new.
  if (error.status === 401 && key) keyRefused(error.message);
  return error;
}

export const getJson = async (route, options) => (await call(route, options)).json();

/** Calls `receive(event, data)` for each server-sent event of a response until it ends. */
export async function readEvents(response, receive) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let pieces = [];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    // Pictures come in large lines: pieces are joined once their end is here.
    pieces.push(value);
    if (!value.includes("\n")) continue;
    const blocks = pieces.join("").split("\n\n");
    pieces = [blocks.pop()];
    for (const block of blocks) {
      let event = "message";
      const data = [];
      for (const line of block.split("\n")) {
        if (line.startsWith("event:")) event = line.slice(6).trim();
        else if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
      }
      if (data.length) await receive(event, JSON.parse(data.join("\n")));
    }
  }
}

/** Returns an address of a result on this page's own origin: the gateway may have other names. */
export function local(address) {
  const url = new URL(address, document.baseURI);
  const at = url.pathname.indexOf("/v1/results/");
  return new URL(`${at < 0 ? url.pathname : url.pathname.slice(at + 1)}${url.search}`, document.baseURI).href;
}

/** Returns the address of a job, with its pictures in the format that its request names. */
export function jobAddress({ id, request }, options = {}) {
  const format = request?.values?.output_format;
  return `v1/predictions/${id}?${new URLSearchParams({ ...options, ...(format && { output_format: format }) })}`;
}

/** Returns a job with the addresses of its pictures. */
export const getJob = (job) => getJson(jobAddress(job, { response_format: "url" }));

/** Whether an address of a result has expired, or soon will: `…?s=EXPIRES.SIGNATURE`, or `…?s=COMPRESSION.EXPIRES.SIGNATURE`. */
export function isExpired(address) {
  const [, expires] = /(\d+)\.[^.]*$/.exec(new URL(address, document.baseURI).searchParams.get("s")) ?? [];
  return !(now() < Number(expires) - RENEWED_BEFORE);
}

/** Returns the address of a picture `{ job, index, address }`. One that has expired is renewed first. */
export async function validAddress(picture) {
  if (isExpired(picture.address)) {
    const { result, error } = await getJob(picture.job);
    if (!result) throw new Error(error?.message ?? "The picture is no longer stored.");
    picture.address = result.data[picture.index].url;
  }
  return picture.address;
}

/** Returns the address of a smaller picture of a result. */
export const thumbnail = (address, width) => `${local(address)}${address.includes("?") ? "&" : "?"}width=${width}`;

/** Returns what a response says about its cost, in US dollars, or null. */
export function costOf(headers) {
  const text = headers.get("x-gateway-cost-usd");
  return text === null ? null : { usd: Number(text), estimated: headers.get("x-gateway-cost-estimated") === "true" };
}
