// The operator's page in Chromium, against a gateway in the sandbox: it is readable without script, moves while pictures are made,
// says what failed, and recovers when the gateway is started again.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Gateway, assertAccessible, assertClean, assertFits, openPage, pngPicture, shot, startBrowser, until } from "./lib.mjs";

/** What a browser says of a stream that ends with its gateway, and of one that does not answer yet. */
const RESTARTING = [/ERR_CONNECTION_REFUSED/, /ERR_INCOMPLETE_CHUNKED_ENCODING/, /ERR_CONNECTION_RESET/, /ERR_EMPTY_RESPONSE/];

describe("dashboard", () => {
  let browser;
  let gateway;
  let picture;

  before(async () => {
    browser = await startBrowser();
    gateway = await Gateway.start("dashboard");
    // Printed after the gateway answers.
    await until("the banner names the simulator", () => {
      gateway.simulator = gateway.printed.match(/simulator\s+(http:\/\/[\d.]+:\d+)/)?.[1];
      return gateway.simulator;
    });
    picture = await pngPicture(browser, { width: 128, height: 128 });
  });
  after(async () => {
    await gateway?.remove();
    await browser?.close();
  });

  async function edit(prompt, { stream = false } = {}) {
    const form = new FormData();
    form.set("image", new Blob([picture], { type: "image/png" }), "picture.png");
    form.set("model", "gpt-image-2");
    form.set("prompt", prompt);
    form.set("size", "1024x1024");
    form.set("quality", "low");
    if (stream) form.set("stream", "true");
    const answer = await gateway.call("/v1/images/edits", { method: "POST", body: form });
    return { status: answer.status, text: await answer.text() };
  }

  async function faults(kind, times) {
    const answer = await fetch(`${gateway.simulator}/_simulator/faults`, { method: "POST", body: JSON.stringify({ on: "submit", fault: kind, times }) });
    assert.ok(answer.ok, await answer.text());
  }

  const text = (page, key) => page.locator(`[data-text="${key}"]`).first().textContent();
  const open = (scheme, options = {}) => openPage(browser, { scheme, ...options });

  test("is readable without script, also before anything happened", async () => {
    const watched = await open("light", { javaScriptEnabled: false });
    const { page } = watched;
    await page.goto(gateway.operator);
    assert.equal(await text(page, "verdict"), "Ready");
    assert.equal(await page.title(), "Ready · gptproto-gateway");
    assert.equal(await page.locator("figure svg").count(), 6);
    assert.match(await page.locator('[data-list="accounts"]').innerText(), /default\s+ready/);
    assert.ok(await page.getByText("No request for pictures has failed").isVisible());
    assert.ok(await page.getByRole("banner").getByText("sandbox", { exact: true }).isVisible());
    assertClean(watched);
    await watched.close();
  });

  test("moves while pictures are made, without being loaded again", async () => {
    const watched = await open("light");
    const { page } = watched;
    await page.goto(gateway.operator);
    await page.evaluate(() => { globalThis.loadedOnce = true; });
    await until("it is live", async () => (await page.locator("#connection").textContent()) === "live");
    const edits = ["a garden", "a river", "a tower", "a garden"].map((prompt) => edit(prompt));
    await until("clients wait", async () => Number(await text(page, "waiting")) > 0);
    assert.ok((await Promise.all(edits)).every(({ status }) => status === 200));
    await until("the pictures are counted", async () => (await text(page, "pictures")) === "3");
    assert.equal((await edit("a garden")).status, 200);
    await until("a hit is counted", async () => /1 from the cache, 1 joined/.test(await text(page, "saved.detail")));
    await until("requests are listed", async () => (await page.locator('[data-list="requests"] tr').count()) === 5);
    assert.match(await page.locator('[data-list="requests"]').innerText(), /from the cache/);
    assert.equal(await text(page, "verdict"), "Ready");
    assert.ok(await page.evaluate(() => globalThis.loadedOnce), "nothing was loaded again");
    assert.ok(watched.bytes < 150_000, `${watched.bytes} bytes`);
    await assertAccessible(page, "light");
    await shot(page, "dashboard-light");
    assertClean(watched);
    await watched.close();
  });

  test("says first what failed, with the command that helps", async () => {
    const watched = await open("dark");
    const { page } = watched;
    await page.goto(gateway.operator);
    await faults("drop_after", 2);
    await edit("a lost answer");
    await edit("a lost answer, streamed", { stream: true });
    await until("the headline says it", async () => /^Ready, and 2 of 7 requests failed$/.test(await text(page, "verdict")));
    assert.match(await page.title(), /^Ready, and 2 of 7 requests failed/);
    const notes = await page.locator('[data-list="notes"]').innerText();
    assert.match(notes, /2 of the last 7 requests for pictures failed: no usable answer came to the submit \(2\)/);
    assert.match(notes, /2 purchases may have cost about \$/);
    assert.match(notes, /gptproto-gateway ledger list --state unknown/);
    const rows = page.locator('[data-list="failures"] tr');
    assert.equal(await rows.count(), 2);
    assert.match(await rows.first().innerText(), /gptproto-gateway ledger resolve pred_/);
    assert.ok(!/a lost answer/.test(await page.content()), "prompts are shown nowhere");
    await assertAccessible(page, "dark");
    await shot(page, "dashboard-dark");
    assertClean(watched);
    await watched.close();
  });

  test("says that no account can buy, until it is over", async () => {
    const watched = await open("light");
    const { page } = watched;
    await page.goto(gateway.operator);
    await gateway.scenario({ auth: { revoked: ["sk-simulator"] } });
    await edit("refused");
    await until("the headline says it", async () => (await text(page, "verdict")) === "Not ready");
    assert.match(await page.locator('[data-list="notes"]').innerText(), /no account can buy \(default: the upstream refuses the key/);
    assert.equal((await fetch(`${gateway.operator}/readyz`)).status, 503);
    await shot(page, "dashboard-not-ready");
    await gateway.scenario({ auth: { revoked: [] } });
    await until("it is ready again", async () => /^Ready/.test(await text(page, "verdict")), 40);
    assertClean(watched);
    await watched.close();
  });

  test("recovers by itself when the gateway is started again", async () => {
    const watched = await open("light", { ignore: RESTARTING });
    const { page } = watched;
    await page.goto(gateway.operator);
    await until("it is live", async () => (await page.locator("#connection").textContent()) === "live");
    await gateway.stop();
    await until("it says that it reconnects", async () => /reconnecting/.test(await page.locator("#connection").textContent()));
    await gateway.start();
    await until("it is live again", async () => (await page.locator("#connection").textContent()) === "live");
    await until("it shows the new gateway", async () => (await text(page, "pictures")) === "0");
    assert.equal((await edit("after the restart")).status, 200);
    await until("it moves again", async () => (await text(page, "pictures")) === "1");
    assertClean(watched);
    await watched.close();
  });

  test("fits a phone, and is read by keyboard alone", async () => {
    const watched = await open("dark", { width: 375, height: 720 });
    const { page } = watched;
    await page.goto(gateway.operator);
    await assertFits(page, "375 pixels");
    await assertAccessible(page, "phone");
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement.textContent), "To the content");
    const seen = new Set();
    for (let count = 0; count < 120; count += 1) {
      await page.keyboard.press("Tab");
      seen.add(await page.evaluate(() => document.activeElement.closest("section")?.getAttribute("aria-labelledby") ?? document.activeElement.closest("figure")?.dataset.chart ?? ""));
    }
    for (const place of ["hour", "accounts", "clients", "requests", "gateway"]) assert.ok(seen.has(place), `${place} of ${[...seen]}`);
    await page.locator("figure details summary").first().press("Enter");
    assert.ok(await page.locator("figure details table").first().isVisible());
    await assertFits(page, "375 pixels, with a table");
    await shot(page, "dashboard-phone");
    assertClean(watched);
    await watched.close();
  });
});
