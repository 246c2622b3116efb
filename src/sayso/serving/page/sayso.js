/**
 * Sayso in a browser: speech to /v1/stream, and what it means while it is spoken. One file, no build step.
 *
 *   import { Client, microphone } from "/page/sayso.js";
 *
 *   const client = new Client("http://127.0.0.1:8080/", { key: "sayso-..." });
 *   const connection = await client.connect();
 *   let stream;
 *   const mic = await microphone((samples) => stream?.send(samples));
 *   stream = connection.start({ sample_rate: mic.sampleRate, endpoint: "once" });
 *   for await (const message of stream) console.log(message.type, message.result.text);
 *   await mic.stop();
 *   connection.close();
 *
 * Messages are those of docs/asyncapi.yaml: partials, then a result. Whatever goes wrong is a SaysoError with a code.
 * The same file is the AudioWorklet module that hears the microphone.
 */

const ANSWER_MS = 10000; // for a service that is there to say something
const PIECE_S = 0.03; // of microphone sound in one message
const FILE_PIECE_S = 0.1; // of a recording in one
const UNSENT_BYTES = 1 << 16; // what sendAll leaves to the connection before it waits
const TAIL_MS = 60; // what was said when the microphone is stopped is still on its way

/** `code`: one of the service's, or `unreachable`, `not_ready`, `closed`, `http`, `microphone_...`, `bad_file`. */
export class SaysoError extends Error {
  constructor(code, message, { status = null, retryAfterS = null } = {}) {
    super(message);
    this.name = "SaysoError";
    Object.assign(this, { code, status, retryAfterS });
  }
}

/** A service at `url`; a path in it stays, for services behind a proxy. */
export class Client {
  #base;
  #key;

  constructor(url = globalThis.location.origin, { key = null } = {}) {
    this.#base = new URL(url);
    if (!this.#base.pathname.endsWith("/")) this.#base.pathname += "/";
    this.#key = key;
  }

  /** What is served: name, domain, languages, version, description, intents. */
  async bundles() {
    return (await (await this.#ask("v1/bundles")).json()).bundles;
  }

  /** Resolves where new streams are welcome; else throws, saying why they are not. */
  async ready() {
    await this.#ask("health/ready");
  }

  /** A connection for streams, one after another. */
  async connect() {
    const url = new URL("v1/stream", this.#base);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url, this.#key ? ["sayso.v1", `sayso-key.${this.#key}`] : ["sayso.v1"]);
    socket.binaryType = "arraybuffer";
    const opened = await new Promise((resolve) => {
      const timer = setTimeout(() => resolve(false), ANSWER_MS);
      socket.onopen = () => (clearTimeout(timer), resolve(true));
      socket.onclose = () => (clearTimeout(timer), resolve(false));
    });
    if (opened) return new Connection(socket);
    socket.close();
    throw await this.#refused();
  }

  /** A browser hides the answer to a refused upgrade, so the same is asked in a way whose answer can be read. */
  async #refused() {
    try {
      await this.bundles();
      await this.ready();
    } catch (error) {
      return error;
    }
    return new SaysoError("overloaded", "the service takes no new stream now; try again", { retryAfterS: 1 });
  }

  async #ask(path) {
    const headers = this.#key ? { Authorization: `Bearer ${this.#key}` } : {};
    let response;
    try {
      const signal = AbortSignal.timeout(ANSWER_MS);
      response = await fetch(new URL(path, this.#base), { headers, cache: "no-store", signal });
    } catch {
      throw new SaysoError("unreachable", `nothing answers at ${this.#base.host}`);
    }
    if (response.ok) return response;
    const said = await response.text();
    const retryAfterS = Number(response.headers.get("Retry-After")) || null;
    const plain = { code: "http", message: `the service answered with status ${response.status}` };
    if (response.status === 503) Object.assign(plain, { code: "not_ready", message: said.trim().slice(0, 200) });
    const { code, message } = problem(said) ?? plain;
    throw new SaysoError(code, message, { status: response.status, retryAfterS });
  }
}

function problem(text) {
  try {
    return JSON.parse(text).error;
  } catch {
    return null;
  }
}

/** An open connection; a stream may follow when the one before it is over. */
export class Connection {
  #socket;
  #stream = null;

  constructor(socket) {
    this.#socket = socket;
    socket.onmessage = ({ data }) => this.#stream?.take(JSON.parse(data));
    socket.onclose = ({ code }) => {
      this.#stream?.fail(new SaysoError("closed", `the connection to the service was lost (${code})`));
    };
  }

  /** Begin a stream; `options` are the fields of Start: sample_rate, endpoint, session, bundle... */
  start(options = {}) {
    const start = { type: "start", version: 1, sample_rate: 16000, ...options, encoding: "pcm_s16le" };
    this.#stream = new Stream(this.#socket, start);
    return this.#stream;
  }

  close() {
    this.#socket.close();
  }
}

/** One stream: an async iterable of messages that ends with the result, or throws what came in its place. */
export class Stream {
  #socket;
  #start;
  #messages = [];
  #error = null;
  #news = () => {};
  over = false;

  constructor(socket, start) {
    this.#socket = socket;
    this.#start = start;
    if (socket.readyState === WebSocket.OPEN) this.#say(start);
    else this.fail(new SaysoError("closed", "the connection is closed; connect again"));
  }

  /** Mono samples in -1..1 (Float32Array), or 16-bit ones (Int16Array). Nothing happens where the stream is over. */
  send(samples) {
    if (this.over || this.#socket.readyState !== WebSocket.OPEN) return;
    this.#socket.send(samples instanceof Int16Array ? samples : pcm16(samples));
  }

  /**
   * Samples of any length, in pieces, no faster than the connection takes them, nor than `speed` times real time (a
   * service that is behind sends no partials). `onPiece` gets each piece that was sent.
   */
  async sendAll(samples, { speed = Infinity, onPiece = () => {} } = {}) {
    const rate = this.#start.sample_rate;
    const size = Math.round(rate * FILE_PIECE_S);
    const began = performance.now();
    for (let place = 0; place < samples.length && !this.over; place += size) {
      const piece = samples.subarray(place, place + size);
      this.send(piece);
      onPiece(piece);
      while (this.#socket.bufferedAmount > UNSENT_BYTES && !this.over) await sleep(10);
      const ahead = began + ((place + piece.length) / rate / speed) * 1000 - performance.now();
      if (ahead > 0) await sleep(ahead);
    }
  }

  /** No more samples; the result follows. */
  end() {
    if (!this.over) this.#say({ type: "end" });
  }

  /** Forget this stream; iteration ends without a result. */
  cancel() {
    if (this.over) return;
    this.#say({ type: "cancel" });
    this.over = true;
    this.#news();
  }

  /** Read on to the result. */
  async result() {
    for await (const message of this) if (message.type === "result") return message.result;
    throw new SaysoError("closed", "the stream ended without a result");
  }

  async *[Symbol.asyncIterator]() {
    while (true) {
      if (this.#messages.length > 0) yield this.#messages.shift();
      else if (this.#error !== null) throw this.#error;
      else if (this.over) return;
      else await new Promise((resolve) => (this.#news = resolve));
    }
  }

  /** What the service says (called by the connection). */
  take(message) {
    if (this.over) return;
    if (message.type === "error") {
      this.fail(new SaysoError(message.code, message.message, { retryAfterS: message.retry_after_s }));
      return;
    }
    this.#messages.push(message);
    this.over = message.type === "result" && this.#start.endpoint !== "always";
    this.#news();
  }

  /** End with an error (called by the connection). */
  fail(error) {
    if (this.over) return;
    this.over = true;
    this.#error = error;
    this.#news();
  }

  #say(message) {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }
}

/**
 * Listen to the microphone: `onSamples` gets a Float32Array for every 30 ms. Call it from a click or a key, and stop it
 * when done. `onLost` is called where the microphone goes away. Returns { sampleRate, stop() }.
 */
export async function microphone(onSamples, { onLost = () => {} } = {}) {
  const sound = await openMicrophone();
  const context = new AudioContext();
  const wake = () => context.resume(); // to a browser, a touch asks for sound only when it ends
  addEventListener("pointerup", wake);
  try {
    await context.audioWorklet.addModule(import.meta.url);
    await context.resume();
  } catch (error) {
    release(sound, context);
    throw new SaysoError("microphone_failed", `the microphone could not be heard (${error.message})`);
  } finally {
    removeEventListener("pointerup", wake);
  }
  const ears = new AudioWorkletNode(context, "sayso-microphone", {
    channelCount: 1,
    channelCountMode: "explicit",
    processorOptions: { size: Math.round(PIECE_S * context.sampleRate) },
  });
  const flushed = new Promise((resolve) => {
    ears.port.onmessage = ({ data }) => (data === null ? resolve() : onSamples(data));
  });
  context.createMediaStreamSource(sound).connect(ears);
  ears.connect(context.destination); // silence: but only what is on the way to a loudspeaker runs in every browser
  for (const track of sound.getAudioTracks()) track.onended = onLost; // not when it is stopped here
  const stop = async () => {
    await sleep(TAIL_MS);
    ears.port.postMessage("stop");
    await Promise.race([flushed, sleep(500)]);
    release(sound, context);
  };
  let stopped = null;
  return {
    sampleRate: context.sampleRate,
    /** Resolves when all that was heard has been given to `onSamples`. */
    stop: () => (stopped ??= stop()),
  };
}

async function openMicrophone() {
  if (!globalThis.navigator?.mediaDevices?.getUserMedia) {
    const why = "a browser gives the microphone only to pages on https or localhost";
    throw new SaysoError("microphone_insecure", `${why}; give the service tls_certificate and tls_key`);
  }
  // what makes calls pleasant (suppressed noise, moving gain) is made for ears, not for recognition
  const audio = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  try {
    return await navigator.mediaDevices.getUserMedia({ audio });
  } catch (error) {
    const [code, why] = {
      NotAllowedError: ["microphone_refused", "the microphone was refused; allow it beside the page's address"],
      SecurityError: ["microphone_refused", "the microphone was refused; allow it beside the page's address"],
      NotFoundError: ["microphone_missing", "there is no microphone; plug one in"],
      NotReadableError: ["microphone_busy", "the microphone is in use by another program"],
    }[error.name] ?? ["microphone_failed", `the microphone could not be opened (${error.message})`];
    throw new SaysoError(code, why);
  }
}

function release(sound, context) {
  for (const track of sound.getTracks()) track.stop();
  context.close();
}

/** A recording in any format the browser knows (File, Blob, ArrayBuffer) as mono samples, a Float32Array. */
export async function decode(recording, sampleRate = 16000) {
  const bytes = recording instanceof ArrayBuffer ? recording : await recording.arrayBuffer();
  let sound;
  try {
    sound = await new OfflineAudioContext(1, 1, sampleRate).decodeAudioData(bytes);
  } catch {
    throw new SaysoError("bad_file", "this is no recording that the browser can read; try wav, flac, ogg, mp3 or m4a");
  }
  const mono = new Float32Array(sound.length);
  for (let channel = 0; channel < sound.numberOfChannels; channel++) {
    const samples = sound.getChannelData(channel);
    for (let i = 0; i < mono.length; i++) mono[i] += samples[i] / sound.numberOfChannels;
  }
  return mono;
}

/** Samples in -1..1 as 16-bit ones. */
export function pcm16(samples) {
  return Int16Array.from(samples, (x) => Math.max(-32768, Math.min(32767, Math.round(x * 32768))));
}

function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

if (typeof registerProcessor === "function") {
  /** In the audio thread: gathers the microphone's samples to pieces and posts them; after "stop" the rest and null. */
  class Microphone extends AudioWorkletProcessor {
    constructor({ processorOptions }) {
      super();
      this.piece = new Float32Array(processorOptions.size);
      this.filled = 0;
      this.stopped = false;
      this.port.onmessage = () => {
        this.stopped = true;
        this.port.postMessage(this.piece.slice(0, this.filled));
        this.port.postMessage(null);
      };
    }

    process([[samples]]) {
      for (const sample of samples ?? []) {
        if (this.stopped) break;
        this.piece[this.filled++] = sample;
        if (this.filled === this.piece.length) {
          this.port.postMessage(this.piece.slice());
          this.filled = 0;
        }
      }
      return !this.stopped;
    }
  }
  registerProcessor("sayso-microphone", Microphone);
}
