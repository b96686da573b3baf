// The page: who acts, when a step is due, and what is drawn.

import { Dream } from "./dream.js";

const AGAIN = 2000; // milliseconds for which an end is shown before the next dream begins
const SHOWN = 120; // steps of a curve
const SEEDS = 2 ** 32;
const byId = (id) => document.getElementById(id);

const say = (text) => {
  if (byId("message").textContent !== text) byId("message").textContent = text;
};

class Page {
  constructor(dream) {
    Object.assign(this, { dream, about: dream.manifest });
    this.driver = "agent"; // or you, or recording
    this.running = true;
    this.held = new Set(); // pads that are pressed, the last one last
    this.comparing = -1; // the recording that is shown
    this.films = this.about.recordings.map(() => null);
    this.contexts = ["dream", "reality"].map((id) => byId(id).getContext("2d"));
    this.pixels = new ImageData(this.about.size, this.about.size);
    this.work = Promise.resolve(); // steps happen one after the other
    this.due = 0;
    this.#describe();
    this.#makePads();
    this.#listen();
  }

  async start() {
    await this.restart();
    performance.mark("first-frame");
    for (const control of document.querySelectorAll("button, input")) control.disabled = false;
    const tick = async (now) => {
      const wait = this.over ? AGAIN : 1000 / this.about.rate;
      if (this.running && now >= this.due) {
        this.due = Math.max(this.due + wait, now);
        await this.advance();
        if (this.over) this.due = performance.now() + AGAIN;
      }
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  }

  get recording() {
    return this.about.recordings[this.comparing] ?? null;
  }

  /** Whether nothing more happens until the next dream begins. */
  get over() {
    const { recording, dream } = this;
    if (recording === null) return dream.ended !== "";
    return this.moment >= recording.actions.length && (dream.ended !== "" || this.driver === "recording");
  }

  /** Begins the dream of the seed anew. */
  restart() {
    return this.#queued(async () => {
      this.dream.begin(this.seed, this.recording?.start ?? null);
      Object.assign(this, { total: 0, real: 0, moment: 0, said: null, action: this.about.rest });
      this.history = { entropy: [], reward: [], end: [] };
      this.due = performance.now() + 1000 / this.about.rate;
      await this.#draw();
    });
  }

  /** One step; after an end, the next dream. */
  advance() {
    if (this.over) {
      this.seed = (this.seed + 1) % SEEDS;
      if (this.recording) this.comparing = (this.comparing + 1) % this.films.length;
      return this.restart();
    }
    return this.#queued(async () => {
      const { dream, recording } = this;
      if (dream.ended === "" && (this.action = await this.#chosen())) {
        this.said = await dream.step(Float32Array.from(this.action));
        this.total += this.said.reward;
        for (const [name, curve] of Object.entries(this.history)) {
          curve.push(name === "end" ? 1 / (1 + Math.exp(-this.said.end)) : this.said[name]);
          if (curve.length > SHOWN) curve.shift();
        }
      }
      if (recording && this.moment < recording.actions.length) {
        this.real += recording.rewards[this.moment];
        this.moment += 1;
      }
      await this.#draw();
    });
  }

  drive(driver) {
    this.driver = driver;
    this.#describe();
  }

  get seed() {
    return Math.min(SEEDS - 1, Math.max(0, Math.floor(Number(byId("seed").value)) || 0));
  }

  set seed(value) {
    byId("seed").value = String(value);
  }

  compare() {
    this.comparing = this.comparing < 0 ? 0 : -1;
    this.driver = this.comparing < 0 ? "agent" : "recording";
    return this.restart();
  }

  pause() {
    this.running = !this.running;
    this.due = performance.now();
    this.#describe();
  }

  step() {
    if (this.running) this.pause();
    return this.advance();
  }

  #queued(task) {
    this.work = this.work.then(task).catch((error) => this.#fail(error));
    return this.work;
  }

  #fail(error) {
    this.running = false;
    say(`The dream has stopped: ${error.message ?? error}. Reload the page.`);
  }

  async #chosen() {
    if (this.driver === "agent") return this.dream.agent();
    if (this.driver === "recording") return this.recording?.actions[this.moment] ?? null;
    return this.#pressed();
  }

  /** The action of the pads that are pressed. */
  #pressed() {
    const action = [...this.about.rest];
    for (const { start, values } of this.held) action.splice(start, values.length, ...values);
    return action;
  }

  /** How much of an action is a pad's, from 0 to 1. */
  #share({ start, values }) {
    const now = this.action.slice(start, start + values.length);
    if (values.length > 1) return Number(values.every((value, i) => value === now[i]));
    const rest = this.about.rest[start];
    return Math.min(1, Math.max(0, (now[0] - rest) / (values[0] - rest)));
  }

  async #draw() {
    const frame = await this.dream.frame();
    for (let i = 0, j = 0; i < frame.length; i += 3, j += 4) {
      this.pixels.data.set([frame[i], frame[i + 1], frame[i + 2], 255], j);
    }
    this.contexts[0].putImageData(this.pixels, 0, 0);
    if (this.recording) await this.#drawReality();
    this.#describe();
    for (const pad of this.about.pads) {
      pad.button.style.setProperty("--height", `${100 * this.#share(pad)}%`);
    }
    this.#drawPanel();
  }

  async #drawReality() {
    const { recording, comparing } = this;
    this.films[comparing] ??= await picture(recording.film);
    const place = Math.min(this.moment, recording.actions.length - 1);
    const { size } = this.about;
    const [x, y] = [size * (place % 16), size * Math.floor(place / 16)];
    this.contexts[1].drawImage(this.films[comparing], x, y, size, size, 0, 0, size, size);
  }

  #drawPanel() {
    const colors = getComputedStyle(document.documentElement);
    const accent = colors.getPropertyValue("--accent");
    const line = colors.getPropertyValue("--line");
    drawBars(byId("z"), this.dream.z, 3, accent, line);
    const most = Math.log(this.about.mixtures);
    drawCurve(byId("entropy"), this.history.entropy, 0, most, accent, line);
    const rewards = this.history.reward;
    const [least, largest] = [Math.min(0, ...rewards), Math.max(0.01, ...rewards)];
    drawCurve(byId("reward"), rewards, least, largest, accent, line);
    const likely = Math.max(0.05, ...this.history.end);
    drawCurve(byId("end"), this.history.end, 0, likely, colors.getPropertyValue("--other"), line);
    for (const [name, digits] of Object.entries({ entropy: 2, reward: 2, end: 3 })) {
      byId(`${name}-value`).textContent = this.history[name].at(-1)?.toFixed(digits) ?? "-";
    }
  }

  /** Everything on the page that is text or state. */
  #describe() {
    const { driver, dream, recording, running } = this;
    const seconds = (steps) => `${(steps / this.about.rate).toFixed(1)} s`;
    const drivers = { agent: "agent", you: "you", recording: "recording" };
    byId("who").textContent = drivers[driver];
    byId("driver-text").textContent = driver === "you" ? "Hand back" : "Take over";
    byId("pause-text").textContent = running ? "Pause" : "Resume";
    byId("alive").textContent = seconds(dream.steps);
    byId("alive").dataset.steps = String(dream.steps);
    byId("return").textContent = (this.total ?? 0).toFixed(1);
    byId("compare").setAttribute("aria-pressed", String(recording !== null));
    byId("compare-text").textContent = recording ? "Show the dream only" : "What would reality do?";
    byId("reality-figure").hidden = recording === null;
    if (recording) {
      const done = this.moment >= recording.actions.length;
      const end = done ? (recording.ended ? ", the end" : ", cut here") : "";
      byId("reality-caption").textContent = `reality, return ${this.real.toFixed(1)}${end}`;
    }
    say(this.#message());
  }

  #message() {
    const { dream, recording, driver } = this;
    const seconds = (dream.steps / this.about.rate).toFixed(1);
    const end = { end: "The dream has ended", time: "The dream has reached its time limit" }[dream.ended];
    const next = this.running ? " The next one begins soon." : "";
    if (end) return `${end} after ${seconds} s.${this.over ? next : ""}`;
    if (recording && driver === "recording") {
      return "Same start, same actions. Take over to act differently.";
    }
    if (recording) return "Same start, other actions: dream and reality now differ.";
    return driver === "you" ? "You act. Hold a button or its key." : "The agent acts.";
  }

  #makePads() {
    for (const pad of this.about.pads) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(pad.label, " ");
      if (pad.key) {
        const arrows = { ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓" };
        const key = document.createElement("kbd");
        key.textContent = arrows[pad.key] ?? pad.key.toUpperCase();
        key.setAttribute("aria-hidden", "true");
        button.append(key);
        button.setAttribute("aria-keyshortcuts", pad.key);
      }
      pad.button = button;
      button.addEventListener("pointerdown", (event) => {
        if (event.button !== 0) return;
        button.setPointerCapture(event.pointerId);
        this.#hold(pad);
      });
      for (const name of ["pointerup", "pointercancel", "lostpointercapture", "blur"]) {
        button.addEventListener(name, () => this.held.delete(pad));
      }
      button.addEventListener("contextmenu", (event) => event.preventDefault());
      button.addEventListener("keydown", (event) => {
        if (event.key === " " || event.key === "Enter") {
          event.preventDefault();
          this.#hold(pad);
        }
      });
      button.addEventListener("keyup", (event) => {
        if (event.key === " " || event.key === "Enter") this.held.delete(pad);
      });
      byId("pads").append(button);
    }
  }

  #hold(pad) {
    this.held.delete(pad);
    this.held.add(pad);
    if (this.driver !== "you") this.drive("you");
  }

  #listen() {
    const drive = () => this.drive(this.driver === "you" ? "agent" : "you");
    const commands = {
      a: ["driver", drive],
      p: ["pause", () => this.pause()],
      s: ["step", () => this.step()],
      r: ["restart", () => this.restart()],
      w: ["compare", () => this.compare()],
    };
    for (const [id, command] of Object.values(commands)) byId(id).addEventListener("click", command);
    const keyed = new Map(this.about.pads.map((pad) => [pad.key.toLowerCase(), pad]));
    document.addEventListener("keydown", (event) => {
      if (event.target instanceof HTMLInputElement || event.ctrlKey || event.metaKey || event.altKey) {
        return;
      }
      const key = event.key.toLowerCase();
      const pad = keyed.get(key);
      if (pad) {
        event.preventDefault(); // arrows would scroll the page
        if (!event.repeat) this.#hold(pad);
      } else if (!event.repeat && key in commands) {
        const [id, command] = commands[key];
        if (!byId(id).hidden) command();
      }
    });
    document.addEventListener("keyup", (event) => {
      this.held.delete(keyed.get(event.key.toLowerCase()));
    });
    window.addEventListener("blur", () => this.held.clear());
    byId("temperature").addEventListener("input", (event) => {
      this.dream.temperature = Number(event.target.value);
      byId("temperature-value").textContent = this.dream.temperature.toFixed(2);
    });
    byId("seed").addEventListener("change", () => {
      this.seed = this.seed; // within its range
      this.restart();
    });
  }
}

async function picture(name) {
  const image = new Image();
  image.src = name;
  await image.decode();
  return image;
}

/** A canvas of as many pixels as it has on the screen, cleared. */
function cleared(canvas) {
  const scale = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((x) => Math.round(x * scale));
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  return [context, width, height, scale];
}

function drawBars(canvas, values, largest, color, line) {
  const [context, width, height, scale] = cleared(canvas);
  const [middle, each] = [height / 2, width / values.length];
  context.fillStyle = line;
  context.fillRect(0, middle, width, scale);
  context.fillStyle = color;
  values.forEach((value, i) => {
    const length = Math.max(-1, Math.min(1, value / largest)) * middle;
    context.fillRect(i * each, middle - Math.max(0, length), each * 0.7, Math.abs(length));
  });
}

function drawCurve(canvas, values, least, largest, color, line) {
  const [context, width, height, scale] = cleared(canvas);
  const place = (value) => scale + (height - 2 * scale) * (1 - (value - least) / (largest - least));
  context.fillStyle = line;
  context.fillRect(0, place(0) - scale / 2, width, scale);
  context.strokeStyle = color;
  context.lineWidth = 2 * scale;
  context.beginPath();
  values.forEach((value, i) => context.lineTo((width * i) / (SHOWN - 1), place(value)));
  context.stroke();
}

try {
  const dream = await Dream.load();
  await new Page(dream).start();
} catch (error) {
  say(`The dream cannot be shown: ${error.message ?? error}`);
  throw error;
}
