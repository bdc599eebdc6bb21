// Durations in buckets that grow by 3 %: percentiles of millions without keeping any.

const PER_OCTAVE = 24;
const BUCKETS = 26 * PER_OCTAVE; // from 1 microsecond to a minute

export class Histogram {
  constructor() {
    this.counts = new Uint32Array(BUCKETS);
    this.total = 0;
  }

  add(milliseconds) {
    const bucket = Math.round(Math.log2(Math.max(milliseconds * 1000, 1)) * PER_OCTAVE);
    this.counts[Math.min(bucket, BUCKETS - 1)]++;
    this.total++;
  }

  // In milliseconds; NaN if there is nothing.
  percentile(p) {
    let left = Math.ceil((this.total * p) / 100);
    if (left === 0) return NaN;
    let bucket = 0;
    while ((left -= this.counts[bucket]) > 0) bucket++;
    return 2 ** (bucket / PER_OCTAVE) / 1000;
  }

  clear() {
    this.counts.fill(0);
    this.total = 0;
  }
}
