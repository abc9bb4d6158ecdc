#!/usr/bin/env node
// A person in a real browser (chromium): opens the given address, signs in at the provider,
// reads and allows what bartizan asks, and ends where the client waits.
//
//   browser.mjs URL
//
// BARTIZAN_PERSON   who signs in at the provider (default ana)
// BARTIZAN_NAMES    JSON object: origin to the name that is used there instead
// BARTIZAN_PROFILE  folder of the browser's profile: the same folder is the same person's browser
// BARTIZAN_DECIDE   `allow` (default) or `deny` on the consent page
// BARTIZAN_PURPOSE  what the person says an access is for (default: an incident)
// BARTIZAN_PRESS    selector of one more button, which is pressed once
// BARTIZAN_SHOTS    folder for a picture of each page of bartizan
// BARTIZAN_TRACE    file that gets one JSON line: {clicks, pages: [{url, title, heading}], ended, session},
//                   `session` is the value of bartizan's cookie
//
// Clients start it through open.mjs, the system's browser (`BROWSER`).
import { appendFileSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { installed } from "../lib/drive.mjs";

const { chromium } = installed("playwright-core");
const url = process.argv[2];
const person = process.env.BARTIZAN_PERSON || "ana";
const names = JSON.parse(process.env.BARTIZAN_NAMES || "{}");
const decide = process.env.BARTIZAN_DECIDE || "allow";
const purpose = process.env.BARTIZAN_PURPOSE || "Looking into incident 4711";
const shots = process.env.BARTIZAN_SHOTS;
const own = process.env.BARTIZAN_PROFILE;
const profile = own || mkdtempSync(join(tmpdir(), "browser-"));
const trace = { clicks: 0, pages: [], ended: null };

// One browser at a time: what a client opens waits until the person has closed the last one.
const lock = `${profile}.lock`;
for (let waited = 0; waited < 600; waited += 1) {
  try {
    mkdirSync(lock);
    break;
  } catch {
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
const context = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.BARTIZAN_CHROMIUM || "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"],
  headless: true,
  viewport: { width: 1100, height: 820 },
});
try {
  await new Promise((resolve) => setTimeout(resolve, Number(process.env.BARTIZAN_AFTER_MS ?? 0)));
  const page = context.pages()[0] ?? (await context.newPage());
  page.setDefaultTimeout(30_000);
  await page.goto(url, { waitUntil: "load" });
  let press = process.env.BARTIZAN_PRESS;
  for (let step = 0; step < 24; step += 1) {
    if ((await page.locator('meta[http-equiv="refresh"]').count()) > 0) {
      // A page that only leads on.
      const here = page.url();
      await page.waitForURL((now) => String(now) !== here, { waitUntil: "load" }).catch(() => {});
      continue;
    }
    const seen = { url: page.url(), title: await page.title(), heading: await page.locator("h1").first().textContent({ timeout: 500 }).catch(() => null) };
    trace.pages.push(seen);
    const click = async (target) => {
      trace.clicks += 1;
      // The answer may be a redirect to a client that closes its listener at once.
      await Promise.all([page.waitForLoadState("load").catch(() => {}), target.click({ noWaitAfter: false })]);
      await page.waitForLoadState("load").catch(() => {});
      await page.waitForTimeout(150);
    };
    const name = page.locator('input[name="login"]');
    if (await name.count()) {
      // The provider's page.
      await name.fill(names[new URL(page.url()).origin] ?? person);
      await page.locator('input[name="password"]').fill("anything");
      await click(page.locator('button[type="submit"]').first());
      continue;
    }
    if ((await page.locator('input[name="prompt"][value="consent"]').count()) > 0) {
      await click(page.locator('button[type="submit"]').first());
      continue;
    }
    if (shots) {
      mkdirSync(shots, { recursive: true });
      await page.screenshot({ path: join(shots, `${String(step).padStart(2, "0")}.png`), fullPage: true });
    }
    if (press && (await page.locator(press).count()) > 0) {
      const target = page.locator(press).first();
      press = undefined;
      await click(target);
      continue;
    }
    const more = page.locator('form[action*="/step-up/"]');
    if (await more.count()) {
      // More is wanted of a running grant: a purpose, or a second factor at the provider.
      const text = more.locator('textarea[name="purpose"]');
      if (await text.count()) {
        // More than the page takes is what somebody sends who changed the page.
        if (purpose.length > 500) await text.evaluate((area) => area.removeAttribute("maxlength"));
        await text.fill(purpose);
      }
      await click(more.locator("button.primary"));
      continue;
    }
    const mine = page.locator(`button[name="decision"][value="${decide}"], button[name="user"][value="${person}"], button[name="connect"][value="yes"]`);
    if (await mine.count()) {
      await click(mine.first());
      continue;
    }
    trace.ended = page.url();
    trace.session = (await context.cookies()).find(({ name }) => name === "bartizan")?.value;
    trace.text = (await page.locator("body").innerText().catch(() => "")).slice(0, 2000);
    break;
  }
} catch (error) {
  trace.error = String(error?.message ?? error).slice(0, 2000);
  process.exitCode = 1;
} finally {
  await context.close().catch(() => {});
  rmSync(lock, { recursive: true, force: true });
  if (!own) rmSync(profile, { recursive: true, force: true });
  if (process.env.BARTIZAN_TRACE) appendFileSync(process.env.BARTIZAN_TRACE, `${JSON.stringify(trace)}\n`);
}
