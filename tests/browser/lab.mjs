// JupyterLab itself: a notebook opened, its theme, Run All. The server was started with --expose-app-in-browser.

/** Opens a notebook in a workspace of its own, and waits until all of it is laid out. In the page, window.panel is its panel. */
export async function openNotebook(page, { url, token }, notebook) {
  const began = Date.now();
  await page.goto(`${url}lab/workspaces/visit-${began}/tree/${notebook}?token=${token}`);
  await page.waitForFunction((path) => {
    window.panel = [...(window.jupyterapp?.shell.widgets("main") ?? [])].find((widget) => widget.context?.path === path);
    return window.panel?.context.isReady && window.panel.isRevealed;
  }, notebook);
  await laidOut(page);
  const trusted = await page.evaluate(() => {
    const cells = window.panel.content.widgets;
    return cells.filter((cell) => cell.model.type === "code" && cell.model.outputs.length > 0 && cell.model.trusted).length;
  });
  return { trusted, opened: (Date.now() - began) / 1000 };
}

/** Waits until every output stands on the page, and every picture has loaded or failed. */
export async function laidOut(page) {
  await page.waitForFunction(() => {
    const cells = window.panel.content.widgets;
    const ready = (cell) =>
      cell.model.type === "code"
        ? cell.outputArea.node.querySelectorAll(":scope > .jp-OutputArea-child").length >= cell.model.outputs.length
        : cell.model.type !== "markdown" || cell.node.querySelector(".jp-RenderedMarkdown")?.childElementCount > 0;
    return cells.every(ready) && [...document.querySelectorAll(".jp-Notebook img")].every((image) => image.complete);
  });
}

/** theme: "light" or "dark". */
export async function setTheme(page, theme) {
  const name = `JupyterLab ${theme === "dark" ? "Dark" : "Light"}`;
  await page.evaluate((theme) => window.jupyterapp.commands.execute("apputils:change-theme", { theme }), name);
  await page.waitForFunction((light) => document.body.dataset.jpThemeLight === light, String(theme === "light"));
  await page.waitForTimeout(300); // colours fade over
}

/** In the page: Run All has ended, and every code cell was run, or one failed, after which none is. */
function everyCellHasEnded() {
  const cells = window.panel.content.widgets.map((cell) => cell.model).filter((model) => model.type === "code");
  const failed = (model) =>
    !(model.getMetadata("tags") ?? []).includes("raises-exception") &&
    model.outputs.toJSON().some((output) => output.output_type === "error");
  const wasRun = (model) => model.executionCount !== null || !model.sharedModel.getSource().trim();
  return window.runAllEnded && (cells.some(failed) || cells.every(wasRun));
}

/** In the page: each widget among the outputs stands there, or the words that it cannot be shown. */
function everyWidgetCameOrFailed() {
  const mime = "application/vnd.jupyter.widget-view+json";
  return window.panel.content.widgets.every(
    (cell) =>
      cell.model.type !== "code" ||
      !cell.model.outputs.toJSON().some((output) => output.data && mime in output.data) ||
      cell.outputArea.node.querySelector(".jupyter-widgets") ||
      /Error displaying widget|model not found/.test(cell.outputArea.node.textContent),
  );
}

/** Does what the menu's Run All does; returns complaints: cells that failed, or that were not run in time. */
export async function runAll(page, patience) {
  await page.evaluate(async () => {
    await window.panel.sessionContext.ready;
    window.runAllEnded = false;
    window.jupyterapp.commands.execute("notebook:run-all-cells").finally(() => (window.runAllEnded = true));
  });
  // Run All's promise ends at the first error, be it a wanted one, after which the other cells are still run.
  const inTime = await page
    .waitForFunction(everyCellHasEnded, null, { timeout: 1000 * patience, polling: 200 })
    .then(() => true)
    .catch((error) => {
      if (error.name !== "TimeoutError") throw error;
      return false;
    });
  const complaints = await page.evaluate(() => {
    const found = [];
    window.panel.content.widgets.forEach((cell, index) => {
      if (cell.model.type !== "code" || !cell.model.sharedModel.getSource().trim()) return;
      const wanted = (cell.model.getMetadata("tags") ?? []).includes("raises-exception");
      const outputs = cell.model.outputs.toJSON();
      const error = outputs.find((output) => output.output_type === "error");
      if (error && !wanted) found.push(`cell ${index} fails: ${error.ename}: ${error.evalue}`);
      else if (!error && cell.model.executionCount === null) found.push(`cell ${index} was not run`);
    });
    return found;
  });
  if (!inTime) return [`Run All took more than ${patience} s`, ...complaints];
  await laidOut(page);
  await page.waitForFunction(everyWidgetCameOrFailed, null, { timeout: 10_000, polling: 100 }).catch((error) => {
    if (error.name !== "TimeoutError") throw error; // what still stands there is looked at next
  });
  return complaints;
}

export async function shutDown(page) {
  await page.evaluate(() => window.jupyterapp.serviceManager.sessions.shutdownAll());
}
