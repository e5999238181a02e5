// Visits the website: opens pages at the width of a desk and of a phone, light and dark, and prints what was found.
//
// stdin: {"url", "browser": path, "flags": [Chromium's], "pages": [paths], "lessons": [paths, played, too], "search": a word, "screenshots": folder or null}
// stdout: {"foreign": [addresses], "errors": [console's], "pages": {path: [sentences]}, "played": {path: players}, "hits": [titles]}

import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";
import { lookAtText } from "./look.mjs";
import { playAll } from "./players.mjs";

const WIDTHS = { desk: { width: 1280, height: 900 }, phone: { width: 390, height: 844 } };

const wish = JSON.parse(readFileSync(0, "utf8"));
const found = { foreign: [], errors: [], pages: {}, played: {}, hits: [] };

/** What does not fit, or does not load. */
const faultsOf = (page) =>
  page.evaluate(() => {
    const wide = document.documentElement.scrollWidth - window.innerWidth;
    const broken = [...document.images].filter((image) => image.complete && !image.naturalWidth);
    return [
      ...(wide > 0 ? [`the page is ${wide} pixels wider than its window`] : []),
      ...broken.map((image) => `the picture "${image.alt.slice(0, 40)}" does not load`),
    ];
  });

async function visit(context, path, where, lesson) {
  const page = await context.newPage();
  page.on("pageerror", (error) => found.errors.push(`${path}: ${error.message}`));
  await page.goto(wish.url + path);
  for (const theme of ["light", "dark"]) {
    await page.evaluate((theme) => (document.body.dataset.theme = theme), theme);
    const complaints = [...(await faultsOf(page)), ...(where === "desk" ? await lookAtText(page, "article *, .sidebar-tree *") : [])];
    (found.pages[path] ??= []).push(...complaints.map((sentence) => `${where}, ${theme}: ${sentence}`));
    if (wish.screenshots) await page.screenshot({ path: `${wish.screenshots}/${path.replaceAll("/", "-")}-${where}-${theme}.png` });
  }
  if (lesson && where === "desk") {
    const { played, complaints } = await playAll(page, "article");
    found.played[path] = played;
    found.pages[path].push(...complaints);
  }
  await page.close();
}

const browser = await chromium.launch({ executablePath: wish.browser, args: wish.flags });
try {
  for (const [where, viewport] of Object.entries(WIDTHS)) {
    const context = await browser.newContext({ viewport });
    context.on("request", (request) => {
      const address = new URL(request.url());
      if (/^(http|ws)/.test(address.protocol) && address.host !== new URL(wish.url).host) found.foreign.push(request.url());
    });
    for (const path of wish.pages) await visit(context, path, where, false);
    for (const path of wish.lessons) await visit(context, path, where, true);
    if (where === "desk") {
      const page = await context.newPage();
      await page.goto(`${wish.url}search.html?q=${wish.search}`);
      await page.waitForSelector("#search-results li a", { timeout: 15_000 }).catch(() => {}); // no hit is told by the test
      found.hits = await page.locator("#search-results li a").allTextContents();
      await page.close();
    }
    await context.close();
  }
  console.log(JSON.stringify(found));
} finally {
  await browser.close();
}
