// The echo meter. A message costs no layout: figures are written a few times a second, the plot is drawn in frames.

import { Histogram } from "./histogram.js";
import { makePayload } from "./payload.js";
import { duration, Plot } from "./plot.js";
import { keepOpen } from "./socket.js";

const SAMPLE = 200; // milliseconds
const MOST_BYTES = 8 * 1024 * 1024; // on their way at once

const $ = (id) => document.getElementById(id);
const settings = $("settings");
const start = $("start");
const verdict = $("verdict");
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const still = matchMedia("(prefers-reduced-motion: reduce)");
const plot = new Plot($("plot"));

let socket = null;
let run = null;

class Run {
  constructor({ kind, size, window, count }) {
    this.payload = makePayload(kind, size);
    this.size = size;
    this.total = count || Infinity;
    this.window = Math.min(window, Math.max(1, MOST_BYTES / size));
    this.sentAt = new Float64Array(this.window);
    this.sent = this.echoed = this.mismatches = 0;
    this.all = new Histogram();
    this.recent = new Histogram();
    this.began = this.sampledAt = performance.now();
    this.sampledEchoed = 0;
  }

  fill() {
    while (this.sent < this.total && this.sent - this.echoed < this.window) {
      this.sentAt[this.sent % this.window] = performance.now();
      socket.send(this.payload.make(this.sent++));
    }
  }

  // What comes back comes in order, so that its place says which it has to be.
  take(data) {
    const now = performance.now();
    const took = now - this.sentAt[this.echoed % this.window];
    this.all.add(took);
    this.recent.add(took);
    if (!this.payload.matches(data, this.echoed)) this.mismatches++;
    this.echoed++;
    if (now - this.sampledAt >= SAMPLE) this.sample(now);
    if (this.echoed >= this.total) finish();
    else this.fill();
  }

  sample(now) {
    const rate = ((this.echoed - this.sampledEchoed) * 1000) / (now - this.sampledAt);
    if (this.recent.total) {
      plot.push({ at: now, rate, p50: this.recent.percentile(50), p99: this.recent.percentile(99) });
      this.show(rate);
    }
    this.recent.clear();
    this.sampledAt = now;
    this.sampledEchoed = this.echoed;
  }

  show(rate) {
    $("rate").textContent = whole.format(rate);
    $("p50").textContent = duration(this.all.percentile(50));
    $("p99").textContent = duration(this.all.percentile(99));
    $("echoed").textContent = whole.format(this.echoed);
    $("mismatches").textContent = whole.format(this.mismatches);
    $("mismatches").classList.toggle("bad", this.mismatches > 0);
    $("throughput").textContent = bytes(rate * this.size);
  }
}

function bytes(perSecond) {
  if (perSecond >= 1e9) return `${(perSecond / 1e9).toFixed(2)} GB/s`;
  return perSecond >= 1e6 ? `${(perSecond / 1e6).toFixed(1)} MB/s` : `${(perSecond / 1e3).toFixed(1)} kB/s`;
}

function say(text, bad = false) {
  verdict.textContent = text;
  verdict.classList.toggle("bad", bad);
}

function begin() {
  const chosen = Object.fromEntries(new FormData(settings));
  run = new Run({ kind: chosen.kind, size: +chosen.size, window: +chosen.window, count: +chosen.count });
  for (const field of settings.querySelectorAll("fieldset")) field.disabled = true;
  start.textContent = "Stop";
  say(run.window === 1 ? "Running, one at a time." : `Running, ${run.window} at a time.`);
  run.fill();
  requestAnimationFrame(frame);
}

function finish(lost = false) {
  const done = run;
  run = null;
  const now = performance.now();
  if (now - done.sampledAt > SAMPLE / 4 || done.sampledAt === done.began) done.sample(now);
  plot.push({ at: now, rate: NaN, p50: NaN, p99: NaN });
  plot.draw(now);
  if (done.echoed) done.show((done.echoed * 1000) / (now - done.began));
  for (const field of settings.querySelectorAll("fieldset")) field.disabled = false;
  start.textContent = "Start";
  const messages = done.echoed === 1 ? "1 message" : `${whole.format(done.echoed)} messages`;
  if (done.mismatches) say(`${whole.format(done.mismatches)} of ${messages} came back changed.`, true);
  else if (lost) say(`The connection broke after ${messages}; ${done.sent - done.echoed} were not answered.`, true);
  else say(`Done: ${messages} came back as sent.`);
}

let drawnAt = 0;

function frame(now) {
  if (!run) return;
  if (now - run.sampledAt >= 5 * SAMPLE) run.sample(now); // nothing comes: the clock goes on
  if (!still.matches || now - drawnAt >= SAMPLE) {
    plot.draw(Math.max(now, run.sampledAt));
    drawnAt = now;
  }
  requestAnimationFrame(frame);
}

settings.addEventListener("submit", (event) => {
  event.preventDefault();
  if (!run) begin();
  else run.total = run.sent; // what is on its way comes back first
});

keepOpen("/echo", $("meter-status"), {
  opened(fresh) {
    socket = fresh;
    start.disabled = false;
  },
  message(data) {
    run?.take(data);
  },
  lost() {
    socket = null;
    start.disabled = true;
    if (run) finish(true);
  },
});

$("url").textContent = new URL("/echo", location.href.replace(/^http/, "ws")).href;
