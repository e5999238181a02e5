// Sounds and films are played, and have to decode.

const SECONDS = 20; // until a player must have begun

/** Plays every player below a selector a moment; returns how many played and complaints of those that did not. */
export async function playAll(page, below = ".jp-Notebook") {
  return page.evaluate(async ({ SECONDS, below }) => {
    const play = async (player) => {
      const cell = window.panel?.content.widgets.findIndex((cell) => cell.node.contains(player));
      const name = `${cell === undefined ? "" : `cell ${cell}: `}the ${player.localName} "${player.title.slice(0, 40)}"`;
      if (!player.currentSrc && !player.src) return `${name} has nothing to play: its src was taken away`;
      const refused = await player.play().then(
        () => null,
        (error) => error.message,
      );
      if (refused) return `${name} does not play: ${refused}`;
      const until = Date.now() + 1000 * SECONDS;
      while (player.currentTime === 0 && Date.now() < until) await new Promise((done) => setTimeout(done, 20));
      const silent = player.localName === "video" && !/with sound/.test(player.title);
      const faults = [
        player.currentTime === 0 && "it stands still",
        player.readyState < 2 && `readyState is ${player.readyState}`,
        player.error && player.error.message,
        !silent && player.webkitAudioDecodedByteCount === 0 && "no sound is decoded",
        player.localName === "video" && (player.videoWidth === 0 || player.webkitVideoDecodedByteCount === 0) && "no picture is decoded",
      ].filter(Boolean);
      player.pause();
      player.currentTime = 0;
      return faults.length ? `${name} does not play: ${faults.join(", ")}` : null;
    };
    const players = [...document.querySelectorAll(`${below} audio, ${below} video`)];
    const complaints = [];
    for (let first = 0; first < players.length; first += 4)
      complaints.push(...(await Promise.all(players.slice(first, first + 4).map(play))).filter(Boolean));
    return { played: players.length - complaints.length, complaints };
  }, { SECONDS, below });
}
