// Explorers, used by keyboard alone: Tab into them, type, arrows, Enter. Something has to change, and to be said.

const TABS = 60; // Tab presses from the cell into the explorer, or through it, at most
const PATIENCE = 5_000; // ms until the kernel has answered

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
  const [kind, chosen] = await page.evaluate(() => {
    const { type, role, localName, classList } = document.activeElement;
    return [type || role || localName, classList.contains("mod-active")];
  });
  const session = await page.context().newCDPSession(page);
  const { result } = await session.send("Runtime.evaluate", { expression: "document.activeElement" });
  const { nodes } = await session.send("Accessibility.getPartialAXTree", { objectId: result.objectId, fetchRelatives: false });
  await session.detach();
  return { kind, chosen, role: nodes[0].role?.value, name: (nodes[0].name?.value ?? "").trim() };
}

/** What a person would press, by kind of control; fields and lists that are at their end go the other way. */
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
  async slider(page) {
    await page.keyboard.press("ArrowRight");
  },
  async text(page) {
    await page.keyboard.press("End");
    await page.keyboard.type("1");
    await page.keyboard.press("Enter");
  },
};

/** Goes through one explorer; returns complaints and, for each control by name, what it has changed. */
async function explore(page, root, cell) {
  const complaints = [];
  const complain = (sentence) => complaints.push(`cell ${cell}: ${sentence}`);
  await page.evaluate((index) => {
    const { content } = window.panel;
    content.activeCellIndex = index;
    content.mode = "command";
    content.activeCell.node.scrollIntoView();
    content.activeCell.node.focus();
  }, cell);
  if (!(await state(root)).said) complain("the explorer has no aria-live line that says what it shows");

  const controls = {};
  let inside = false;
  for (let tabs = 0; tabs < TABS; tabs += 1) {
    await page.keyboard.press("Tab");
    const control = await focused(root, page);
    if (!control && inside) break; // out at its end
    if (!control || ["audio", "video"].includes(control.kind)) continue;
    inside = true;
    const name = control.name || `the ${control.role} without a name`;
    if (!control.name) complain(`a ${control.role} has no accessible name`);
    if (control.chosen) continue; // one of several, and chosen already: to press it does nothing
    if (!PRESS[control.kind]) {
      complain(`${name} is a ${control.kind}, which these tests do not know how to use`);
      continue;
    }
    const before = await state(root);
    await PRESS[control.kind](page);
    controls[name] = [...new Set([...(controls[name] ?? []), ...(await changes(root, before, page))])];
    if (controls[name].length === 0) complain(`"${name}" does nothing when it is used by keyboard`);
    if ((await focused(root, page))?.name !== control.name) complain(`the focus leaves "${name}" when it is used`);
  }
  if (Object.keys(controls).length === 0) complain("Tab leads to no control of the explorer");
  const all = new Set(Object.values(controls).flat());
  for (const part of ["said", "picture"]) if (!all.has(part)) complain(`no key changes what is ${part === "said" ? "read out" : "seen"}`);
  return { complaints, controls };
}

export async function exploreAll(page) {
  const complaints = [];
  const explorers = {}; // number of its cell -> its controls
  const cells = () => page.evaluate(() => window.panel.content.widgets.length);
  const before = await cells();
  const roots = await page.locator(".jp-OutputArea-output .jupyter-widgets.widget-vbox:not(.jupyter-widgets .jupyter-widgets)").all();
  for (const root of roots) {
    const cell = await root.evaluate((element) => window.panel.content.widgets.findIndex((cell) => cell.node.contains(element)));
    const found = await explore(page, root, cell);
    explorers[cell] = found.controls;
    complaints.push(...found.complaints);
  }
  if ((await cells()) !== before) complaints.push("keys meant for an explorer have added or deleted cells");
  return { complaints, explorers };
}
