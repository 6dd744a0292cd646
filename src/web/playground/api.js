// The client API, with the key of this tab. Addresses are relative, so that the page also works below a path of a proxy.

const KEY = "gateway-key";
let key = "";
/** Seconds that the gateway's clock is ahead of this machine's. */
let clockOffset = 0;

/** Takes the key from behind the # of the address, and removes it from there; else from this tab's storage. */
export function storedKey() {
  const given = new URLSearchParams(location.hash.slice(1)).get("key");
  if (given) history.replaceState(null, "", location.pathname + location.search);
  return given?.trim() || sessionStorage.getItem(KEY) || "";
}

export function useKey(value) {
  key = value;
  sessionStorage.setItem(KEY, value);
}

export function forgetKey() {
  key = "";
  sessionStorage.removeItem(KEY);
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
    throw new ConnectionError("The gateway does not answer. What it was asked for goes on; this page tries again.");
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
  return new ApiError(response.status, body?.error, response.headers);
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

/** Returns the address of a smaller picture of a result. */
export const thumbnail = (address, width) => `${local(address)}${address.includes("?") ? "&" : "?"}width=${width}`;

/** Returns what a response says about its cost, in US dollars, or null. */
export function costOf(headers) {
  const text = headers.get("x-gateway-cost-usd");
  return text === null ? null : { usd: Number(text), estimated: headers.get("x-gateway-cost-estimated") === "true" };
}
