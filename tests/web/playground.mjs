// The playground and gallery in a browser, as a person uses them.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { Gateway, SANDBOX_KEY, assertAccessible, assertClean, assertFits, openPage, pngPicture, shot, startBrowser, until } from "./lib.mjs";

/** Simulated seconds pass this many times faster: an edit takes half a second, or about ten. */
const [FAST, SLOW] = [200, 8];

let gateway;
let browser;
let picture;

before(async () => {
  gateway = await Gateway.start("playground");
  browser = await startBrowser();
  picture = await pngPicture(browser, { width: 768, height: 512 });
});
after(async () => {
  await browser?.close();
  await gateway?.remove();
});

const field = (page, role, name) => page.getByRole(role, { name, exact: true });
const result = (page) => page.getByRole("img", { name: /^Result/ }).first();

/** Opens the playground with a key, at a speed of the simulator. `prepare` is called with the page before it is loaded. */
async function playground({ at = gateway, key = SANDBOX_KEY, speed = FAST, prepare, ...options } = {}) {
  await at.scenario({ speed });
  const watched = await openPage(browser, options);
  await prepare?.(watched.page);
  await watched.page.goto(`${at.api}/#key=${key}`);
  await field(watched.page, "textbox", "Prompt").waitFor();
  return watched;
}

/** Runs `act` with a gateway of its own configuration. */
async function withGateway(name, env, act) {
  const own = await Gateway.start(name, { env });
  try {
    await act(own);
  } finally {
    await own.remove();
  }
}

/** Makes a picture from a prompt, and waits for it. */
async function generate(page, prompt) {
  await field(page, "textbox", "Prompt").fill(prompt);
  await field(page, "button", "Generate").click();
  await page.getByRole("img", { name: `Result: ${prompt}` }).waitFor({ timeout: 40_000 });
}

const focused = (page) => page.evaluate(() => document.activeElement.id || document.activeElement.tagName);

async function choose(page, names = ["disc.png"], bytes = picture) {
  await page.getByLabel("Pictures", { exact: true }).setInputFiles(names.map((name) => ({ name, mimeType: "image/png", buffer: bytes })));
  await until("thumbnails", async () => (await page.getByRole("list", { name: "Chosen pictures" }).getByRole("listitem").count()) >= names.length);
}

/** Waits until a job is bought: before, the list of stages names this one, too. */
const beingMade = (page) => page.locator('[aria-current="step"]', { hasText: "Being made" }).first().waitFor();

async function edit(page, prompt) {
  await choose(page);
  await field(page, "textbox", "Prompt").fill(prompt);
  await field(page, "button", "Edit").click();
}

/** The purchases that the simulator has accepted. */
const bought = async () => Object.values((await gateway.counters()).paths).reduce((sum, { accepted }) => sum + accepted, 0);

test("a key is typed, kept for the tab, and never in an address", async () => {
  const watched = await openPage(browser, { ignore: [/401/] });
  const { page } = watched;
  const addresses = [];
  page.on("request", (request) => addresses.push(request.url()));
  await page.goto(gateway.api);
  await page.getByText("This is a sandbox").waitFor();
  await assertAccessible(page, "the form for the key");
  await shot(page, "key");
  await page.getByLabel("API key").fill("sk-wrong");
  await field(page, "button", "Use key").click();
  await page.getByRole("alert").filter({ hasText: /key/i }).waitFor();
  await page.getByLabel("API key").fill(SANDBOX_KEY);
  await page.keyboard.press("Enter");
  await field(page, "textbox", "Prompt").waitFor();
  await until("the focus in the prompt", async () => (await focused(page)) === "prompt");
  await page.reload();
  await field(page, "textbox", "Prompt").waitFor();
  // The address brings the key along, also to a tab that shows the page; what was written with another key is not shown.
  await field(page, "textbox", "Prompt").fill("a draft of another client");
  await page.evaluate(() => sessionStorage.setItem("gateway-key", "sk-another-client"));
  await page.goto(`${gateway.api}/#key=${SANDBOX_KEY}`);
  await until("the key is removed from the address bar", () => new URL(page.url()).hash === "");
  await field(page, "textbox", "Prompt").waitFor();
  await until("an empty form", async () => (await field(page, "textbox", "Prompt").inputValue()) === "");
  assert.ok(!addresses.some((address) => address.split("#")[0].includes(SANDBOX_KEY)), addresses.join("\n"));
  assertClean(watched);
  await watched.close();
});

test("an edit: controls of the model, progress, the result, the same again from the store", async () => {
  const watched = await playground({ speed: SLOW });
  const { page } = watched;
  assert.equal(await field(page, "button", "Generate").count(), 1, "without a picture it is a generation");
  for (const name of ["Model", "Size", "Quality"]) assert.equal(await field(page, "combobox", name).count(), 1, name);
  await field(page, "combobox", "Model").selectOption("gpt-image-2-plus");
  assert.equal(await field(page, "combobox", "Quality").count(), 0, "a -plus model has no quality");
  await field(page, "combobox", "Model").selectOption("gpt-image-2");
  assert.equal(await field(page, "combobox", "Background").count(), 0, "what has one value is no choice");
  await page.getByText("Up to 16 pictures.").waitFor();
  await field(page, "combobox", "Quality").selectOption("low");
  assert.match(await page.locator("#price").innerText(), /about \$0\.\d+/);
  await shot(page, "start");
  await choose(page);
  await field(page, "textbox", "Prompt").fill("make it a winter night");
  await page.keyboard.press("Control+Enter");
  await page.getByRole("progressbar").waitFor();
  await beingMade(page);
  await shot(page, "working");
  await assertAccessible(page, "while a picture is made");
  await result(page).waitFor({ timeout: 60_000 });
  await shot(page, "result");
  await assertAccessible(page, "a result");
  assert.match(await page.title(), /Done/);
  const card = page.getByRole("article").first();
  assert.match(await card.innerText(), /miss: newly made[\s\S]*\$0\.\d+[\s\S]*pred_/);
  // The slider moves by keyboard, and with it the border between the pictures.
  const slider = page.getByRole("slider", { name: /Before and after/ });
  await slider.focus();
  const part = () => page.locator(".frame").evaluate((frame) => frame.style.getPropertyValue("--part"));
  const earlier = await part();
  await page.keyboard.press("ArrowRight");
  assert.notEqual(await part(), earlier);
  // Full size and download are the picture itself.
  const address = await card.getByRole("link", { name: "Download" }).getAttribute("href");
  assert.equal((await page.request.get(address)).headers()["content-type"], "image/png");

  const before = await bought();
  await field(page, "button", "Edit").click();
  await page.getByText("hit: from the store").waitFor({ timeout: 10_000 });
  assert.equal(await bought(), before, "the second request bought nothing");
  assert.equal(await page.getByRole("article").count(), 1, "one job has one card");
  assert.ok(watched.bytes < 150_000, `the page has ${watched.bytes} bytes`);
  assertClean(watched);
  await watched.close();
});

test("code and clipboard: the command line asks for the very same, and gets the stored result", async () => {
  const watched = await playground({ permissions: ["clipboard-read", "clipboard-write"] });
  const { page } = watched;
  const prompt = `it's "snow" & $HOME; \\ \`ice\``;
  await field(page, "combobox", "Quality").selectOption("low");
  await edit(page, prompt);
  await result(page).waitFor({ timeout: 40_000 });
  const card = page.getByRole("article").first();
  await card.getByText("As code").click();
  const code = await card.getByLabel("Code").textContent();
  const folder = path.join(gateway.folder, "code");
  mkdirSync(folder);
  // What fails says so, and leaves no picture that is none.
  const missing = runCode(code, folder, SANDBOX_KEY);
  assert.match(missing.stderr, /\(26\)/, "a missing file");
  writeFileSync(path.join(folder, "disc.png"), picture);
  const refused = runCode(code, folder, "sk-wrong");
  assert.match(refused.stderr, /Incorrect API key/);
  assert.ok(missing.status !== 0 && refused.status !== 0);
  assert.ok(!readdirSync(folder).some((name) => name.startsWith("result")), readdirSync(folder).join());
  const before = await bought();
  const done = runCode(code, folder, SANDBOX_KEY);
  assert.deepEqual([done.status, done.stderr], [0, ""]);
  assert.equal(readFileSync(path.join(folder, "result.png")).subarray(1, 4).toString(), "PNG");
  assert.equal(await bought(), before, "the stored result");
  for (const kind of ["Python", "Node"]) {
    await card.getByRole("button", { name: kind, exact: true }).click();
    assert.ok((await card.getByLabel("Code").textContent()).includes(`prompt${kind === "Python" ? "=" : ": "}${JSON.stringify(prompt)}`), kind);
  }
  await field(card, "button", "Copy").click();
  await card.getByText("Copied.").waitFor();
  const types = await page.evaluate(async () => (await navigator.clipboard.read()).flatMap(({ types }) => types));
  assert.deepEqual(types, ["image/png"]);
  assertClean(watched);
  await watched.close();
});

/** Runs what "As code" offers for the command line, as it is. */
const runCode = (code, folder, key) => spawnSync("bash", ["-c", code], { cwd: folder, env: { ...process.env, GATEWAY_KEY: key }, encoding: "utf8" });

test("the output format is that of the picture, its download and its code, also of several", async () => {
  const watched = await playground();
  const { page } = watched;
  await field(page, "combobox", "Output format").selectOption("webp");
  await page.getByLabel("Number").fill("2");
  await field(page, "textbox", "Prompt").fill("a ship as webp");
  for (const source of ["miss", "hit"]) {
    await field(page, "button", "Generate").click();
    const card = page.getByRole("article").filter({ hasText: `${source}: ` });
    await card.getByRole("img", { name: /^Result 1 of 2/ }).waitFor({ timeout: 40_000 });
    const link = card.getByRole("link", { name: "Download" });
    assert.match(await link.getAttribute("download"), /-1\.webp$/);
    assert.equal((await page.request.get(await link.getAttribute("href"))).headers()["content-type"], "image/webp", source);
    assert.match(await card.innerText(), /Format\s+webp/);
  }
  await page.getByText("As code").first().click();
  const folder = path.join(gateway.folder, "several");
  mkdirSync(folder);
  const done = runCode(await page.getByLabel("Code").first().textContent(), folder, SANDBOX_KEY);
  assert.deepEqual([done.status, done.stderr], [0, ""]);
  for (const name of ["result-1.webp", "result-2.webp"]) assert.equal(readFileSync(path.join(folder, name)).subarray(0, 4).toString(), "RIFF", name);
  assertClean(watched);
  await watched.close();
});

test("edit again sends the result's own address, and its code says so", async () => {
  const watched = await playground();
  const { page } = watched;
  await edit(page, "paint it in oil");
  await result(page).waitFor({ timeout: 40_000 });
  await field(page, "button", "Edit again").click();
  await field(page, "textbox", "Prompt").fill("and now by moonlight");
  const sending = page.waitForRequest((request) => request.method() === "POST");
  await field(page, "button", "Edit").click();
  const body = (await sending).postDataJSON();
  assert.match(body.images[0].image_url, /\/v1\/results\/pred_/);
  await page.getByRole("img", { name: "Result: and now by moonlight" }).waitFor({ timeout: 40_000 });
  const card = page.getByRole("article").first();
  await card.getByText("As code").click();
  const code = card.getByLabel("Code");
  for (const [kind, words] of [["curl", "images/edits"], ["Python", "client.post"], ["Node", "client.post"]]) {
    await card.getByRole("button", { name: kind, exact: true }).click();
    const text = await code.innerText();
    assert.ok(text.includes(words) && text.includes("/v1/results/pred_") && text.includes("and now by moonlight"), `${kind}: ${text}`);
    assert.ok(!text.includes(SANDBOX_KEY), kind);
  }
  assertClean(watched);
  await watched.close();
});

test("leaving the page loses nothing", async () => {
  const watched = await playground({ speed: SLOW });
  const { page, context } = watched;
  await edit(page, "a job that goes on alone");
  await beingMade(page);
  await page.goto("about:blank");
  await page.goto(gateway.api);
  await page.getByRole("article", { name: "Job: a job that goes on alone" }).getByRole("progressbar").waitFor();
  // In a tab that knows only the key, the list of jobs finds it.
  const other = await context.newPage();
  await other.goto(`${gateway.api}/#key=${SANDBOX_KEY}`);
  await other.getByRole("article").getByRole("progressbar").waitFor();
  await result(page).waitFor({ timeout: 60_000 });
  await result(other).waitFor({ timeout: 60_000 });
  assert.equal(await page.getByRole("slider", { name: /Before and after/ }).count(), 1, "the input is remembered for the comparison");
  assertClean(watched);
  await watched.close();
});

test("a lost connection is said, and the job is found again when the gateway is back", async () => {
  const watched = await playground({ speed: SLOW, ignore: [/Failed to load resource/, /ERR_/] });
  const { page, context } = watched;
  await edit(page, "a job that outlasts a lost connection");
  await beingMade(page);
  await context.setOffline(true);
  await page.getByText(/connection broke|does not answer/i).first().waitFor({ timeout: 60_000 });
  await context.setOffline(false);
  await result(page).waitFor({ timeout: 40_000 });
  await watched.close();
});

test("the plug: a broken connection is not paid twice, and the page says what the headers say", async () => {
  const watched = await playground({ speed: SLOW });
  const { page } = watched;
  const before = await bought();
  await page.getByLabel("Number").fill("3");
  await field(page, "button", "Pull the plug").click();
  await page.getByText("Connection broken after").waitFor({ timeout: 90_000 });
  await shot(page, "plug-broken");
  const verdict = page.getByRole("status").filter({ hasText: "not spent twice" });
  await verdict.waitFor({ timeout: 60_000 });
  const text = await verdict.innerText();
  assert.match(text, /(joined|hit): (about )?\$0\.\d+ not spent twice/);
  assert.match(text, /x-gateway-cache: (joined|hit)/);
  assert.equal(await bought(), before + 1, "one purchase");
  assert.equal((await (await gateway.call("/v1/predictions?limit=1")).json()).data[0].n, 1, "of one picture, whatever the form asks for");
  await page.getByLabel("Number").fill("1");
  await shot(page, "plug");
  await assertAccessible(page, "the plug");

  // With an edit that was done before, no connection can be broken in its middle.
  await gateway.scenario({ speed: FAST });
  await edit(page, "done before the plug is pulled");
  await page.getByRole("img", { name: "Result: done before the plug is pulled" }).waitFor({ timeout: 40_000 });
  const done = await bought();
  await field(page, "button", "Pull the plug").click();
  await page.getByText("Too late: the answer was already here").waitFor();
  await page.getByText("hit: answered from the store, nothing bought").waitFor();
  assert.equal(await page.locator(".plug-steps li").nth(1).getAttribute("class"), "", "no connection was broken");
  assert.equal(await bought(), done, "nothing was bought");
  assertClean(watched);
  await watched.close();
});

test("a mask: brush, rectangle, undo, invert, file; transparent where it is painted", async () => {
  const watched = await playground();
  const { page } = watched;
  await field(page, "combobox", "Model").selectOption("gpt-image-2-plus");
  await choose(page);
  const open = page.getByRole("button", { name: /^Draw a mask/ });
  assert.ok(await open.isDisabled(), "a model without masks offers none");
  await field(page, "combobox", "Model").selectOption("gpt-image-1.5");
  await open.click();
  const dialog = page.getByRole("dialog", { name: /Mask/ });
  const share = async () => Number((await dialog.getByRole("status").innerText()).match(/^([\d.]+) %/)?.[1] ?? 0);
  const box = await dialog.locator("canvas").boundingBox();
  await page.mouse.move(box.x + box.width * 0.3, box.y + box.height / 2);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * 0.7, box.y + box.height / 2, { steps: 8 });
  await page.mouse.up();
  const stroke = await until("a stroke", share);
  await shot(page, "mask");
  await assertAccessible(page, "the mask editor");
  await field(dialog, "button", "Invert").click();
  assert.ok(Math.abs((await share()) - (100 - stroke)) < 0.5, `${await share()} after ${stroke}`);
  await field(dialog, "button", "Undo").click();
  assert.equal(await share(), stroke);
  await field(dialog, "button", "Clear").click();
  assert.equal(await share(), 0);
  await dialog.getByText("Without a brush").click();
  for (const [name, value] of [["From the left", "0"], ["From the top", "0"], ["Width", "384"], ["Height", "512"]]) await dialog.getByLabel(name).fill(value);
  await field(dialog, "button", "Add rectangle").click();
  assert.equal(await share(), 50);
  await field(dialog, "button", "Use mask").click();
  await page.getByText("Mask on the first picture").waitFor();

  await field(page, "textbox", "Prompt").fill("only the left half");
  // The browser does not show the files of a form, so the page notes what it sends.
  await page.evaluate(() => {
    const send = window.fetch;
    window.fetch = (address, options) => {
      if (options?.body instanceof FormData) window.sentMask = options.body.get("mask");
      return send(address, options);
    };
  });
  await field(page, "button", "Edit").click();
  await until("the request", () => page.evaluate(() => Boolean(window.sentMask)));
  const { encoded, pixels } = await page.evaluate(async () => {
    const image = await createImageBitmap(window.sentMask);
    const canvas = Object.assign(document.createElement("canvas"), { width: image.width, height: image.height });
    const paint = canvas.getContext("2d");
    paint.drawImage(image, 0, 0);
    const alpha = (x) => paint.getImageData(x, 200, 1, 1).data[3];
    return { encoded: canvas.toDataURL().split(",")[1], pixels: [image.width, image.height, alpha(10), alpha(700)] };
  });
  const mask = Buffer.from(encoded, "base64");
  assert.deepEqual(pixels, [768, 512, 0, 255], "the size of the picture; left transparent, right opaque");
  await result(page).waitFor({ timeout: 40_000 });

  // A mask file of another size is refused with both sizes; one of the same size is taken.
  await page.getByRole("button", { name: /^Draw a mask/ }).click();
  await dialog.getByText("Without a brush").click();
  await dialog.getByLabel("Mask file").setInputFiles({ name: "small.png", mimeType: "image/png", buffer: await pngPicture(browser, { width: 64, height: 64 }) });
  await dialog.getByText("The mask is 64 × 64, and the picture 768 × 512").waitFor();
  await dialog.getByLabel("Mask file").setInputFiles({ name: "mask.png", mimeType: "image/png", buffer: mask });
  await until("the file's area", async () => (await share()) === 50);
  await page.keyboard.press("Escape");
  await watched.close();
});

test("pictures can be reordered and removed; what is no picture, or one too many, is refused", async () => {
  const watched = await playground();
  const { page } = watched;
  await choose(page, ["a.png", "b.png", "c.png"]);
  const names = () => page.getByRole("list", { name: "Chosen pictures" }).getByRole("img").evaluateAll((all) => all.map((image) => image.alt.split(": ")[1]));
  await page.getByRole("button", { name: "Move back c.png" }).click();
  assert.deepEqual(await names(), ["a.png", "c.png", "b.png"]);
  await page.getByRole("button", { name: "Remove a.png" }).click();
  assert.deepEqual(await names(), ["c.png", "b.png"]);
  await page.getByLabel("Pictures", { exact: true }).setInputFiles([{ name: "notes.txt", mimeType: "text/plain", buffer: Buffer.from("no picture") }]);
  await page.getByText("Not a picture: notes.txt").waitFor();
  await page.getByLabel("Pictures", { exact: true }).setInputFiles(Array.from({ length: 15 }, (_, at) => ({ name: `${at}.png`, mimeType: "image/png", buffer: picture })));
  await page.getByText("16 pictures are the most; 1 were left out.").waitFor();
  assert.equal((await names()).length, 16);
  await page.getByRole("button", { name: "Remove c.png" }).click();
  await page.getByText("16 pictures are the most").waitFor({ state: "detached" });
  // The sample takes the place of what was chosen, and is another picture each time: no stored one answers it.
  const samples = new Set();
  for (let press = 1; press <= 2; press += 1) {
    await page.getByRole("button", { name: "Try it with a sample picture" }).click();
    await until("the sample alone", async () => (await names()).join() === "landscape.png");
    samples.add(await page.getByRole("img", { name: "Picture 1: landscape.png" }).evaluate(async (image) => {
      await image.decode();
      const canvas = Object.assign(document.createElement("canvas"), { width: image.naturalWidth, height: image.naturalHeight });
      canvas.getContext("2d").drawImage(image, 0, 0);
      return canvas.toDataURL();
    }));
    await page.getByRole("button", { name: "Remove landscape.png" }).click();
  }
  assert.equal(samples.size, 2);
  // A picture that the browser cannot show has no mask to draw.
  await page.getByLabel("Pictures", { exact: true }).setInputFiles([{ name: "phone.heic", mimeType: "image/heic", buffer: Buffer.from("not to be shown") }]);
  await until("no mask", () => page.getByRole("button", { name: /^Draw a mask/ }).isDisabled());
  assertClean(watched);
  await watched.close();
});

test("a generation of several pictures, and a refusal, say what happened", async () => {
  const watched = await playground({ ignore: [/400/] });
  const { page } = watched;
  await field(page, "textbox", "Prompt").fill("three ships at sea");
  await page.getByLabel("Number").fill("3");
  await field(page, "button", "Generate").click();
  await page.getByRole("img", { name: "Result 1 of 3: three ships at sea" }).waitFor({ timeout: 40_000 });
  await page.getByRole("button", { name: "Picture 2" }).click();
  await page.getByRole("img", { name: "Result 2 of 3: three ships at sea" }).waitFor();
  await page.getByLabel("Number").fill("99");
  await field(page, "button", "Generate").click();
  const alert = page.getByRole("alert").filter({ hasText: "Refused" });
  await alert.waitFor();
  assert.match(await alert.innerText(), /Nothing was bought[\s\S]*parameter n/);
  await shot(page, "refusal");
  await assertAccessible(page, "a refusal");
  assertClean(watched);
  await watched.close();
});

test("the gallery: newest first, filters, opening, deleting", async () => {
  const watched = await playground();
  const { page } = watched;
  for (const prompt of ["a gallery mountain", "a gallery lighthouse", "a gallery harbour"]) {
    await field(page, "textbox", "Prompt").fill(prompt);
    await field(page, "button", "Generate").click();
    await page.getByRole("img", { name: `Result: ${prompt}` }).waitFor({ timeout: 40_000 });
  }
  const gallery = page.getByRole("region", { name: "Gallery" });
  const tiles = gallery.getByRole("button", { name: /^Open / });
  const first = () => tiles.first().getAttribute("aria-label");
  await until("the newest first", async () => /harbour/.test(await first()));
  assert.ok((await page.getByRole("article").count()) <= 2, "older results are in the gallery alone");
  await gallery.scrollIntoViewIfNeeded();
  await until("thumbnails", () => tiles.first().locator("img").evaluate((image) => image.complete && image.naturalWidth > 0 && image.naturalWidth <= 256));
  await shot(page, "gallery");
  await gallery.getByLabel("Text").fill("lighthouse");
  await until("the filter by text", async () => (await tiles.count()) === 1 && /lighthouse/.test(await first()));
  await gallery.getByLabel("State").selectOption("failed,cancelled");
  await page.getByText("Nothing fits these filters.").waitFor();
  await gallery.getByLabel("State").selectOption("");
  await tiles.first().click();
  await page.getByRole("img", { name: "Result: a gallery lighthouse" }).waitFor();
  await gallery.getByRole("button", { name: "Delete a gallery lighthouse" }).click();
  await field(page.getByRole("dialog"), "button", "Keep it").click();
  assert.equal(await tiles.count(), 1, "kept");
  await gallery.getByRole("button", { name: "Delete a gallery lighthouse" }).click();
  await field(page.getByRole("dialog"), "button", "Delete").click();
  await until("the tile is gone", async () => (await tiles.count()) === 0);
  await page.reload();
  await tiles.first().waitFor();
  assert.equal(await gallery.getByRole("button", { name: "Delete a gallery lighthouse" }).count(), 0, "it is gone from the gateway, too");
  assertClean(watched);
  await watched.close();
});

test("the gallery scrolls on to its end", async () => {
  const watched = await playground();
  const { page } = watched;
  const made = Array.from({ length: 30 }, (_, number) => gateway.call("/v1/images/generations", {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ prompt: `stone number ${number}`, model: "gpt-image-2", quality: "low", response_format: "url" }),
  }));
  assert.ok((await Promise.all(made)).every((answer) => answer.ok));
  await page.reload();
  const tiles = page.getByRole("region", { name: "Gallery" }).getByRole("button", { name: /^Open / });
  await tiles.first().waitFor();
  await until("every stone", async () => {
    await page.evaluate(() => scrollTo(0, document.body.scrollHeight));
    return (await page.getByRole("button", { name: /^Open stone number/ }).count()) === 30;
  });
  assertClean(watched);
  await watched.close();
});

test("prompts and file names with markup are text", async () => {
  const watched = await playground();
  const { page } = watched;
  const evil = `<img src=x onerror="window.broken=1"><script>window.broken=1</script>"'><svg onload=window.broken=1>`;
  await choose(page, [`${evil.replaceAll("/", "")}.png`]);
  await field(page, "textbox", "Prompt").fill(evil);
  await field(page, "button", "Edit").click();
  await result(page).waitFor({ timeout: 40_000 });
  await page.getByText("As code").first().click();
  await page.getByRole("region", { name: "Gallery" }).getByRole("button", { name: /^Open / }).first().click();
  await result(page).waitFor();
  await page.reload();
  await result(page).waitFor();
  assert.equal(await page.evaluate(() => window.broken), undefined);
  assert.ok((await page.getByRole("article").first().innerText()).includes(evil), "shown as it was written");
  assertClean(watched);
  await watched.close();
});

test("by keyboard alone", async () => {
  const watched = await playground();
  const { page } = watched;
  const tabTo = async (role, name) => {
    for (let presses = 0; presses < 60; presses += 1) {
      const there = await field(page, role, name).evaluateAll((all) => all.includes(document.activeElement));
      if (there) {
        const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
        assert.notEqual(outline, "none", `the focus of ${name} can be seen`);
        return;
      }
      await page.keyboard.press("Tab");
    }
    assert.fail(`${name} is not reached by the Tab key`);
  };
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.className), "skip");
  await tabTo("textbox", "Prompt");
  await page.keyboard.type("a keyboard on a desk");
  await tabTo("combobox", "Model");
  await tabTo("button", "Generate");
  await page.keyboard.press("Enter");
  await page.getByRole("img", { name: "Result: a keyboard on a desk" }).waitFor({ timeout: 40_000 });
  await tabTo("button", "Edit again");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "prompt");
  await tabTo("button", "Pull the plug");
  assertClean(watched);
  await watched.close();
});

for (const scheme of ["light", "dark"]) {
  test(`a phone of 360 pixels, ${scheme}`, async () => {
    const watched = await playground({ scheme, width: 360, height: 740 });
    const { page } = watched;
    await edit(page, `a phone in ${scheme} colours with averyveryveryveryveryveryveryveryverylongword`);
    await result(page).waitFor({ timeout: 40_000 });
    await page.getByText("As code").first().click();
    await page.getByRole("region", { name: "Gallery" }).getByRole("button", { name: /^Open / }).first().waitFor();
    await assertFits(page, "the playground");
    await assertAccessible(page, `phone, ${scheme}`);
    await shot(page, `phone-${scheme}`);
    await page.getByRole("button", { name: /^Draw a mask/ }).click();
    await assertFits(page, "the mask editor");
    assertClean(watched);
    await watched.close();
  });
}

test("dark on a large screen", async () => {
  const watched = await playground({ scheme: "dark" });
  const { page } = watched;
  await edit(page, "the same picture after sunset");
  await result(page).waitFor({ timeout: 40_000 });
  await until("the gallery", () => page.getByRole("region", { name: "Gallery" }).getByRole("button", { name: /^Open / }).count());
  await assertAccessible(page, "dark");
  await shot(page, "dark");
  assertClean(watched);
  await watched.close();
});

test("without script the page says what it is", async () => {
  const watched = await openPage(browser, { javaScriptEnabled: false });
  await watched.page.goto(gateway.api);
  await watched.page.getByRole("heading", { name: "Edit a picture, and pay for it once" }).waitFor();
  assert.match(await watched.page.locator("noscript").innerHTML(), /The playground needs JavaScript/);
  await watched.close();
});

test("switched off, the address answers with JSON alone", async () => {
  const off = await Gateway.start("playground-off", { env: { GATEWAY_SERVER__WEB: "off" } });
  try {
    const answer = await fetch(`${off.api}/`, { headers: { accept: "text/html" } });
    assert.equal((await answer.json()).name, "gptproto-gateway");
    assert.equal((await fetch(`${off.api}/web/main.js`)).status, 404);
  } finally {
    await off.remove();
  }
});

test("the gallery asks once for what cannot be loaded, and again when it is told to", async () => {
  await withGateway("playground-gone", {}, async (own) => {
    const watched = await playground({ at: own, height: 3000, ignore: [/Failed to load resource/, /ERR_/] });
    const { page } = watched;
    await generate(page, "a tile");
    const gallery = page.getByRole("region", { name: "Gallery" });
    const tiles = gallery.getByRole("button", { name: /^Open / });
    await tiles.first().waitFor();
    await own.stop();
    let requests = 0;
    page.on("request", (request) => (requests += request.url().includes("/v1/predictions") ? 1 : 0));
    await gallery.getByLabel("State").selectOption("completed");
    await gallery.getByText("The gateway does not answer.").waitFor();
    await page.waitForTimeout(3000);
    assert.ok(requests <= 2, `${requests} requests in 3 s`);
    await own.start();
    await field(gallery, "button", "Try again").click();
    await until("the tile, once", async () => (await tiles.count()) === 1 && !(await gallery.getByText("does not answer").count()));
    assertClean(watched);
    await watched.close();
  });
});

test("a browser that stores nothing, or no more", async () => {
  const blocked = await playground({
    prepare: (page) => page.addInitScript(() => Object.defineProperty(window, "sessionStorage", { get: () => { throw new DOMException("The operation is insecure.", "SecurityError"); } })),
  });
  await blocked.page.getByText("This browser keeps nothing for this page").waitFor();
  await generate(blocked.page, "made without storage");
  assertClean(blocked);
  await blocked.close();

  const full = await playground();
  const { page } = full;
  await generate(page, "made before the storage is full");
  await page.evaluate(() => {
    for (let size = 5_000_000; size > 0; ) {
      try {
        sessionStorage.setItem("fill", (sessionStorage.getItem("fill") ?? "") + "x".repeat(size));
      } catch {
        size = Math.floor(size / 2);
      }
    }
  });
  await generate(page, "made while the storage is full");
  await choose(page);
  await page.reload();
  await page.getByRole("region", { name: "Gallery" }).getByRole("button", { name: /^Open made while/ }).waitFor();
  assertClean(full);
  await full.close();
});

test("prompts that are not kept: this tab knows its own, and no code is made up", async () => {
  // A sandbox keeps them, so they are taken out of its answers.
  const prepare = (page) => page.route(/\/v1\/predictions/, async (route) => {
    if (route.request().headers().accept === "text/event-stream") return route.continue();
    const response = await route.fetch();
    return route.fulfill({ response, body: (await response.text()).replaceAll(/"prompt":"[^"]*"/g, '"prompt":null') });
  });
  await withGateway("playground-no-prompts", {}, async (own) => {
    const watched = await playground({ at: own, prepare });
    const { page } = watched;
    await generate(page, "a secret lighthouse");
    const gallery = page.getByRole("region", { name: "Gallery" });
    await gallery.getByRole("button", { name: /^Open a secret lighthouse/ }).waitFor();
    await gallery.getByLabel("Text").fill("another text");
    await gallery.getByText("The gateway keeps no prompts").waitFor();
    assertClean(watched);
    await watched.close();
    const other = await playground({ at: own, prepare });
    await other.page.getByRole("button", { name: /^Open Picture by gpt-image-2/ }).click();
    await result(other.page).waitFor();
    const card = other.page.getByRole("article").first();
    assert.match(await card.innerText(), /^Picture by gpt-image-2[\s\S]*This tab has not sent the request of this job/);
    assert.equal(await card.locator("pre").count(), 0);
    assertClean(other);
    await other.close();
  });
});

test("addresses of results that have expired are renewed", async () => {
  await withGateway("playground-expiry", { GATEWAY_SERVER__RESULT_URL_TTL_S: "5" }, async (own) => {
    const watched = await playground({ at: own });
    const { page, context } = watched;
    await page.getByLabel("Number").fill("2");
    await field(page, "textbox", "Prompt").fill("a picture that stays");
    await field(page, "button", "Generate").click();
    await page.getByRole("img", { name: /^Result 1 of 2/ }).waitFor({ timeout: 40_000 });
    await page.waitForTimeout(6000);
    const saved = page.waitForEvent("download");
    await page.getByRole("link", { name: "Download" }).click();
    assert.equal(readFileSync(await (await saved).path()).subarray(1, 4).toString(), "PNG");
    const opened = context.waitForEvent("page");
    await page.getByRole("link", { name: "Full size" }).click();
    assert.equal((await page.request.get((await opened).url())).headers()["content-type"], "image/png");
    await page.waitForTimeout(6000);
    watched.problems.length = 0;
    await page.getByRole("button", { name: "Picture 2" }).click();
    await until("the second picture", () => page.getByRole("img", { name: /^Result 2 of 2/ }).evaluate((image) => image.naturalWidth > 0));
    await field(page, "button", "Edit again").click();
    await page.getByRole("img", { name: "Picture 1: the result" }).waitFor();
    await page.waitForTimeout(6000);
    await page.getByLabel("Number").fill("1");
    await field(page, "textbox", "Prompt").fill("and by moonlight");
    await field(page, "button", "Edit").click();
    await page.getByRole("img", { name: "Result: and by moonlight" }).waitFor({ timeout: 40_000 });
    await watched.close();
  });
});

/** Returns a function that limits what a page sends, in bytes a second; -1: not. */
async function uploadLimit(page) {
  const session = await page.context().newCDPSession(page);
  await session.send("Network.enable");
  return (rate) => session.send("Network.emulateNetworkConditions", { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput: rate });
}

test("a slow upload shows its time and size, is sent once, can be cancelled, and is not left by mistake", async () => {
  const watched = await playground({ ignore: [/ERR_/] });
  const { page } = watched;
  const noise = Buffer.from(await page.evaluate(() => {
    const canvas = Object.assign(document.createElement("canvas"), { width: 700, height: 700 });
    const pixels = new ImageData(700, 700);
    for (let at = 0; at < pixels.data.length; at += 1) pixels.data[at] = at % 4 === 3 ? 255 : Math.random() * 256;
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    return canvas.toDataURL().split(",")[1];
  }), "base64");
  const before = await bought();
  await choose(page, ["noise.png"], noise);
  const limit = await uploadLimit(page);
  await limit(40_000);
  let sent = 0;
  page.on("request", (request) => (sent += request.method() === "POST" ? 1 : 0));
  await field(page, "textbox", "Prompt").fill("a slow upload");
  for (let press = 0; press < 3; press += 1) await field(page, "button", "Edit").click();
  const card = page.getByRole("article");
  await card.getByText(/^Sending the request · [2-9] s$/).waitFor();
  assert.match(await card.innerText(), /1\.\d MB to send/);
  assert.equal(await card.locator('[aria-current="step"]').innerText(), "Sending");
  assert.deepEqual([sent, await card.count()], [1, 1]);
  const asked = page.waitForEvent("dialog");
  const left = page.reload({ timeout: 5000 }).catch(() => "stayed");
  const dialog = await asked;
  assert.equal(dialog.type(), "beforeunload");
  await dialog.dismiss();
  assert.equal(await left, "stayed");
  await field(card, "button", "Cancel").click();
  await page.getByText("Cancelled. What had arrived already goes on").waitFor();
  assert.equal(await card.count(), 0);
  await limit(-1);
  assert.equal(await bought(), before, "nothing was bought");
  await field(page, "button", "Edit").click();
  await page.getByRole("img", { name: "Result: a slow upload" }).waitFor({ timeout: 40_000 });
  assertClean(watched);
  await watched.close();
});

test("what a failed job may have cost is said once; its card goes, and the title with it", async () => {
  await withGateway("playground-failed", {}, async (own) => {
    await own.scenario({ life: { outcome: "failed_provider" } });
    const watched = await playground({ at: own, ignore: [/400/] });
    const { page } = watched;
    const card = page.getByRole("article");
    await field(page, "textbox", "Prompt").fill("a picture that is not made");
    await field(page, "button", "Generate").click();
    await card.getByText("No picture").waitFor({ timeout: 40_000 });
    assert.match(await card.innerText(), /may have cost money[\s\S]*It may have cost about \$0\.\d+\./);
    assert.match(await page.title(), /Failed/);
    await page.evaluate(() => document.dispatchEvent(new Event("visibilitychange")));
    assert.match(await page.title(), /^Playground/);
    await field(card, "button", "Dismiss").press("Enter");
    assert.equal(await focused(page), "prompt");
    await own.scenario({ life: { outcome: "failed_policy" } });
    await field(page, "textbox", "Prompt").fill("x".repeat(3000));
    await field(page, "button", "Generate").click();
    await card.getByText("No picture").waitFor({ timeout: 40_000 });
    assert.ok(((await card.innerText()).match(/nothing was bought/gi) ?? []).length <= 1, "it is not said twice");
    const names = await page.locator("[aria-label], [title], img[alt]").evaluateAll((all) => all.map((element) => element.ariaLabel ?? element.title ?? element.alt));
    assert.deepEqual(names.filter((name) => name.length > 200), [], "no name is as long as a prompt");
    await watched.close();
  });
});

test("a gateway that does not answer a key, and one that accepts it no more", async () => {
  const token = "an-administration-token-of-the-tests";
  await withGateway("playground-keys", { GATEWAY_ADMIN_TOKEN: token }, async (own) => {
    const watched = await openPage(browser, { ignore: [/Failed to load resource/, /ERR_/] });
    const { page } = watched;
    const keyField = page.getByLabel("API key");
    await page.goto(own.api);
    await page.getByText("This is a sandbox").waitFor();
    await own.stop();
    await keyField.fill(SANDBOX_KEY);
    await field(page, "button", "Use key").click();
    await page.getByText('The gateway does not answer. Press "Use key" to try again.').waitFor();
    assert.equal(await keyField.inputValue(), SANDBOX_KEY);
    await own.start();
    await field(page, "button", "Use key").click();
    await field(page, "textbox", "Prompt").waitFor();
    assertClean(watched);
    await watched.close();

    const administration = (method, route, body) => fetch(own.operator + route, {
      method, headers: { authorization: `Bearer ${token}`, "content-type": "application/json" }, body: body && JSON.stringify(body),
    });
    const made = await (await administration("POST", "/admin/keys", { name: "alice" })).json();
    const revoked = await playground({ at: own, key: made.key, speed: SLOW, ignore: [/401/] });
    await field(revoked.page, "textbox", "Prompt").fill("a key that is revoked meanwhile");
    await field(revoked.page, "button", "Generate").click();
    await beingMade(revoked.page);
    assert.equal((await administration("DELETE", `/admin/keys/${made.id}`)).status, 200);
    await revoked.page.getByRole("alert").filter({ hasText: "Incorrect API key" }).waitFor({ timeout: 60_000 });
    assert.equal(await revoked.page.getByText("No picture").count(), 0, "the job has not failed");
    assert.equal(await focused(revoked.page), "key");
    assertClean(revoked);
    await revoked.close();
  });
});
