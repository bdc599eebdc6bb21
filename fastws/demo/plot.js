// The last seconds on a canvas: messages per second as an area, and below it the round trip's percentiles as lines.

export const SPAN = 20_000; // milliseconds from edge to edge

const GAP = 22;
const LEFT = 52;
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export class Plot {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.samples = []; // {at, rate, p50, p99}; a rate of NaN breaks the line
    new ResizeObserver(() => this.resize()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.resize());
    this.now = 0;
  }

  push(sample) {
    this.samples.push(sample);
    while (this.samples[1]?.at < sample.at - SPAN) this.samples.shift();
  }

  resize() {
    const style = getComputedStyle(this.canvas);
    const color = (name) => style.getPropertyValue(name).trim();
    this.colors = { rate: color("--rate"), p50: color("--p50"), p99: color("--p99"), grid: color("--line"), ink: color("--quiet") };
    this.font = `11px ${style.fontFamily}`;
    const { width, height } = this.canvas.getBoundingClientRect();
    this.width = width;
    this.height = height;
    this.canvas.width = width * devicePixelRatio;
    this.canvas.height = height * devicePixelRatio;
    this.draw(this.now);
  }

  draw(now) {
    this.now = now;
    if (!this.colors) return;
    const { context, width, height } = this;
    context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    context.clearRect(0, 0, width, height);
    context.font = this.font;
    const half = (height - GAP) / 2;
    const x = (sample) => width - ((now - sample.at) / SPAN) * (width - LEFT);
    this.drawRate(x, 8, half);
    this.drawTimes(x, half + GAP, height - 4);
    if (this.samples.length === 0) {
      context.fillStyle = this.colors.ink;
      context.textAlign = "center";
      context.fillText("Press Start", LEFT + (width - LEFT) / 2, half / 2 + 8);
    }
  }

  drawRate(x, top, bottom) {
    const most = niceAbove(Math.max(1, ...this.samples.map((one) => one.rate || 0)));
    const y = (rate) => bottom - (rate / most) * (bottom - top);
    for (const value of [0, most / 2, most]) this.gridLine(y(value), compact.format(value));
    this.trace(x, (one) => y(one.rate), this.colors.rate, bottom);
  }

  // On a logarithmic scale: a p99 may be a hundred times the p50.
  drawTimes(x, top, bottom) {
    const known = this.samples.flatMap((one) => [one.p50, one.p99]).filter((value) => value > 0);
    const low = Math.floor(Math.log10(Math.min(...known, 0.1)));
    const high = Math.max(Math.ceil(Math.log10(Math.max(...known, 10))), low + 2);
    const y = (value) => bottom - ((Math.log10(value) - low) / (high - low)) * (bottom - top);
    for (let power = low; power <= high; power++) this.gridLine(y(10 ** power), duration(10 ** power));
    this.trace(x, (one) => y(one.p99), this.colors.p99);
    this.trace(x, (one) => y(one.p50), this.colors.p50);
  }

  gridLine(y, label) {
    const { context } = this;
    context.strokeStyle = this.colors.grid;
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(LEFT, Math.round(y) + 0.5);
    context.lineTo(this.width, Math.round(y) + 0.5);
    context.stroke();
    context.fillStyle = this.colors.ink;
    context.textAlign = "right";
    context.fillText(label, LEFT - 8, y + 4);
  }

  // One path for each stretch without a gap; down to `floor` it is filled.
  trace(x, y, color, floor) {
    const { context, samples } = this;
    context.save();
    context.beginPath();
    context.rect(LEFT, 0, this.width - LEFT, this.height);
    context.clip();
    context.strokeStyle = context.fillStyle = color;
    context.lineWidth = 2;
    context.lineJoin = context.lineCap = "round";
    for (let from = 0; from < samples.length; from++) {
      if (Number.isNaN(samples[from].rate)) continue;
      let to = from;
      context.beginPath();
      while (to < samples.length && !Number.isNaN(samples[to].rate)) {
        context.lineTo(x(samples[to]), y(samples[to]));
        to++;
      }
      context.stroke();
      if (floor !== undefined) {
        context.lineTo(x(samples[to - 1]), floor);
        context.lineTo(x(samples[from]), floor);
        context.globalAlpha = 0.16;
        context.fill();
        context.globalAlpha = 1;
      }
      from = to;
    }
    context.restore();
  }
}

function niceAbove(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 6, 8, 10].find((step) => step * power >= value) * power;
}

export function duration(milliseconds) {
  if (milliseconds >= 1000) return `${(milliseconds / 1000).toPrecision(2)} s`;
  if (milliseconds >= 1) return `${Number(milliseconds.toPrecision(3))} ms`;
  return `${Math.round(milliseconds * 1000)} µs`;
}
