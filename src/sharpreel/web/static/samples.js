// Short videos of the same seconds by several models, side by side and synchronised.

import { SyncedVideos } from "./compare.js";
import { element } from "./format.js";

export function showSamples(results, container, button) {
  const videos = results.map(({ model, url }) => {
    const video = element("video", { src: url, loop: true, playsinline: true, preload: "auto", "aria-label": `Sample by ${model}` });
    video.muted = true;
    return video;
  });
  container.replaceChildren(...results.map(({ model }, k) =>
    element("figure", {}, videos[k], element("figcaption", {}, element("strong", {}, model)))));
  if (!videos.length) return;
  new SyncedVideos(videos);
  const [first] = videos;
  button.onclick = () => (first.paused ? first.play() : first.pause());
  first.onplay = () => { button.textContent = "Pause all"; };
  first.onpause = () => { button.textContent = "Play all"; };
}
