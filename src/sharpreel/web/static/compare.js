// Two pictures or videos of one thing, with a line that shows one left of it and the other right.

// `root` holds .compare with two .layer elements, and input[type=range].slide: keys move it there,
// the pointer anywhere in the picture.
export function compareSlider(root) {
  const stack = root.querySelector(".compare"), line = root.querySelector(".slide");
  const move = () => {
    stack.style.setProperty("--at", `${line.value}%`);
    line.setAttribute("aria-valuetext", `before on the left ${Math.round(line.value)} per cent`);
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

const DRIFT = 0.04; // seconds that two videos may be apart: a frame at 25 a second

// Keeps the others where the first video is, playing and standing still.
export class Together {
  constructor(videos) {
    [this.first, ...this.others] = videos;
    const all = (act) => () => this.others.forEach(act);
    this.first.addEventListener("play", all((v) => v.play().catch(() => {})));
    this.first.addEventListener("pause", all((v) => { v.pause(); this.align(v, 0); }));
    this.first.addEventListener("seeked", all((v) => this.align(v, 0)));
    this.first.addEventListener("ratechange", all((v) => { v.playbackRate = this.first.playbackRate; }));
    if (this.first.requestVideoFrameCallback) {
      const look = () => {
        this.follow();
        this.first.requestVideoFrameCallback(look);
      };
      this.first.requestVideoFrameCallback(look);
    } else {
      this.first.addEventListener("timeupdate", () => this.follow());
    }
  }

  follow() {
    for (const video of this.others) {
      const apart = video.currentTime - this.first.currentTime;
      // A little faster or slower is not seen; a jump is.
      if (Math.abs(apart) > 0.5) this.align(video, 0);
      else video.playbackRate = this.first.playbackRate * (Math.abs(apart) < DRIFT / 2 ? 1 : 1 - Math.max(-0.2, Math.min(0.2, apart * 2)));
    }
  }

  align(video, allowed) {
    if (Math.abs(video.currentTime - this.first.currentTime) > allowed) video.currentTime = this.first.currentTime;
  }
}
