// Incremental SHA-256 (FIPS 180-4): the browser's crypto.subtle needs all data at once, and a video may
// not fit into memory.

const K = new Int32Array(64), START = new Int32Array(8);

// The first 32 bits of the fractions of the cube roots and square roots of the first primes.
(() => {
  const fraction = (x) => ((x - Math.floor(x)) * 0x100000000) | 0;
  for (let n = 2, count = 0; count < 64; n++) {
    let prime = true;
    for (let d = 2; d * d <= n; d++) if (n % d === 0) prime = false;
    if (!prime) continue;
    if (count < 8) START[count] = fraction(Math.sqrt(n));
    K[count++] = fraction(Math.cbrt(n));
  }
})();

export class Sha256 {
  #state = START.slice();
  #block = new Uint8Array(64);
  #filled = 0;
  #bytes = 0;
  #w = new Int32Array(64);

  // Takes any number of bytes, a Uint8Array.
  update(data) {
    this.#bytes += data.length;
    let at = 0;
    if (this.#filled) {
      at = Math.min(64 - this.#filled, data.length);
      this.#block.set(data.subarray(0, at), this.#filled);
      this.#filled += at;
      if (this.#filled < 64) return this;
      this.#compress(this.#block, 0);
      this.#filled = 0;
    }
    for (; at + 64 <= data.length; at += 64) this.#compress(data, at);
    this.#block.set(data.subarray(at));
    this.#filled = data.length - at;
    return this;
  }

  // The digest as 64 digits; nothing may be added afterwards.
  hex() {
    const bytes = this.#bytes, left = this.#filled;
    const tail = new Uint8Array(left < 56 ? 64 : 128);
    tail.set(this.#block.subarray(0, left));
    tail[left] = 0x80;
    const view = new DataView(tail.buffer);
    view.setUint32(tail.length - 8, Math.floor(bytes / 0x20000000));
    view.setUint32(tail.length - 4, (bytes << 3) >>> 0);
    for (let at = 0; at < tail.length; at += 64) this.#compress(tail, at);
    return Array.from(this.#state, (x) => (x >>> 0).toString(16).padStart(8, "0")).join("");
  }

  #compress(p, at) {
    const w = this.#w, s = this.#state;
    for (let i = 0; i < 16; i++, at += 4) {
      w[i] = (p[at] << 24) | (p[at + 1] << 16) | (p[at + 2] << 8) | p[at + 3];
    }
    for (let i = 16; i < 64; i++) {
      const x = w[i - 15], y = w[i - 2];
      const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
      const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
      w[i] = (w[i - 16] + s0 + w[i - 7] + s1) | 0;
    }
    let a = s[0], b = s[1], c = s[2], d = s[3], e = s[4], f = s[5], g = s[6], h = s[7];
    for (let i = 0; i < 64; i++) {
      const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
      const t1 = (h + s1 + ((e & f) ^ (~e & g)) + K[i] + w[i]) | 0;
      const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
      const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      h = g; g = f; f = e; e = (d + t1) | 0;
      d = c; c = b; b = a; a = (t1 + t2) | 0;
    }
    s[0] += a; s[1] += b; s[2] += c; s[3] += d; s[4] += e; s[5] += f; s[6] += g; s[7] += h;
  }
}
