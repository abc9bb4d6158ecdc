#!/usr/bin/env node
// A person signs out everywhere, in the browser they signed in with: on the account page, and
// where that page leads, at the provider.
//
//   leave.mjs ACCOUNT_URL [accounts]
//
// BARTIZAN_PROFILE  folder of the browser's profile
//
// With `accounts` the accounts at servers go as well. Prints one JSON line:
// {text, provider, providerEnded}.
import { installed } from "../lib/drive.mjs";

const { chromium } = installed("playwright-core");
const [url, accounts] = process.argv.slice(2);
const context = await chromium.launchPersistentContext(process.env.BARTIZAN_PROFILE, {
  executablePath: process.env.BARTIZAN_CHROMIUM || "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"],
  headless: true,
});
const answer = { text: null, provider: null, providerEnded: false };
try {
  const page = context.pages()[0] ?? (await context.newPage());
  page.setDefaultTimeout(30_000);
  await page.goto(url, { waitUntil: "load" });
  if (accounts) await page.locator('input[name="accounts"]').check();
  await page.locator('button[name="action"][value="everywhere"]').click();
  await page.waitForLoadState("load");
  answer.text = await page.locator("main, body").first().innerText();
  const out = page.locator('a[rel="noreferrer"]');
  if (await out.count()) {
    answer.provider = await out.first().getAttribute("href");
    // The browser goes there by itself, and nobody presses anything.
    await page.waitForURL((now) => String(now).startsWith(new URL(answer.provider).origin), { waitUntil: "load" });
    await page.waitForURL(/success/, { waitUntil: "load" });
    answer.providerEnded = /sign-?out success/i.test(await page.locator("body").innerText());
    answer.ended = (await page.locator("body").innerText()).slice(0, 500);
  }
} catch (error) {
  answer.error = String(error?.message ?? error).slice(0, 2000);
} finally {
  await context.close().catch(() => {});
}
console.log(JSON.stringify(answer));
