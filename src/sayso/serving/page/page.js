/** The page: press and speak, or give it a recording; what comes back goes to view.js. */

import { Client, decode, microphone, SaysoError } from "./sayso.js";
import * as view from "./view.js";

const HOLD_MS = 350; // a longer press ends when it is let go, a shorter one at a pause
const LOOK_MS = 5000; // between looks whether the service is there
const RATE = 16000; // of decoded recordings
const DIALOGUE = Array.from(crypto.getRandomValues(new Uint32Array(4)), (n) => n.toString(36)).join("-"); // this visit's
const SPEED = 4; // times real time, at which they are sent: slow enough to be watched
const TITLES = {
  unauthorized: "The key was not accepted",
  forbidden: "This is not allowed",
  overloaded: "The service is busy",
  session_busy: "The last one is still being heard",
  too_many: "Too many at once",
  going_away: "The service is stopping",
  not_ready: "The service is not ready",
  unreachable: "The service does not answer",
  closed: "The connection was lost",
  engine_lost: "The service lost this one",
  deadline: "The result did not come in time",
  too_long: "This was too long",
  bad_file: "This file cannot be read",
  microphone_insecure: "No microphone on this page",
  microphone_refused: "The microphone was refused",
  microphone_missing: "No microphone was found",
  microphone_busy: "The microphone is busy",
  microphone_lost: "The microphone has gone",
};
const GONE = new Set(["unreachable", "closed", "going_away", "not_ready"]);

const $ = (selector) => document.querySelector(selector);
const here = new URL(".", document.baseURI);
const wave = new view.Wave();
let client = new Client(here, { key: sessionStorage.getItem("key") });
let bundles = [];
let current = null; // what is being understood (see `understand`)
let pressed_at = null; // while the button or the key is down

// ---- what is told ----

const tell = (words) => ($("#told").textContent = words);

function complain(error) {
  const known = error instanceof SaysoError ? error : new SaysoError("internal", String(error?.message ?? error));
  const wait = known.retryAfterS ? ` Try again in ${known.retryAfterS} s.` : "";
  const title = TITLES[known.code] ?? "That did not work";
  const words = known.message.charAt(0).toUpperCase() + known.message.slice(1) + "." + wait;
  const news = $("#problem").hidden || $("#problem p").textContent !== words; // said once, not at every look
  if (news) [$("#problem h2").textContent, $("#problem p").textContent] = [title, words];
  $("#problem").dataset.code = known.code;
  $("#problem").hidden = false;
  $("#retry").hidden = !GONE.has(known.code);
  if (known.code === "unauthorized") askForKey();
  if (GONE.has(known.code)) state("gone", "Not reachable");
}

function calm(code = null) {
  if (code === null || $("#problem").dataset.code === code) $("#problem").hidden = true;
}

function state(name, words) {
  $("#state").dataset.state = name;
  $("#state b").textContent = words;
}

function show(phase) {
  document.body.dataset.phase = phase;
  $("#speak").setAttribute("aria-pressed", String(phase === "listening" || phase === "opening"));
  $("#speak").setAttribute("aria-disabled", String(phase === "reading" || phase === "finishing")); // keeps the focus
  $("#file").disabled = phase !== "idle";
  $("#bundle").disabled = phase !== "idle" || bundles.length === 0;
  const words = { idle: "Speak", opening: "One moment…", listening: "Stop", finishing: "Understanding…", reading: "Reading…" };
  $("#do").textContent = words[phase];
}

// ---- the service ----

async function look() {
  if ($("#state").dataset.state === "locked") return; // until there is a key
  try {
    await client.ready();
    if ($("#state").dataset.state !== "ready") await load();
  } catch (error) {
    complain(error);
  }
}

async function load() {
  bundles = await client.bundles();
  const chosen = $("#bundle").value;
  $("#bundle").replaceChildren(...bundles.map(({ name, languages }) => new Option(`${name} (${languages.join(", ")})`, name)));
  if (bundles.some(({ name }) => name === chosen)) $("#bundle").value = chosen;
  view.domain(bundles.find(({ name }) => name === $("#bundle").value));
  state("ready", "Ready");
  $("#keyform").hidden = true;
  for (const code of [...GONE, "unauthorized"]) calm(code);
  show(current?.phase ?? "idle");
}

function askForKey() {
  state("locked", "Needs a key");
  if (sessionStorage.getItem("key") === null) calm("unauthorized"); // nothing is wrong yet: it is only asked for
  $("#keyform").hidden = false;
}

$("#keyform").onsubmit = (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", $("#key").value.trim());
  client = new Client(here, { key: $("#key").value.trim() });
  state("asking", "Connecting…");
  look();
};
$("#bundle").onchange = () => view.domain(bundles.find(({ name }) => name === $("#bundle").value));
$("#retry").onclick = look;
setInterval(() => document.visibilityState === "visible" && current === null && look(), LOOK_MS);
document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && look());

// ---- one utterance ----

/** What speaking and a recording have in common: `feed` streams and reads; whatever happens, all is closed after it. */
async function understand(source, phase, feed) {
  const mine = { source, phase, cancelled: false, held: false, ended_at: null, mic: null, connecting: null, stream: null };
  mine.finished = new Promise((resolve) => (mine.finish = resolve));
  current = mine;
  calm();
  show(phase);
  try {
    await feed(mine);
  } catch (error) {
    $("#live").dataset.phase = "failed";
    if (!mine.cancelled) complain(error);
  }
  mine.connecting?.then((connection) => connection.close(), () => {}); // why there is none has come out above
  await mine.mic?.stop();
  current = null;
  show("idle");
}

function enter(mine, phase) {
  mine.phase = phase;
  show(phase);
}

async function speak(mine) {
  const early = []; // heard before there is a stream
  let began_at = Infinity; // wall time of the first sample, by the promptest piece
  let heard_s = 0;
  const hear = (samples) => {
    if (mine.cancelled || mine.stream?.over) return;
    heard_s += samples.length / mine.mic.sampleRate;
    began_at = Math.min(began_at, performance.now() - heard_s * 1000);
    wave.add(samples);
    if (mine.stream) mine.stream.send(samples);
    else early.push(samples);
  };
  mine.connecting = client.connect();
  mine.connecting.catch(() => {}); // comes out below
  mine.mic = await microphone(hear, { onLost: () => lost(mine) });
  if (mine.cancelled) return;
  wave.clear(mine.mic.sampleRate);
  view.empty();
  enter(mine, "listening");
  tell("Listening");
  mine.held = await isHeld();
  if (!(await begin(mine, mine.mic.sampleRate, mine.held ? "client" : "once"))) return;
  for (const samples of early.splice(0)) mine.stream.send(samples);
  mine.finished.then(() => mine.stream.end());
  await read(mine, ({ result, offset_s }) => {
    const now = performance.now();
    if (mine.ended_at !== null) return [now - mine.ended_at, "after you ended it"];
    const last = result.words.at(-1);
    return [last ? now - began_at - (offset_s + last.end) * 1000 : null, "after the last word, pause included"];
  });
}

async function listenTo(file) {
  await understand(file.name, "reading", async (mine) => {
    const samples = await decode(file, RATE);
    wave.clear(RATE);
    view.empty();
    mine.connecting = client.connect();
    if (!(await begin(mine, RATE, "client"))) return;
    mine.stream.sendAll(samples, { speed: SPEED, onPiece: (piece) => wave.add(piece) }).then(() => {
      mine.ended_at = performance.now();
      mine.stream.end();
    });
    await read(mine, () => [performance.now() - mine.ended_at, "after its last sample was sent"]);
  });
}

/** Start the stream, unless it is not wanted any more. */
async function begin(mine, sample_rate, endpoint) {
  const connection = await mine.connecting;
  if (mine.cancelled) return false;
  mine.stream = connection.start({ sample_rate, endpoint, bundle: $("#bundle").value || null, session: DIALOGUE });
  return true;
}

/** Show messages to the result; `latency` says, when it is here: [milliseconds, since when]. */
async function read(mine, latency) {
  let [intent, known_s] = [null, null];
  for await (const message of mine.stream) {
    const { result, offset_s } = message;
    if (message.type === "partial") {
      const seen = result.intent?.name ?? intent; // until another one is in sight
      if (seen !== intent) [intent, known_s] = [seen, result.timing.audio_s];
      view.partial(result);
      continue;
    }
    const [latency_ms, after] = latency(message);
    if (result.intent?.name !== intent) known_s = null;
    const peaks = wave.cut(offset_s + result.timing.audio_s);
    const entry = { result, offset_s, known_s, latency_ms, after, source: mine.source, peaks };
    view.final(entry, wave);
    view.remember(entry, again);
    tell(view.spoken(result));
  }
}

function again(entry) {
  if (current !== null) return;
  wave.show(entry.peaks);
  view.final(entry, wave);
}

async function finish() {
  const mine = current;
  if (mine?.phase !== "listening") return;
  enter(mine, "finishing");
  mine.ended_at = performance.now();
  await mine.mic.stop();
  mine.finish();
}

function cancel() {
  if (current === null) return;
  current.cancelled = true;
  current.stream?.cancel();
  wave.clear();
  view.empty();
  $("#live").dataset.phase = "idle";
  tell("Cancelled");
}

function lost(mine) {
  complain(new SaysoError("microphone_lost", "the microphone went away; what it heard until then is understood"));
  if (mine === current) finish();
}

// ---- the button, the keys, recordings ----

function press() {
  if (current === null) {
    pressed_at = performance.now();
    understand("spoken", "opening", speak);
  } else if (current.phase === "listening") finish();
  else if (current.phase === "opening") cancel();
}

function letGo() {
  if (pressed_at === null) return;
  pressed_at = null;
  if (current?.held) finish();
}

/** Whether the press is a long one; known when it is let go, or has been long enough. */
async function isHeld() {
  while (pressed_at !== null && performance.now() - pressed_at < HOLD_MS) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return pressed_at !== null;
}

async function take(files) {
  if (current !== null) return;
  for (const file of files) await listenTo(file);
}

const button = $("#speak");
button.onpointerdown = (event) => {
  if (event.button !== 0) return;
  button.setPointerCapture(event.pointerId);
  press();
};
button.onpointerup = button.onpointercancel = letGo;
button.oncontextmenu = (event) => event.preventDefault();
button.onclick = ({ detail }) => detail === 0 && (press(), letGo()); // Enter, or a screen reader

const typing = ({ target }) => target !== button && target.closest("input, select, textarea, button, a, summary") !== null;
addEventListener("keydown", (event) => {
  if (event.key === "Escape") cancel();
  if (event.code !== "Space" || event.ctrlKey || event.altKey || event.metaKey || typing(event)) return;
  event.preventDefault();
  if (!event.repeat) press();
});
addEventListener("keyup", (event) => {
  if (event.code !== "Space") return;
  if (event.target === button) event.preventDefault(); // no click of its own
  letGo();
});
addEventListener("blur", letGo);

$("#file").onchange = async ({ target }) => {
  await take([...target.files]);
  target.value = "";
};
$("#clear").onclick = () => {
  $("#earlier ol").replaceChildren();
  $("#earlier").hidden = true;
};
const brings = (event) => event.dataTransfer?.types.includes("Files");
addEventListener("dragover", (event) => {
  if (!brings(event)) return;
  event.preventDefault();
  $("#drop").hidden = false;
});
addEventListener("dragleave", ({ relatedTarget }) => relatedTarget === null && ($("#drop").hidden = true));
addEventListener("drop", (event) => {
  $("#drop").hidden = true;
  if (!brings(event)) return;
  event.preventDefault();
  take([...event.dataTransfer.files]);
});

show("idle");
look();
