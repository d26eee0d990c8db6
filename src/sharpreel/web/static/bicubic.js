// Bicubic upscaling as in MATLAB's imresize and in papers (Keys' kernel, a = -0.5, mirrored edges,
// rounded once at the end): the same result as `sharpreel upscale --model bicubic`.

function cubic(x) {
  const a = Math.abs(x);
  if (a <= 1) return (1.5 * a - 2.5) * a * a + 1;
  return a < 2 ? ((-0.5 * a + 2.5) * a - 4) * a + 2 : 0;
}

// Four taps for each output sample along one axis: where they are, and their weights.
function taps(sizeIn, sizeOut) {
  const index = new Int32Array(4 * sizeOut), weight = new Float32Array(4 * sizeOut);
  for (let i = 0; i < sizeOut; i++) {
    const centre = (i + 0.5) * sizeIn / sizeOut - 0.5;
    const first = Math.floor(centre) - 1;
    for (let k = 0; k < 4; k++) {
      let at = first + k;
      if (at < 0) at = -1 - at;
      if (at >= sizeIn) at = 2 * sizeIn - 1 - at;
      index[4 * i + k] = Math.max(0, Math.min(sizeIn - 1, at));
      weight[4 * i + k] = cubic(centre - first - k);
    }
  }
  return { index, weight };
}

// Upscales images of one size; `run` takes and returns ImageData.
export class Bicubic {
  constructor(width, height, scale) {
    [this.width, this.height, this.scale] = [width, height, scale];
    [this.wide, this.high] = [width * scale, height * scale];
    this.across = taps(width, this.wide);
    this.down = taps(height, this.high);
    this.middle = new Float32Array(this.wide * height * 3);
    this.out = new ImageData(this.wide, this.high);
  }

  run({ data }) {
    const { width, height, wide, high, middle } = this;
    const { index: x, weight: wx } = this.across, { index: y, weight: wy } = this.down;
    for (let row = 0, to = 0; row < height; row++) {
      const from = 4 * width * row;
      for (let i = 0; i < wide; i++, to += 3) {
        const t = 4 * i, a = wx[t], b = wx[t + 1], c = wx[t + 2], d = wx[t + 3];
        const p = from + 4 * x[t], q = from + 4 * x[t + 1];
        const r = from + 4 * x[t + 2], s = from + 4 * x[t + 3];
        middle[to] = a * data[p] + b * data[q] + c * data[r] + d * data[s];
        middle[to + 1] = a * data[p + 1] + b * data[q + 1] + c * data[r + 1] + d * data[s + 1];
        middle[to + 2] = a * data[p + 2] + b * data[q + 2] + c * data[r + 2] + d * data[s + 2];
      }
    }
    const sr = this.out.data, line = 3 * wide; // clamped and rounded by its type
    for (let row = 0, to = 0; row < high; row++) {
      const t = 4 * row, a = wy[t], b = wy[t + 1], c = wy[t + 2], d = wy[t + 3];
      let p = line * y[t], q = line * y[t + 1], r = line * y[t + 2], s = line * y[t + 3];
      for (let i = 0; i < wide; i++, to += 4) {
        for (let k = 0; k < 3; k++) {
          sr[to + k] = a * middle[p++] + b * middle[q++] + c * middle[r++] + d * middle[s++];
        }
        sr[to + 3] = 255;
      }
    }
    return this.out;
  }
}
