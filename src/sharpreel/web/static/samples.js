// Short videos of one moment by several networks, beside each other and in step.

import { Together } from "./compare.js";
import { element } from "./format.js";

export function showSamples(results, place, button) {
  const videos = results.map(({ model, url }) => {
    const video = element("video", { src: url, loop: true, playsinline: true, preload: "auto", "aria-label": `Sample by ${model}` });
    video.muted = true;
    return video;
  });
  place.replaceChildren(...results.map(({ model }, k) =>
    element("figure", {}, videos[k], element("figcaption", {}, element("strong", {}, model)))));
  if (!videos.length) return;
  new Together(videos);
  const [first] = videos;
  button.onclick = () => (first.paused ? first.play() : first.pause());
  first.onplay = () => { button.textContent = "Pause all"; };
  first.onpause = () => { button.textContent = "Play all"; };
}
