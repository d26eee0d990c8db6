// Before/after comparison: two images or videos, one on the left of a line and one on the right.

// `root` contains .compare with two .layer elements, and input[type=range].slide. Keys move the line in
// the input, the pointer moves it anywhere in the image.
export function compareSlider(root) {
  const stack = root.querySelector(".compare"), line = root.querySelector(".slide");
  const move = () => {
    stack.style.setProperty("--at", `${line.value}%`);
    line.setAttribute("aria-valuetext", `before on the left ${Math.round(line.value)} percent`);
  };
  const drag = (event) => {
    if (event.type === "pointermove" && !event.buttons) return;
    const box = stack.getBoundingClientRect();
    line.value = 100 * (event.clientX - box.left) / box.width;
    move();
    event.preventDefault();
  };
  line.addEventListener("input", move);
  stack.addEventListener("pointerdown", drag);
  stack.addEventListener("pointermove", drag);
  move();
}

const MAX_DRIFT = 0.04; // seconds between two videos: one frame at 25 fps

// Synchronises the other videos with the first one, playing and paused.
export class SyncedVideos {
  constructor(videos) {
    [this.first, ...this.others] = videos;
    const all = (action) => () => this.others.forEach(action);
    this.first.addEventListener("play", all((v) => v.play().catch(() => {})));
    this.first.addEventListener("pause", all((v) => { v.pause(); this.align(v, 0); }));
    this.first.addEventListener("seeked", all((v) => this.align(v, 0)));
    this.first.addEventListener("ratechange", all((v) => { v.playbackRate = this.first.playbackRate; }));
    if (this.first.requestVideoFrameCallback) {
      const onFrame = () => {
        this.follow();
        this.first.requestVideoFrameCallback(onFrame);
      };
      this.first.requestVideoFrameCallback(onFrame);
    } else {
      this.first.addEventListener("timeupdate", () => this.follow());
    }
  }

  follow() {
    for (const video of this.others) {
      const drift = video.currentTime - this.first.currentTime;
      // A small change of speed is invisible; a jump is not.
      if (Math.abs(drift) > 0.5) this.align(video, 0);
      else video.playbackRate = this.first.playbackRate * (Math.abs(drift) < MAX_DRIFT / 2 ? 1 : 1 - Math.max(-0.2, Math.min(0.2, drift * 2)));
    }
  }

  align(video, tolerance) {
    if (Math.abs(video.currentTime - this.first.currentTime) > tolerance) video.currentTime = this.first.currentTime;
  }
}
