// Takes a File, answers { done: bytes } now and then and { sha256 } at the end, or { error }.

import { Sha256 } from "./sha256.js";

const PIECE = 4 << 20;

self.onmessage = async ({ data: file }) => {
  try {
    const hash = new Sha256();
    for (let at = 0; at < file.size; at += PIECE) {
      hash.update(new Uint8Array(await file.slice(at, at + PIECE).arrayBuffer()));
      self.postMessage({ done: Math.min(at + PIECE, file.size) });
    }
    self.postMessage({ sha256: hash.hex() });
  } catch (error) {
    self.postMessage({ error: String(error.message || error) });
  }
};
