// The dream without its page: the networks, the noise, and the state that they move on.

import * as ort from "./ort.wasm.bundle.min.mjs";

ort.env.wasm.numThreads = 1; // more would need cross-origin headers
ort.env.logLevel = "error";

/** Reads a file of the folder. */
async function fetched(folder, name) {
  const answer = await fetch(new URL(name, folder));
  if (!answer.ok) throw new Error(`${name} cannot be read (${answer.status})`);
  return answer.arrayBuffer();
}

/** Unpacks gzip, unless the server has said that it is gzip, and the browser has unpacked it. */
async function unpacked(buffer) {
  const [first, second] = new Uint8Array(buffer, 0, 2);
  if (first !== 0x1f || second !== 0x8b) return buffer;
  const stream = new Blob([buffer]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

/** Random numbers of a seed: sfc32, seeded by splitmix32. */
export class Noise {
  constructor(seed) {
    let mixed = Number(seed) >>> 0;
    const split = () => {
      mixed = (mixed + 0x9e3779b9) >>> 0;
      let t = Math.imul(mixed ^ (mixed >>> 16), 0x21f0aaad);
      t = Math.imul(t ^ (t >>> 15), 0x735a2d97);
      return (t ^ (t >>> 15)) >>> 0;
    };
    this.state = [split(), split(), split(), 1];
    for (let i = 0; i < 12; i++) this.uniform();
  }

  /** In [0, 1). */
  uniform() {
    const s = this.state;
    const t = (s[0] + s[1] + s[3]) >>> 0;
    s[3] = (s[3] + 1) >>> 0;
    s[0] = (s[1] ^ (s[1] >>> 9)) >>> 0;
    s[1] = (s[2] + (s[2] << 3)) >>> 0;
    s[2] = (((s[2] << 21) | (s[2] >>> 11)) + t) >>> 0;
    return t / 2 ** 32;
  }

  /** Of the standard normal distribution, by Box and Muller's method. */
  normal() {
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
    return radius * Math.cos(2 * Math.PI * this.uniform());
  }

  /** What a step needs: noise of z, and a sample of the logistic distribution for its end. */
  step(uniforms, normals) {
    const end = this.uniform();
    return {
      uniforms: Float32Array.from({ length: uniforms }, () => this.uniform()),
      normals: Float32Array.from({ length: normals }, () => this.normal()),
      end: Math.log((end + 2 ** -33) / (1 - end)),
    };
  }
}

export class Dream {
  /** Loads an exported folder. */
  static async load(folder = new URL(".", document.baseURI)) {
    const read = (name) => fetched(folder, name);
    const graphs = ["decoder", "mdnrnn", "controller"];
    const [manifest, starts, wasm, ...files] = await Promise.all([
      read("dream.json").then((buffer) => JSON.parse(new TextDecoder().decode(buffer))),
      read("starts.bin"),
      read("ort-wasm-simd-threaded.wasm.gz").then(unpacked),
      ...graphs.map((name) => read(`${name}.onnx`)),
    ]);
    ort.env.wasm.wasmBinary = wasm;
    const sessions = {};
    for (const [place, name] of graphs.entries()) {
      const options = { executionProviders: ["wasm"] };
      sessions[name] = await ort.InferenceSession.create(new Uint8Array(files[place]), options);
    }
    return new Dream(manifest, new Float32Array(starts), sessions);
  }

  constructor(manifest, starts, sessions) {
    Object.assign(this, { manifest, starts, sessions });
    this.temperature = manifest.temperature;
    this.begin(0);
  }

  /** Begins a dream: the seed decides its noise and, unless `start` is given, where it begins. */
  begin(seed, start = null) {
    const { latent, hidden, windows } = this.manifest;
    this.noise = new Noise(seed);
    const chosen = Math.floor(this.noise.uniform() * windows);
    const size = latent + 2 * hidden + 1;
    const row = this.starts.slice((start ?? chosen) * size, ((start ?? chosen) + 1) * size);
    this.z = row.slice(0, latent);
    this.h = row.slice(latent, latent + hidden);
    this.c = row.slice(latent + hidden, latent + 2 * hidden);
    this.first = row.slice(-1);
    this.steps = 0;
    this.ended = "";
  }

  /** Dreams one step with an action; returns what M says of it. */
  async step(action, noise = null) {
    const { latent, uniforms, ends, horizon } = this.manifest;
    const { uniforms: u, normals, end: chance } = noise ?? this.noise.step(uniforms, latent);
    const temperature = Float32Array.of(this.temperature);
    const { z, h, c, first } = this;
    const given = { z, h, c, first, action, uniforms: u, normals, temperature };
    const found = await this.#run("mdnrnn", given);
    [this.z, this.h, this.c] = [found.next_z, found.next_h, found.next_c];
    this.first = Float32Array.of(0);
    this.steps += 1;
    const [reward, end, entropy] = [found.reward[0], found.end[0], found.entropy[0]];
    const threshold = ends === "sampled" ? chance : 0;
    if (ends !== "none" && end > threshold) this.ended = "end";
    else if (this.steps >= horizon) this.ended = "time";
    return { reward, end, entropy };
  }

  /** The agent's action in the present state. */
  async agent() {
    const { z, h, c } = this;
    return (await this.#run("controller", { z, h, c })).action;
  }

  /** The picture of z: its pixels, red, green and blue bytes. */
  async frame() {
    return (await this.#run("decoder", { z: this.z })).frame;
  }

  async #run(name, arrays) {
    const session = this.sessions[name];
    const lane = new Set(["first", "temperature"]); // one number each; the others have a lane's axis
    const feeds = {};
    for (const input of session.inputNames) {
      const data = arrays[input];
      const shape = lane.has(input) ? [1] : [1, data.length];
      feeds[input] = new ort.Tensor("float32", data, shape);
    }
    const found = await session.run(feeds);
    return Object.fromEntries(session.outputNames.map((output) => [output, found[output].data]));
  }
}
