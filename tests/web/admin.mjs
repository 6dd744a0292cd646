// The page of the administration, in a browser: login, keys from their making to their end, accounts, audit; keyboard, phone, axe.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Gateway, assertAccessible, assertClean, assertFits, openPage, shot, startBrowser, until } from "./lib.mjs";

const TOKEN = "admin-0123456789abcdef0123456789";
// What the browser itself says about an answer that the test asks for.
const REFUSED = [/Failed to load resource: the server responded with a status of (400|401|409|429)/];

let gateway;
let browser;
before(async () => {
  gateway = await Gateway.start("admin", { env: { GATEWAY_ADMIN_TOKEN: TOKEN } });
  browser = await startBrowser();
});
after(async () => {
  await browser?.close();
  await gateway?.remove();
});

async function openAdmin(options = {}) {
  const watched = await openPage(browser, { ignore: REFUSED, ...options });
  await watched.page.goto(`${gateway.operator}/admin`);
  return watched;
}

async function logIn(page) {
  await page.getByLabel("Admin token").fill(TOKEN);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByRole("heading", { name: "Client keys" }).waitFor();
}

const keyRow = (page, name) => page.getByRole("region", { name: "Client keys" }).getByRole("row", { name });
const accountRow = (page) => page.getByRole("region", { name: "Accounts at GPTProto" }).getByRole("row", { name: /default/ });

const status = async (key) => (await gateway.call("/v1/models", { headers: { authorization: `Bearer ${key}` } })).status;

async function makeKey(page, name, fields = {}) {
  const form = page.getByRole("region", { name: "New key" });
  await form.getByLabel("Client name").fill(name);
  for (const [label, value] of Object.entries(fields)) await form.getByLabel(label).fill(value);
  await form.getByRole("button", { name: "Create key" }).click();
  return page.locator("#new-key").textContent();
}

test("a wrong token is refused, the right one logs in, and the page is small", async () => {
  const watched = await openAdmin();
  const { page } = watched;
  await assertAccessible(page, "login");
  await page.getByLabel("Admin token").fill("not-the-token-not-the-token");
  await page.getByRole("button", { name: "Log in" }).click();
  assert.match(await page.getByRole("alert").textContent(), /wrong/);
  await assertAccessible(page, "refused login");
  await logIn(page);
  await shot(page, "admin");
  assert.ok(watched.bytes < 150_000, `${watched.bytes} bytes`);
  assertClean(watched);
  await watched.close();
});

test("a key is made, copied, used, changed, rotated and revoked", async () => {
  const watched = await openAdmin({ permissions: ["clipboard-read", "clipboard-write"] });
  const { page } = watched;
  await logIn(page);
  const key = await makeKey(page, "carol", { "US dollars per day": "2", "Ends (a date, or 30d)": "30d" });
  assert.equal(await status(key), 200);
  await page.getByRole("button", { name: "Copy key" }).click();
  await page.getByText("Copied").waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), key);
  await shot(page, "admin-new-key");
  await assertAccessible(page, "a new key");
  await page.goto(`${gateway.operator}/admin`);
  assert.ok(!(await page.content()).includes(key), "shown once");

  const row = keyRow(page, /carol/);
  assert.match(await row.textContent(), /\$2 a day/);
  await row.locator("summary", { hasText: "Change" }).click();
  await row.getByLabel("US dollars per day").fill("3");
  await row.getByRole("button", { name: "Save" }).click();
  assert.match(await row.textContent(), /\$3 a day/);
  await row.locator("summary", { hasText: "Rotate" }).click();
  await row.getByRole("button", { name: "New key" }).click();
  const rotated = await page.locator("#new-key").textContent();
  assert.equal(await status(rotated), 200);
  assert.equal(await status(key), 200, "in its grace");
  const old = keyRow(page, /carol.*rotated/);
  await old.locator("summary", { hasText: "Revoke" }).click();
  await assertAccessible(page, "an open form");
  await old.getByRole("button", { name: "Revoke key" }).click();
  await page.getByRole("status").getByText("refused from now on").waitFor();
  assert.equal(await status(key), 401);
  assert.equal(await status(rotated), 200);
  assert.match(await page.getByRole("region", { name: "Audit" }).textContent(), /key\.revoked.*key\.rotated.*key\.changed.*key\.created/s);
  await shot(page, "admin-keys");
  assertClean(watched);
  await watched.close();
});

test("accounts are paused and resumed, and the logout ends the session", async () => {
  const watched = await openAdmin();
  const { page } = watched;
  await logIn(page);
  await page.getByRole("button", { name: "Pause default" }).click();
  assert.match(await accountRow(page).textContent(), /paused/);
  await assertAccessible(page, "a paused account");
  await page.getByRole("button", { name: "Resume default" }).click();
  assert.match(await accountRow(page).textContent(), /in use/);
  await page.getByRole("button", { name: "Log out" }).click();
  await page.getByLabel("Admin token").waitFor();
  await page.goBack();
  await page.reload();
  await page.getByLabel("Admin token").waitFor();
  assertClean(watched);
  await watched.close();
});

test("everything can be done by keyboard alone, and without a script", async () => {
  for (const javaScriptEnabled of [true, false]) {
    const watched = await openAdmin({ javaScriptEnabled });
    const { page } = watched;
    const name = `keys-${javaScriptEnabled}`;
    const hasFocus = (target) => target.evaluate((element) => element === document.activeElement);
    await until("the field has the focus", () => hasFocus(page.getByLabel("Admin token")));
    await page.keyboard.type(TOKEN);
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "Client keys" }).waitFor({ timeout: 10_000 }).catch(async (error) => {
      throw new Error(`${await page.locator("main").innerText()} (script: ${javaScriptEnabled})`, { cause: error });
    });
    const tabTo = async (target) => {
      for (let presses = 0; presses < 80; presses += 1) {
        await page.keyboard.press("Tab");
        if (await hasFocus(target)) return;
      }
      assert.fail("the keyboard does not reach it");
    };
    await tabTo(page.getByLabel("Client name"));
    await page.keyboard.type(name);
    await page.keyboard.press("Enter");
    const key = await page.locator("#new-key").textContent();
    assert.equal(await status(key), 200);
    const row = keyRow(page, new RegExp(name));
    await tabTo(row.locator("summary").nth(2));
    await page.keyboard.press("Enter");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await until("it is revoked", async () => (await status(key)) === 401);
    assertClean(watched);
    await watched.close();
  }
});

test("phone width, dark and light, names of other clients: nothing sticks out, axe finds nothing", async () => {
  for (const scheme of ["light", "dark"]) {
    const watched = await openAdmin({ scheme, width: 360, height: 740 });
    const { page } = watched;
    await assertFits(page, `login, ${scheme}`);
    await assertAccessible(page, `login, ${scheme}`);
    await logIn(page);
    const form = page.getByRole("region", { name: "New key" });
    await form.getByLabel("Client name").evaluate((field) => field.removeAttribute("pattern"));
    await form.getByLabel("Client name").fill("<img src=x onerror=alert(1)>");
    await form.getByRole("button", { name: "Create key" }).click();
    assert.match(await page.getByRole("alert").textContent(), /name is not valid/);
    await assertFits(page, scheme);
    await assertAccessible(page, scheme);
    await shot(page, `admin-phone-${scheme}`);
    assertClean(watched);
    await watched.close();
  }
});
