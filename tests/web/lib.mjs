// What the tests of the web pages share: a gateway in the sandbox, a browser, pages that are watched, axe-core, screenshots.
//
// Environment: BINARY (the program), CHROMIUM (the browser), TEST_PORTS=FIRST-LAST (ports to use), GATEWAY_TEST_OUTPUT (folder
// for logs and screenshots; default: output/ beside this file).
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createWriteStream, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const here = path.dirname(fileURLToPath(import.meta.url));
const top = path.resolve(here, "../..");
const binary = process.env.BINARY ?? path.join(process.env.CARGO_TARGET_DIR ?? path.join(top, "target"), "debug/gptproto-gateway");
const axeSource = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** Where logs and screenshots go. */
export const output = process.env.GATEWAY_TEST_OUTPUT ? path.join(process.env.GATEWAY_TEST_OUTPUT, "web") : path.join(here, "output");
mkdirSync(output, { recursive: true });

/** The client key of the sandbox. */
export const SANDBOX_KEY = "sk-sandbox";

/** Waits until `check` returns something true, or fails with `what` and the last error. */
export async function until(what, check, seconds = 20) {
  const end = Date.now() + seconds * 1000;
  let last;
  for (;;) {
    try {
      const found = await check();
      if (found) return found;
    } catch (error) {
      last = error;
    }
    if (Date.now() > end) assert.fail(`not within ${seconds} s: ${what}${last ? ` (${last.message})` : ""}`);
    await sleep(50);
  }
}

async function freePorts(count) {
  const [first, last] = (process.env.TEST_PORTS ?? "15000-31999").split("-").map(Number);
  const servers = [];
  while (servers.length < count) {
    const server = createServer();
    const port = first + Math.floor(Math.random() * (last - first + 1));
    const taken = await new Promise((resolve) => {
      server.once("error", () => resolve(true));
      server.listen(port, "127.0.0.1", () => resolve(false));
    });
    if (!taken) servers.push(server);
  }
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

/** A gateway with a simulator behind it, on ports and a folder of its own. `start` begins, also after `stop` or `kill`. */
export class Gateway {
  /** `env`: configuration as environment variables, such as GATEWAY_SERVER__WEB. `args`: after `serve --sandbox`. */
  constructor(name, { env = {}, args = [] } = {}) {
    Object.assign(this, { name, env, args, key: SANDBOX_KEY, printed: "" });
    this.folder = mkdtempSync(path.join(tmpdir(), "gateway-web-"));
  }

  static async start(name, options) {
    const gateway = new Gateway(name, options);
    const [api, operator] = await freePorts(2);
    gateway.api = `http://127.0.0.1:${api}`;
    gateway.operator = `http://127.0.0.1:${operator}`;
    await gateway.start();
    return gateway;
  }

  async start() {
    const inherited = Object.entries(process.env).filter(([name]) => !/^(GATEWAY_|GPTPROTO_|BINARY$)/.test(name));
    const env = {
      ...Object.fromEntries(inherited),
      RUST_BACKTRACE: "0",
      GATEWAY_SERVER__LISTEN: new URL(this.api).host,
      GATEWAY_OPERATOR__LISTEN: new URL(this.operator).host,
      GATEWAY_STORAGE__DIRECTORY: path.join(this.folder, "data"),
      ...this.env,
    };
    this.printed = "";
    this.process = spawn(binary, ["serve", "--sandbox", ...this.args], { env, cwd: this.folder, stdio: ["ignore", "pipe", "pipe"] });
    this.process.stdout.on("data", (text) => (this.printed += text));
    this.process.stderr.pipe(createWriteStream(path.join(output, `${this.name}.log`), { flags: "a" }));
    await until(`${this.name} answers`, async () => {
      if (this.process.exitCode !== null) assert.fail(`${this.name} has ended; its log is in ${output}`);
      return (await fetch(`${this.api}/health`)).ok;
    });
    this.simulator = await until(`${this.name} prints its addresses`, () => this.printed.match(/simulator\s+(http:\/\/[\d.]+:\d+)/)?.[1]);
  }

  /** Changes how the simulator behaves: sections of config/simulator.toml as an object. */
  async scenario(change) {
    const answer = await fetch(`${this.simulator}/_simulator/scenario`, { method: "PUT", headers: { "content-type": "application/json" }, body: JSON.stringify(change) });
    assert.ok(answer.ok, `${answer.status} ${await answer.text()}`);
  }

  /** Returns the simulator's counters. */
  async counters() {
    return (await fetch(`${this.simulator}/_simulator/counters`)).json();
  }

  /** Calls the client API, with the sandbox's key unless `headers` have another. */
  async call(route, { headers = {}, ...rest } = {}) {
    return fetch(this.api + route, { headers: { authorization: `Bearer ${this.key}`, ...headers }, ...rest });
  }

  async stop(signal = "SIGTERM") {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    const ended = once(this.process, "exit");
    this.process.kill(signal);
    await ended;
  }

  /** Stops the gateway and removes its folder. */
  async remove() {
    await this.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Starts the browser. */
export function startBrowser() {
  const executablePath = process.env.CHROMIUM ?? ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync);
  const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
  return chromium.launch({ executablePath, args });
}

/**
 * Opens a page of its own context and watches it. `watched.problems` collects console errors, exceptions and requests to other
 * hosts; `watched.bytes` counts the bytes of documents, scripts, styles and the icon. `ignore`: patterns of problems that the
 * test expects, such as the browser's line about a 401.
 */
export async function openPage(browser, { scheme = "light", width = 1280, height = 900, ignore = [], ...context } = {}) {
  const made = await browser.newContext({ colorScheme: scheme, viewport: { width, height }, reducedMotion: "reduce", ...context });
  const page = await made.newPage();
  const watched = { page, context: made, problems: [], bytes: 0, close: () => made.close() };
  const problem = (text) => ignore.some((pattern) => pattern.test(text)) || watched.problems.push(text);
  watchPage(page, watched, problem);
  return watched;
}

function watchPage(page, watched, problem) {
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) problem(`console: ${message.text()} (${message.location().url})`);
  });
  page.on("pageerror", (error) => problem(`exception: ${error.stack}`));
  page.on("request", (request) => {
    const url = new URL(request.url());
    if (["http:", "https:", "ws:"].includes(url.protocol) && url.hostname !== "127.0.0.1") problem(`foreign request: ${url.origin}`);
  });
  page.on("response", async (response) => {
    const type = response.request().resourceType();
    const isFile = ["document", "script", "stylesheet"].includes(type) || response.url().endsWith(".svg");
    if (isFile) watched.bytes += Number(response.headers()["content-length"] ?? 0);
  });
}

/** Fails when a watched page had a problem. */
export function assertClean(watched) {
  assert.deepEqual(watched.problems, []);
}

/** Fails with what axe-core finds on the page, in all rules of WCAG 2.2 AA and its best practices. */
export async function assertAccessible(page, what) {
  await page.evaluate(axeSource);
  const findings = await page.evaluate(async () => {
    const { violations } = await globalThis.axe.run(document, { resultTypes: ["violations"] });
    return violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map((node) => `${node.html} [${node.any.concat(node.all).map((check) => check.message).join("; ")}]`).join(" | ")}`);
  });
  assert.deepEqual(findings, [], what);
}

/** Fails when the page is wider than its window. */
export async function assertFits(page, what) {
  const { wide, widest } = await page.evaluate(() => {
    const limit = document.documentElement.clientWidth;
    const over = [...document.querySelectorAll("body *")].filter((element) => element.getBoundingClientRect().right > limit + 1 && element.getClientRects().length);
    return { wide: document.documentElement.scrollWidth - limit, widest: over.slice(0, 3).map((element) => element.outerHTML.slice(0, 120)) };
  });
  assert.ok(wide <= 0, `${what}: ${wide} pixels too wide: ${widest.join(" | ")}`);
}

/** Keeps a picture of the whole page. */
export async function shot(page, name) {
  await page.screenshot({ path: path.join(output, `${name}.png`), fullPage: true });
}

/** The bytes of a PNG that a page of the browser draws: `width` by `height`, a coloured disc on a ground. */
export async function pngPicture(browser, { width = 640, height = 480, ground = "#3b82c4", disc = "#f3c14b" } = {}) {
  const context = await browser.newContext();
  const page = await context.newPage();
  const encoded = await page.evaluate(([width, height, ground, disc]) => {
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    const paint = canvas.getContext("2d");
    paint.fillStyle = ground;
    paint.fillRect(0, 0, width, height);
    paint.fillStyle = disc;
    paint.arc(width / 2, height / 2, Math.min(width, height) / 4, 0, 7);
    paint.fill();
    return canvas.toDataURL("image/png").split(",")[1];
  }, [width, height, ground, disc]);
  await context.close();
  return Buffer.from(encoded, "base64");
}
