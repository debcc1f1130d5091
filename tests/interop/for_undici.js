// What undici wants as it is loaded. Node 20 lacks some of it, and Node 18, which Debian 12 has, lacks all.

import buffer from "node:buffer";
import crypto from "node:crypto";
import threads from "node:worker_threads";
import zlib from "node:zlib";

globalThis.File ??= buffer.File;
String.prototype.toWellFormed ??= function toWellFormed() { return String(this); };
crypto.hash ??= (name, text, form) => crypto.createHash(name).update(text).digest(form);
threads.markAsUncloneable ??= () => {};
zlib.createZstdDecompress ??= zlib.createBrotliDecompress;
