// Pictures of a whole notebook for a person to look at, a page at a time.

import { mkdirSync } from "node:fs";
import { join } from "node:path";

/** Writes folder/name-00.png, … */
export async function takeScreenshots(page, folder, name) {
  mkdirSync(folder, { recursive: true });
  const panel = page.locator(".jp-NotebookPanel:visible");
  const { height, visible } = await page.evaluate(() => {
    const scroller = document.querySelector(".jp-NotebookPanel-notebook .jp-WindowedPanel-outer");
    return { height: scroller.scrollHeight, visible: scroller.clientHeight };
  });
  const step = visible - 60;
  for (let part = 0; part * step < height; part += 1) {
    await page.evaluate((top) => (document.querySelector(".jp-NotebookPanel-notebook .jp-WindowedPanel-outer").scrollTop = top), part * step);
    await page.waitForTimeout(100);
    await panel.screenshot({ path: join(folder, `${name}-${String(part).padStart(2, "0")}.png`) });
  }
}
