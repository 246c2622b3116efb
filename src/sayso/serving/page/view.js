/** What the page shows: the waveform, text as it grows, what it means, and what was understood before. */

const HOP_S = 0.01; // of sound, a peak each
const LEAST_S = 3; // that the width of the picture stands for
const KEPT = 10; // results

const $ = (selector) => document.querySelector(selector);

/** An element with text and attributes. */
function make(tag, text = "", attributes = {}, ...children) {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const humanised = (name) => name.replaceAll("_", " ");
const percent = (share) => (share === null ? "" : `${Math.round(share * 100)} %`);
const seconds = (s, digits = 2) => `${s.toFixed(digits)} s`;

const most = (numbers, least = 0) => numbers.reduce((a, b) => Math.max(a, b), least);

const DECISIONS = {
  accept: ["✓ Accepted", () => ""],
  clarify: ["? A question back", () => "It wants to be sure before it acts."],
  reject: ["✕ Not accepted", (result) => REASONS[result.reason] ?? ""],
};
const REASONS = {
  low_confidence: "It is not sure enough what was meant.",
  out_of_domain: "This is nothing that the bundle understands.",
  no_speech: "No speech was heard.",
  too_noisy: "It was too noisy.",
  truncated: "It was too long; the end was cut off.",
};

/** The sound so far, over its whole length; slots of a result stand under the time at which they were said. */
export class Wave {
  peaks = [];
  #rate = 16000;
  #filled = 0;
  #peak = 0;
  #drawing = 0;

  constructor() {
    new ResizeObserver(() => this.#draw()).observe($("#wave"));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
  }

  get length_s() {
    return this.peaks.length * HOP_S;
  }

  clear(rate = 16000) {
    this.peaks = [];
    [this.#rate, this.#filled, this.#peak] = [rate, 0, 0];
    $("#bands").replaceChildren();
    this.#soon();
  }

  add(samples) {
    const hop = this.#rate * HOP_S;
    for (const sample of samples) {
      this.#peak = Math.max(this.#peak, Math.abs(sample));
      if (++this.#filled >= hop) {
        this.peaks.push(this.#peak);
        [this.#filled, this.#peak] = [0, 0];
      }
    }
    this.#soon();
  }

  /** Forget what came after `end_s`; the peaks that stay. */
  cut(end_s) {
    this.peaks.length = Math.min(this.peaks.length, Math.round(end_s / HOP_S));
    this.#soon();
    return this.peaks;
  }

  show(peaks) {
    this.clear();
    this.peaks = peaks;
    this.#soon();
  }

  /** Bands under the slots of a result whose times count from `offset_s`. */
  mark(slots, offset_s) {
    const width_s = Math.max(LEAST_S, this.length_s);
    const bands = slots.filter((slot) => slot.start !== null).map((slot) => {
      const band = make("span", humanised(slot.name));
      band.style.left = `${(100 * (offset_s + slot.start)) / width_s}%`;
      band.style.width = `${(100 * (slot.end - slot.start)) / width_s}%`;
      return band;
    });
    $("#bands").replaceChildren(...bands);
  }

  #soon() {
    this.#drawing ||= requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.#drawing = 0;
    const canvas = $("#wave canvas");
    const [width, height, fine] = [canvas.clientWidth, canvas.clientHeight, devicePixelRatio];
    Object.assign(canvas, { width: width * fine, height: height * fine });
    canvas.setAttribute("aria-label", this.peaks.length ? `Sound, ${this.length_s.toFixed(1)} seconds` : "No sound yet");
    $("#hint").hidden = this.peaks.length > 0;
    const pen = canvas.getContext("2d");
    pen.scale(fine, fine);
    const style = getComputedStyle(canvas);
    pen.fillStyle = style.getPropertyValue("--line");
    pen.fillRect(0, height / 2, width, 1);
    pen.fillStyle = style.getPropertyValue("--accent");
    const shown = Math.max(LEAST_S / HOP_S, this.peaks.length);
    const loudest = most(this.peaks, 0.1);
    const bars = Math.floor(width / 4); // three wide, one apart
    for (let bar = 0; bar < bars; bar++) {
      const [from, to] = [Math.floor((bar * shown) / bars), Math.ceil(((bar + 1) * shown) / bars)];
      const here = this.peaks.slice(from, to);
      if (here.length === 0) break;
      const high = Math.max(3, (most(here) / loudest) * (height - 8));
      pen.beginPath();
      pen.roundRect(bar * 4, (height - high) / 2, 3, high, 1.5);
      pen.fill();
    }
  }
}

/** A fresh sheet for what is said next. */
export function empty() {
  for (const id of ["#decision", "#prompt", "#written", "#figures"]) $(id).hidden = true;
  $("#decision").dataset.decision = "none";
  $("#live").dataset.phase = "listening";
  $("#stable").replaceChildren();
  $("#rest").replaceChildren();
  $("#meaning").replaceChildren();
}

/** What is understood so far: the text that stays darker than the rest, and the last intent that was in sight. */
export function partial(result) {
  const stays = result.text.startsWith(result.stable) ? result.stable : "";
  $("#stable").textContent = stays;
  $("#rest").textContent = result.text.slice(stays.length);
  if (result.intent) $("#meaning").replaceChildren(frame(result.intent, result.slots, true));
}

/** A final result. `entry`: {result, offset_s, latency_ms, after, known_s, peaks, source, bundle}. */
export function final(entry, wave) {
  const { result, offset_s } = entry;
  $("#live").dataset.phase = "final";
  $("#stable").replaceChildren(...marked(result));
  $("#rest").textContent = "";
  if (!result.text) $("#stable").replaceChildren(make("i", "(nothing)", { class: "muted" }));
  const written = result.display && result.display.toLowerCase() !== result.text.toLowerCase();
  $("#written").hidden = !written;
  $("#written").textContent = written ? `Written: ${result.display}` : "";
  const [word, more] = DECISIONS[result.decision];
  $("#decision").dataset.decision = result.decision;
  $("#decision b").textContent = word;
  $("#decision span").textContent = more(result);
  $("#decision").hidden = false;
  $("#prompt").hidden = !result.prompt;
  $("#prompt").textContent = result.prompt ?? "";
  const frames = result.frames.length > 1 ? result.frames : result.intent ? [result] : [];
  $("#meaning").replaceChildren(...frames.map(({ intent, slots }) => frame(intent, slots, false, offset_s)));
  const guess = result.alternatives.find((other) => other.intent);
  if (frames.length === 0 && guess) {
    $("#meaning").append(make("p", `The nearest would have been: ${humanised(guess.intent)}`, { class: "muted" }));
  }
  wave.mark(result.slots, offset_s);
  $("#length").textContent = seconds(result.timing.audio_s);
  $("#known").replaceChildren(
    entry.known_s === null ? "with the result" : seconds(entry.known_s),
    make("small", entry.known_s === null ? "" : "into the speech"),
  );
  $("#latency").replaceChildren(
    entry.latency_ms === null ? "–" : `${Math.round(entry.latency_ms)} ms`, make("small", entry.after),
  );
  $("#figures").hidden = false;
}

/** The text, with the words of slots marked. */
function marked({ text, words, slots }) {
  if (words.map((word) => word.text).join(" ") !== text) return [text];
  const parts = [];
  let before = null;
  for (const [number, word] of words.entries()) {
    const middle = (word.start + word.end) / 2;
    const slot = slots.find(({ start, end }) => start !== null && middle > start && middle < end) ?? null;
    if (slot !== null && slot === before) {
      parts.at(-1).textContent += ` ${word.text}`;
    } else {
      if (number > 0) parts.push(" ");
      parts.push(slot === null ? word.text : make("mark", word.text, { title: humanised(slot.name) }));
    }
    before = slot;
  }
  return parts;
}

function frame(intent, slots, early, offset_s = 0) {
  const name = make("strong", humanised(intent.name), { class: "intent" });
  const sure = make("span", early ? "so far" : intent.confidence === null ? "" : `${percent(intent.confidence)} sure`, { class: early ? "early" : "sure" });
  const made = make("div", "", { class: early ? "frame early" : "frame" }, make("p", "", { class: "head" }, name, sure));
  if (!early && intent.confidence !== null) made.append(make("meter", "", { min: 0, max: 1, value: intent.confidence, "aria-label": "confidence of the intent" }));
  if (slots.length > 0) made.append(table(slots, early, offset_s));
  return made;
}

function table(slots, early, offset_s) {
  const names = ["Slot", "Value", "Said at", "Confidence"];
  const rows = slots.map((slot) => {
    const said = slot.text && slot.text !== slot.value ? [make("small", `“${slot.text}”`)] : [];
    const time = slot.start === null ? "" : `${(offset_s + slot.start).toFixed(2)}–${seconds(offset_s + slot.end)}`;
    const cells = [make("td", slot.value, { class: "value" }, ...said), make("td", time), make("td", percent(slot.confidence))];
    return make("tr", "", {}, make("th", humanised(slot.name), { scope: "row" }), ...cells);
  });
  const head = make("tr", "", {}, ...names.map((name) => make("th", name, { scope: "col" })));
  return make("table", "", { class: early ? "early" : "" }, make("thead", "", {}, head), make("tbody", "", {}, ...rows));
}

/** One sentence for those who listen to the page. */
export function spoken(result) {
  const slots = result.slots.map((slot) => `${humanised(slot.name)} ${slot.value}`).join(", ");
  const meaning = result.intent ? `${humanised(result.intent.name)}${slots ? `, ${slots}` : ""}` : "";
  const [word, more] = DECISIONS[result.decision];
  return [word.slice(2), meaning, result.decision === "reject" ? more(result) : "", result.prompt ?? ""].filter(Boolean).join(". ");
}

/** Put a result on top of the earlier ones; `again` shows it again. */
export function remember(entry, again) {
  const { result } = entry;
  const [word] = DECISIONS[result.decision];
  const slots = result.slots.map((slot) => `${humanised(slot.name)} = ${slot.value}`).join(", ");
  const meaning = result.intent ? humanised(result.intent.name) + (slots ? ` · ${slots}` : "") : REASONS[result.reason];
  const button = make("button", "", { type: "button", "data-decision": result.decision },
    make("span", word, { class: "word" }), make("span", result.text || "(nothing)", { class: "said" }),
    make("small", meaning), make("small", entry.source));
  button.onclick = () => again(entry);
  const list = $("#earlier ol");
  list.prepend(make("li", "", {}, button));
  while (list.children.length > KEPT) list.lastChild.remove();
  $("#earlier").hidden = false;
}

/** What a bundle understands. */
export function domain(bundle) {
  $("#domain").hidden = !bundle;
  if (!bundle) return;
  const languages = new Intl.DisplayNames(["en"], { type: "language" });
  $("#domain p").textContent = `${humanised(bundle.domain ?? bundle.name)}, ${bundle.languages.map((l) => languages.of(l)).join(", ")}`;
  $("#domain ul").replaceChildren(...bundle.intents.map((name) => make("li", humanised(name))));
}
