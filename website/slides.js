// One slide at a time: arrow keys, Page Up and Down, Home and End, or the buttons. Without this script all slides stand in a row.
const slides = [...document.querySelectorAll("section")];
document.body.classList.add("live");

function show(number) {
  const at = Math.min(Math.max(number, 1), slides.length);
  for (const player of document.querySelectorAll("audio, video")) player.pause();
  slides.forEach((slide, index) => slide.classList.toggle("now", index === at - 1));
  document.getElementById("place").textContent = `${at} of ${slides.length}`;
  if (location.hash !== `#${at}`) history.replaceState(null, "", `#${at}`);
  window.scrollTo(0, 0);
}

const here = () => slides.findIndex((slide) => slide.classList.contains("now")) + 1;
const KEYS = {
  ArrowRight: () => here() + 1,
  PageDown: () => here() + 1,
  ArrowLeft: () => here() - 1,
  PageUp: () => here() - 1,
  Home: () => 1,
  End: () => slides.length,
};

document.addEventListener("keydown", (event) => {
  if (!(event.key in KEYS) || event.ctrlKey || event.altKey || event.metaKey || event.target.closest("audio, video")) return;
  event.preventDefault();
  show(KEYS[event.key]());
});
document.getElementById("before").addEventListener("click", () => show(here() - 1));
document.getElementById("next").addEventListener("click", () => show(here() + 1));
window.addEventListener("hashchange", () => show(Number(location.hash.slice(1)) || 1));
show(Number(location.hash.slice(1)) || 1);
