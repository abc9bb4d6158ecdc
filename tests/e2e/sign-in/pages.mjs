#!/usr/bin/env node
// Looks at pages the way people do: light and dark, on a phone and on a desk, without scripts,
// with the keyboard only; and has axe-core judge them (WCAG 2.1, A and AA).
//
//   pages.mjs SCENES FOLDER
//
// SCENES is a JSON file {origin, assets: {path: answer}, scenes: [{name, path, answer}]}, an
// answer is {status, headers: {name: value}, body}. Nothing is asked of a network: whatever a
// page wants beyond its own origin is written down and refused. FOLDER gets one picture per
// scene and look. Prints one JSON line {scenes, looks, problems: [{scene, look, what, ...}]}.
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { installed } from "../lib/drive.mjs";

const { chromium } = installed("playwright-core");
const axe = readFileSync(installed.resolve("axe-core/axe.min.js"), "utf8");
const [file, folder] = process.argv.slice(2);
const { origin, assets, scenes } = JSON.parse(readFileSync(file, "utf8"));
const problems = [];
mkdirSync(folder, { recursive: true });

const sizes = { phone: { width: 390, height: 844 }, desktop: { width: 1280, height: 800 } };
const looks = Object.keys(sizes).flatMap((size) => ["light", "dark"].map((scheme) => ({ size, scheme, name: `${size}-${scheme}` })));

/** A page that shows a scene; `foreign` collects what it wants of others. */
async function show(context, scene) {
  const page = await context.newPage();
  page.setDefaultTimeout(60_000);
  const foreign = [];
  // What the policy of the page refuses is told on the console; that the page itself is a refusal is not news.
  const own = `with a status of ${scene.answer.status} `;
  page.on("console", (message) => message.type() === "error" && !message.text().includes(own) && foreign.push(message.text()));
  await page.route("**/*", (route) => {
    const url = new URL(route.request().url());
    const answer = url.href === origin + scene.path ? scene.answer : url.origin === origin ? assets[url.pathname] : undefined;
    if (answer) {
      // A page that only leads on would be gone before anybody looked.
      return route.fulfill({ ...answer, body: answer.body.replace(/<meta http-equiv="refresh"[^>]*>/, "") });
    }
    foreign.push(url.href);
    return route.abort();
  });
  await page.goto(origin + scene.path, { waitUntil: "load" });
  return { page, foreign };
}

/** What can be used, as seen by the page itself; marks each with its number. */
function controls() {
  const shown = (element) => element.checkVisibility({ visibilityProperty: true });
  const all = [...document.querySelectorAll("a[href], button, input:not([type=hidden]), textarea, select, summary")];
  const usable = all.filter((element) => shown(element) && !element.disabled);
  usable.forEach((element, n) => element.setAttribute("data-n", n));
  return usable.map((element) => `${element.localName} ${element.name ?? ""} ${element.textContent.trim().slice(0, 40)}`);
}

/** The focused element: its number, and whether one sees that it is focused. */
function focused() {
  const element = document.activeElement;
  const style = getComputedStyle(element);
  const box = element.getBoundingClientRect();
  const visible = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
  return { n: Number(element.getAttribute("data-n") ?? -1), visible, inside: box.top < innerHeight && box.bottom > 0 };
}

/** Things that are wider than the window, or smaller than a finger (WCAG 2.2, 24 px). */
function measures() {
  const wide = document.documentElement.scrollWidth > document.documentElement.clientWidth;
  const cut = [...document.querySelectorAll("body *")].filter((element) => {
    const box = element.getBoundingClientRect();
    return box.width > 0 && box.right > innerWidth + 1;
  });
  const small = [...document.querySelectorAll("button, .button, summary, input[type=checkbox]")].filter((element) => {
    const box = element.getBoundingClientRect();
    return box.height > 0 && (box.height < 24 || box.width < 24);
  });
  return { wide, cut: cut.map((element) => element.outerHTML.slice(0, 120)), small: small.map((element) => element.outerHTML.slice(0, 120)) };
}

async function keyboard(page) {
  const names = await page.evaluate(controls);
  const missing = new Set(names.keys());
  const unseen = [];
  for (let step = 0; step < names.length + 4; step += 1) {
    await page.keyboard.press("Tab");
    const now = await page.evaluate(focused);
    if (now.n >= 0 && (!now.visible || !now.inside)) unseen.push(names[now.n]);
    missing.delete(now.n);
  }
  return { missing: [...missing].map((n) => names[n]), unseen };
}

const browser = await chromium.launch({
  executablePath: process.env.BARTIZAN_CHROMIUM || "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"],
});
try {
  for (const look of looks) {
    const how = { viewport: sizes[look.size], colorScheme: look.scheme, reducedMotion: "reduce" };
    const plain = await browser.newContext({ ...how, javaScriptEnabled: false });
    const scripted = await browser.newContext(how);
    for (const scene of scenes) {
      const say = (what, more) => problems.push({ scene: scene.name, look: look.name, what, ...more });
      const bare = await show(plain, scene);
      await bare.page.screenshot({ path: join(folder, `${scene.name}.${look.name}.png`), fullPage: true });
      const size = await bare.page.evaluate(measures);
      if (size.wide || size.cut.length > 0) say("wider than the window", { cut: size.cut });
      if (size.small.length > 0) say("too small to hit", { small: size.small });
      // Each of these twice, together for both sizes and both schemes.
      const closer = (look.size === "phone") === (look.scheme === "light");
      const keys = closer ? await keyboard(bare.page) : { missing: [], unseen: [] };
      if (keys.missing.length > 0) say("not reached with the keyboard", { missing: keys.missing });
      if (keys.unseen.length > 0) say("focus is not seen", { unseen: keys.unseen });
      if (bare.foreign.length > 0) say("asks somebody else", { foreign: bare.foreign });
      await bare.page.close();
      if (closer) {
        const full = await show(scripted, scene);
        await full.page.evaluate(`(() => { ${axe}; })()`);
        const only = { type: "tag", values: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"] };
        const judged = await full.page.evaluate((runOnly) => globalThis.axe.run(document, { runOnly }), only);
        const short = ({ id, help, nodes }) => ({ id, help, nodes: nodes.map((node) => `${node.html.slice(0, 160)} ${node.any[0]?.message ?? ""}`) });
        if (judged.passes.length < 5) say("axe-core judged nothing");
        if (judged.violations.length > 0) say("axe-core", { violations: judged.violations.map(short) });
        if (full.foreign.length > 0) say("asks somebody else, with scripts", { foreign: full.foreign });
        await full.page.close();
      }
    }
    await plain.close();
    await scripted.close();
  }
} finally {
  await browser.close().catch(() => {});
}
console.log(JSON.stringify({ scenes: scenes.length, looks: looks.map((look) => look.name), problems }));
