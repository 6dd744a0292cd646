// The playground and gallery in a browser, as a person uses them.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
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

/** Opens the playground with the sandbox's key, at a speed of the simulator. */
async function playground({ speed = FAST, ...options } = {}) {
  await gateway.scenario({ speed });
  const watched = await openPage(browser, options);
  await watched.page.goto(`${gateway.api}/#key=${SANDBOX_KEY}`);
  await field(watched.page, "textbox", "Prompt").waitFor();
  return watched;
}

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
  await page.reload();
  await field(page, "textbox", "Prompt").waitFor();
  await page.goto("about:blank");
  await page.goto(`${gateway.api}/#key=${SANDBOX_KEY}`);
  await field(page, "textbox", "Prompt").waitFor();
  assert.equal(new URL(page.url()).hash, "", "the key is removed from the address bar");
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
  const [command] = code.split(" \\\n  | jq");
  writeFileSync(path.join(gateway.folder, "disc.png"), picture);
  const answer = execFileSync("bash", ["-c", `${command} -D - -o /dev/null`], { cwd: gateway.folder, env: { ...process.env, GATEWAY_KEY: SANDBOX_KEY }, encoding: "utf8" });
  assert.match(answer, /^x-gateway-cache: hit/im, `${command}\n${answer}`);
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
  await field(page, "button", "Pull the plug").click();
  await page.getByText("Connection broken after").waitFor({ timeout: 90_000 });
  await shot(page, "plug-broken");
  const verdict = page.getByRole("status").filter({ hasText: "not spent twice" });
  await verdict.waitFor({ timeout: 60_000 });
  const text = await verdict.innerText();
  assert.match(text, /(joined|hit): (about )?\$0\.\d+ not spent twice/);
  assert.match(text, /x-gateway-cache: (joined|hit)/);
  assert.equal(await bought(), before + 1, "one picture was bought");
  await shot(page, "plug");
  await assertAccessible(page, "the plug");

  // With an edit that was done before, no connection can be broken in its middle.
  await gateway.scenario({ speed: FAST });
  await edit(page, "done before the plug is pulled");
  await page.getByRole("img", { name: "Result: done before the plug is pulled" }).waitFor({ timeout: 40_000 });
  const done = await bought();
  await field(page, "button", "Pull the plug").click();
  await page.getByText("Too late: the answer was already here").waitFor();
  await page.getByText(/^hit: .* not spent twice$/).waitFor();
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
