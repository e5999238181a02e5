// Visits notebooks: opens each in JupyterLab, takes the steps asked for, and prints what was found.
//
// stdin: {"url", "token", "browser": path, "flags": [Chromium's], "patience": seconds, "screenshots": folder or null,
//         "visits": [{"notebook": path, "minutes": that Run All may take, "steps": ["unrun", "themes", "run", "keyboard"]}, …]}
// stdout: {path: {"trusted": cells, "foreign": [addresses], step: {"complaints": [sentences], …facts}, …}, …}
//
// Steps are taken in the order given; "keyboard" needs "run" before it.

import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { chromium } from "playwright-core";
import { exploreAll } from "./explorer.mjs";
import { openNotebook, runAll, setTheme, shutDown } from "./lab.mjs";
import { look, lookAtText } from "./look.mjs";
import { playAll } from "./players.mjs";
import { takeScreenshots } from "./screenshots.mjs";

const wish = JSON.parse(readFileSync(0, "utf8"));

const STEPS = {
  async unrun(page) {
    const seen = await look(page);
    const players = await playAll(page);
    return { ...seen, complaints: [...seen.complaints, ...players.complaints], played: players.played };
  },
  async themes(page, name) {
    const complaints = [];
    for (const theme of ["dark", "light"]) {
      await setTheme(page, theme);
      complaints.push(...(await lookAtText(page)).map((sentence) => `${theme} theme: ${sentence}`));
      if (wish.screenshots) await takeScreenshots(page, wish.screenshots, `${name}-${theme}`);
    }
    return { complaints };
  },
  async run(page, name, minutes) {
    const complaints = await runAll(page, wish.patience + 60 * minutes);
    const seen = await look(page);
    const players = await playAll(page);
    if (wish.screenshots) await takeScreenshots(page, wish.screenshots, `${name}-run`);
    return { ...seen, complaints: [...complaints, ...seen.complaints, ...players.complaints], played: players.played };
  },
  async keyboard(page) {
    return exploreAll(page);
  },
};

async function visit(context, { notebook, minutes, steps }) {
  const page = await context.newPage();
  page.setDefaultTimeout(1000 * wish.patience);
  const addresses = new Set();
  const ask = (request) => addresses.add(request.url());
  page.on("websocket", ask);
  context.on("request", ask); // of other windows, too

  const found = await openNotebook(page, wish, notebook);
  for (const step of steps) {
    const began = Date.now();
    found[step] = await STEPS[step](page, basename(notebook, ".ipynb"), minutes);
    found[step].seconds = (Date.now() - began) / 1000;
  }
  await shutDown(page);
  await page.close();
  context.off("request", ask);
  const own = new URL(wish.url).host;
  return { ...found, foreign: [...addresses].filter((text) => /^(https?|wss?|ftp):/.test(text) && new URL(text).host !== own) };
}

const browser = await chromium.launch({ executablePath: wish.browser, args: wish.flags });
try {
  const context = await browser.newContext({ viewport: { width: 1280, height: 1600 } });
  const found = {};
  for (const each of wish.visits) found[each.notebook] = await visit(context, each);
  console.log(JSON.stringify(found));
} finally {
  await browser.close();
}
