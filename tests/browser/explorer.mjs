// Explorers, used by keyboard alone: Tab into them, type, arrows, Enter. Something has to change, and to be said.

const TABS = 40; // Tab presses from the cell into the explorer, or through it, at most
const PATIENCE = 10_000; // ms until the kernel has answered

/** What an explorer shows now: the line that is read out, its picture, its player; in a state that can be compared. */
const state = (root) =>
  root.evaluate((element) => ({
    said: element.querySelector("[aria-live]")?.textContent.trim() ?? "",
    picture: element.querySelector("img")?.src ?? "",
    sound: [...element.querySelectorAll("audio, video")].map((player) => player.src).join(),
  }));

const changed = (before, now) => Object.keys(before).filter((part) => before[part] !== now[part]);

/** The parts that have changed since `before`, once something has; empty where nothing does. */
async function changes(root, before, page) {
  for (const until = Date.now() + PATIENCE; Date.now() < until; await page.waitForTimeout(50)) {
    if (changed(before, await state(root)).length === 0) continue;
    await page.waitForTimeout(150); // its other parts arrive just after
    return changed(before, await state(root));
  }
  return [];
}

/** Role, name and kind of what has the focus, if it lies in the explorer; else null. */
async function focused(root, page) {
  const inside = await root.evaluate((element) => element.contains(document.activeElement) && document.activeElement !== element);
  if (!inside) return null;
  const kind = await page.evaluate(() => document.activeElement.type ?? document.activeElement.localName);
  const session = await page.context().newCDPSession(page);
  const { result } = await session.send("Runtime.evaluate", { expression: "document.activeElement" });
  const { nodes } = await session.send("Accessibility.getPartialAXTree", { objectId: result.objectId, fetchRelatives: false });
  await session.detach();
  return { kind, role: nodes[0].role?.value, name: (nodes[0].name?.value ?? "").trim() };
}

/** Presses what a person would press on a control; buttons and fields that are at their limit are pressed the other way. */
const PRESS = {
  async number(page) {
    const wanted = await page.evaluate(() => {
      const { value, min, max, step } = document.activeElement;
      const by = Number(step) || 1;
      return max === "" || Number(value) + by <= Number(max) ? Number(value) + by : Number(value) - by;
    });
    await page.keyboard.press("Control+a");
    await page.keyboard.type(String(wanted));
    await page.keyboard.press("Enter");
  },
  async "select-one"(page) {
    const last = await page.evaluate(() => document.activeElement.selectedIndex === document.activeElement.options.length - 1);
    await page.keyboard.press(last ? "ArrowUp" : "ArrowDown");
  },
  async button(page) {
    await page.keyboard.press("Enter");
  },
  async submit(page) {
    await page.keyboard.press("Enter");
  },
  async checkbox(page) {
    await page.keyboard.press("Space");
  },
  async range(page) {
    await page.keyboard.press("ArrowRight");
  },
  async text(page) {
    await page.keyboard.press("End");
    await page.keyboard.type("1");
    await page.keyboard.press("Enter");
  },
};

/** Goes through one explorer; returns complaints and the controls with what each changed. */
async function explore(page, root, cell) {
  const complaints = [];
  await page.evaluate((index) => {
    const { content } = window.panel;
    content.activeCellIndex = index;
    content.mode = "command";
    content.activeCell.node.scrollIntoView();
    content.node.focus();
    content.activeCell.node.focus();
  }, cell);
  if (!(await state(root)).said) complaints.push(`cell ${cell}: the explorer has no aria-live line`);

  const controls = new Map(); // name -> the parts that it has changed
  let [tabs, inside] = [0, false];
  for (; tabs < 2 * TABS; tabs += 1) {
    await page.keyboard.press("Tab");
    const control = await focused(root, page);
    if (!control && inside) break;
    if (!control) {
      if (tabs > TABS) break;
      continue;
    }
    inside = true;
    if (control.kind === "audio" || control.kind === "video") continue;
    const name = control.name || `the ${control.role} without a name`;
    if (!control.name) complaints.push(`cell ${cell}: a ${control.role} has no accessible name`);
    if (!PRESS[control.kind]) {
      complaints.push(`cell ${cell}: ${name} is a ${control.kind}, which these tests cannot use yet`);
      continue;
    }
    const before = await state(root);
    await PRESS[control.kind](page);
    controls.set(name, await changes(root, before, page));
    const still = await focused(root, page);
    if (still?.name !== control.name) complaints.push(`cell ${cell}: the focus leaves ${name} when it is used`);
  }
  return { complaints, controls: Object.fromEntries(controls), inside, tabs };
}

export async function exploreAll(page) {
  const complaints = [];
  const explorers = [];
  const roots = await page.locator(".jp-OutputArea-output .jupyter-widgets.widget-vbox:not(.jupyter-widgets .jupyter-widgets)").all();
  for (const root of roots) {
    const cell = await root.evaluate((element) => window.panel.content.widgets.findIndex((cell) => cell.node.contains(element)));
    const found = await explore(page, root, cell);
    explorers.push({ cell, ...found });
    complaints.push(...found.complaints);
  }
  return { complaints, explorers };
}
