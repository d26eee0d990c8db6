// Hashes a File: posts { done: bytes } as it proceeds, then { sha256 }, or { error }.

import { Sha256 } from "./sha256.js";

const BLOCK = 4 << 20;

self.onmessage = async ({ data: file }) => {
  try {
    const hash = new Sha256();
    for (let at = 0; at < file.size; at += BLOCK) {
      hash.update(new Uint8Array(await file.slice(at, at + BLOCK).arrayBuffer()));
      self.postMessage({ done: Math.min(at + BLOCK, file.size) });
    }
    self.postMessage({ sha256: hash.hex() });
  } catch (error) {
    self.postMessage({ error: String(error.message || error) });
  }
};
