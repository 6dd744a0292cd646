// The pages of the OpenAPI documents, of both listeners.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Gateway, assertAccessible, assertClean, assertFits, openPage, shot, startBrowser } from "./lib.mjs";

let gateway;
let browser;

before(async () => {
  gateway = await Gateway.start("docs");
  browser = await startBrowser();
});
after(async () => {
  await browser?.close();
  await gateway?.remove();
});

for (const listener of ["api", "operator"]) {
  for (const [name, options] of [["light", {}], ["dark", { scheme: "dark" }], ["phone", { width: 360, height: 700 }], ["no-script", { javaScriptEnabled: false }]]) {
    test(`${listener}: ${name}`, async () => {
      const watched = await openPage(browser, options);
      const { page } = watched;
      await page.goto(`${gateway[listener]}/docs`);
      const first = page.getByRole("navigation", { name: "Operations" }).getByRole("link").first();
      const operation = await first.textContent();
      await first.click();
      await page.getByRole("heading", { name: operation, level: 3, exact: true }).waitFor();
      if (name !== "no-script") {
        await assertAccessible(page, `the page of the ${listener}`);
        await assertFits(page, `the page of the ${listener}`);
      }
      await shot(page, `docs-${listener}-${name}`);
      assert.ok(watched.bytes < 150_000, `${watched.bytes} bytes`);
      assertClean(watched);
      await watched.close();
    });
  }
}
