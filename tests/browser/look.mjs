// What stands on the page, as a person finds it: pictures, captions, words, and no trace of a widget that did not come.

import { laidOut } from "./lab.mjs";

const LONG_ENOUGH = 15; // characters that a description has at least
const WHITE = 0.4; // share of a picture's pixels that may be as good as white
const CONTRAST = 4.5; // of text to its background, WCAG 2.2 AA

/** Counts what there is and complains of what is missing, broken or glaring. */
export async function look(page) {
  await laidOut(page);
  return page.evaluate(
    ({ LONG_ENOUGH, WHITE }) => {
      const complaints = [];
      const cells = window.panel.content.widgets;
      const shown = (element) => {
        const { width, height } = element.getBoundingClientRect();
        return width > 1 && height > 1;
      };
      const saysEnough = (text) => (text ?? "").trim().length >= LONG_ENOUGH;

      const pixels = (image) => {
        const canvas = document.createElement("canvas");
        [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
        const context = canvas.getContext("2d");
        context.drawImage(image, 0, 0);
        const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
        let [white, clear] = [0, 0];
        for (let i = 0; i < data.length; i += 4) {
          if (data[i + 3] < 255) clear += 1;
          else if (Math.min(data[i], data[i + 1], data[i + 2]) >= 250) white += 1;
        }
        return { white: (4 * white) / data.length, clear: (4 * clear) / data.length };
      };

      const lookAtImage = (image, where) => {
        const name = `${where}, picture "${image.alt.slice(0, 40)}"`;
        if (!saysEnough(image.alt)) complaints.push(`${name} has no alt text that says what it shows`);
        if (!image.naturalWidth) return complaints.push(`${name} does not load`);
        if (!shown(image)) return complaints.push(`${name} is not to be seen`);
        if (!image.src.startsWith("data:")) return;
        const { white, clear } = pixels(image);
        if (clear > 0) complaints.push(`${name} is transparent: it vanishes on a page of its own colour`);
        if (white > WHITE) complaints.push(`${name} is ${Math.round(100 * white)} % white: it glares on a dark page`);
      };

      const counts = { images: 0, audio: 0, video: 0, captions: 0, widgets: 0 };
      cells.forEach((cell, index) => {
        const where = `cell ${index}`;
        cell.node.querySelectorAll(".jp-RenderedMarkdown img").forEach((image) => lookAtImage(image, where));
        if (cell.model.type !== "code") return;
        const area = cell.outputArea.node;
        area.querySelectorAll("img").forEach((image) => lookAtImage(image, where));
        area.querySelectorAll("audio, video").forEach((player) => {
          if (!saysEnough(player.title)) complaints.push(`${where}: a player has no name`);
          if (!player.controls || !shown(player)) complaints.push(`${where}: a player is not to be seen`);
        });
        area.querySelectorAll("figure").forEach((figure) => {
          const caption = figure.querySelector("figcaption") ?? figure.closest(".jupyter-widgets")?.parentElement?.querySelector("[aria-live]");
          if (!caption || !saysEnough(caption.textContent) || !shown(caption)) complaints.push(`${where}: a figure has no caption`);
        });
        area.querySelectorAll("img, audio, video").forEach((element) => {
          if (!element.closest("figure")) complaints.push(`${where}: <${element.localName}> stands outside a <figure>, without a caption`);
        });
        const words = /VBox\(children|HBox\(children|Error displaying widget|Loading widget|model not found/.test(area.textContent);
        if (words || area.querySelector(".jupyter-widgets-error-widget"))
          complaints.push(`${where} shows a widget's name and not its picture: ${area.textContent.trim().slice(0, 60)}`);
        counts.images += area.querySelectorAll("img").length;
        counts.audio += area.querySelectorAll("audio").length;
        counts.video += area.querySelectorAll("video").length;
        counts.captions += area.querySelectorAll("figcaption").length;
        counts.widgets += area.querySelectorAll(".jp-OutputArea-output > .jupyter-widgets, .jp-OutputArea-output .jupyter-widgets-view > .jupyter-widgets").length;
      });
      if (document.querySelector(".jp-Dialog")) complaints.push(`a window stands in the way: ${document.querySelector(".jp-Dialog").textContent}`);
      return { complaints, counts };
    },
    { LONG_ENOUGH, WHITE },
  );
}

/** Complaints of words that are hard to read on their background, in the theme that is on; in a notebook, of those in outputs. */
export async function lookAtText(page, selector = ".jp-OutputArea-output *") {
  return page.evaluate(({ CONTRAST, selector }) => {
    const channels = (text) => {
      const numbers = (text.match(/[\d.]+/g) ?? []).map(Number);
      return { rgb: numbers.slice(0, 3), alpha: numbers[3] ?? 1 };
    };
    const luminance = (rgb) =>
      rgb
        .map((value) => value / 255)
        .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
        .reduce((sum, value, i) => sum + value * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = (element) => {
      for (let node = element; node; node = node.parentElement) {
        const colour = channels(getComputedStyle(node).backgroundColor);
        if (colour.alpha === 1) return colour.rgb;
      }
      return [255, 255, 255];
    };
    const hard = new Map();
    for (const element of document.querySelectorAll(selector)) {
      const own = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim());
      const { width, height } = element.getBoundingClientRect();
      if (!own || !width || !height) continue;
      const [ink, paper] = [channels(getComputedStyle(element).color).rgb, behind(element)];
      const [dark, light] = [luminance(ink), luminance(paper)].sort((a, b) => a - b);
      const contrast = (light + 0.05) / (dark + 0.05);
      const words = element.textContent.trim().slice(0, 40);
      if (contrast < CONTRAST) hard.set(`${ink} ${paper}`, `"${words}" is hard to read (contrast ${contrast.toFixed(1)}, colour ${ink} on ${paper})`);
    }
    return [...hard.values()];
  }, { CONTRAST, selector });
}
