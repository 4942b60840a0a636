import { VGGNetError } from './errors.js';

/*
 * The random numbers of PyTorch's CPU generator: MT19937, with the same uniform and normal distributions drawn
 * from it in the same order, so that a seed means the same network here and there.
 */

const STATE_SIZE = 624;
const SHIFT_SIZE = 397;
const MAX_SEED = 0xffff_ffff;

/**
 * The Mersenne Twister, started from a seed as `torch.manual_seed` does.
 *
 * Method: Matsumoto and Nishimura, "Mersenne Twister: A 623-Dimensionally Equidistributed Uniform Pseudo-Random
 * Number Generator", ACM Transactions on Modeling and Computer Simulation, 1998; seeding of its 2002 version.
 */
export class Mt19937 {
  readonly #state = new Int32Array(STATE_SIZE);
  readonly #block = new Int32Array(STATE_SIZE);
  /** Next unread word of `#block`; a whole block is made at a time. */
  #index = STATE_SIZE;
  /** The second normal of a pair, which a tensor of fewer than 16 values may leave for the next one. */
  #cachedNormal: number | undefined;

  /** @throws VGGNetError `INVALID_ARGUMENT` if the seed is not an integer from 0 to 2^32 − 1 */
  constructor(seed: number) {
    checkSeed(seed);
    const state = this.#state;
    state[0] = seed | 0;
    for (let i = 1; i < STATE_SIZE; i++) {
      const previous = state[i - 1] as number;
      state[i] = Math.imul(1_812_433_253, previous ^ (previous >>> 30)) + i;
    }
  }

  /** The next integer from 0 to 2^32 − 1. */
  next(): number {
    if (this.#index === STATE_SIZE) this.#refill();
    return (this.#block[this.#index++] as number) >>> 0;
  }

  /** Passes over `count` integers, faster than drawing them. */
  discard(count: number): void {
    let left = count;
    const unread = STATE_SIZE - this.#index;
    if (left < unread) {
      this.#index += left;
      return;
    }
    left -= unread;
    for (; left > STATE_SIZE; left -= STATE_SIZE) this.#twist();
    this.#refill();
    this.#index = left;
  }

  /** Fills `out` with u · range + low, for u multiples of 2^-24 in [0, 1), one integer each. */
  fillUnit(out: Float32Array, range = 1, low = 0): void {
    const block = this.#block;
    const step = range * 2 ** -24;
    for (let start = 0; start < out.length; ) {
      if (this.#index === STATE_SIZE) this.#refill();
      const index = this.#index;
      const count = Math.min(out.length - start, STATE_SIZE - index);
      for (let i = 0; i < count; i++) out[start + i] = ((block[index + i] as number) & 0xff_ffff) * step + low;
      start += count;
      this.#index += count;
    }
  }

  /** A double in [0, 1) of 53 random bits: two integers, the first on top. */
  nextDouble(): number {
    const high = this.next() & 0x1f_ffff;
    return (high * 2 ** 32 + this.next()) * 2 ** -53;
  }

  /** A standard normal double; the second of each pair waits for the next call. */
  nextNormal(): number {
    const cached = this.#cachedNormal;
    if (cached !== undefined) {
      this.#cachedNormal = undefined;
      return cached;
    }
    const theta = 2 * Math.PI * this.nextDouble();
    const radius = Math.sqrt(-2 * Math.log1p(-this.nextDouble()));
    this.#cachedNormal = radius * Math.sin(theta);
    return radius * Math.cos(theta);
  }

  #refill(): void {
    this.#twist();
    const state = this.#state;
    const block = this.#block;
    for (let i = 0; i < STATE_SIZE; i++) {
      let y = state[i] as number;
      y ^= y >>> 11;
      y ^= (y << 7) & 0x9d2c_5680;
      y ^= (y << 15) & 0xefc6_0000;
      block[i] = y ^ (y >>> 18);
    }
    this.#index = 0;
  }

  #twist(): void {
    const state = this.#state;
    const split = STATE_SIZE - SHIFT_SIZE;
    let current = state[0] as number;
    for (let i = 0; i < split; i++) {
      const next = state[i + 1] as number;
      state[i] = (state[i + SHIFT_SIZE] as number) ^ mix(current, next);
      current = next;
    }
    for (let i = split; i < STATE_SIZE - 1; i++) {
      const next = state[i + 1] as number;
      state[i] = (state[i - split] as number) ^ mix(current, next);
      current = next;
    }
    state[STATE_SIZE - 1] = (state[SHIFT_SIZE - 1] as number) ^ mix(current, state[0] as number);
  }
}

function mix(current: number, next: number): number {
  const y = (current & 0x8000_0000) | (next & 0x7fff_ffff);
  return (y >>> 1) ^ (-(y & 1) & 0x9908_b0df);
}

/** Throws `INVALID_ARGUMENT` if the seed is not an integer from 0 to 2^32 − 1. */
export function checkSeed(seed: number): void {
  if (Number.isInteger(seed) && seed >= 0 && seed <= MAX_SEED) return;
  throw new VGGNetError('INVALID_ARGUMENT', `seed must be an integer from 0 to 2^32 - 1, got ${String(seed)}`);
}

/**
 * Standard normal values, or of another mean and deviation; for a seed those of
 * `torch.manual_seed(seed); torch.randn(out.length)`, to within float32 rounding.
 * @throws VGGNetError `INVALID_ARGUMENT` for a seed that is not an integer from 0 to 2^32 − 1, or a bad deviation
 */
export function normals(out: Float32Array, seed: number, options: { mean?: number; std?: number } = {}): void {
  fillNormal(out, new Mt19937(seed), options.mean ?? 0, options.std ?? 1);
}

/** Values that are made together; what follows the last whole block is made with a block of its own. */
export const NORMAL_BLOCK = 16;

/**
 * Fills `out` as `tensor.normal_(mean, std)` does: from 16 values on in blocks of 16, and below that one by one
 * in double precision, which draws other numbers.
 *
 * A long tensor may be filled part by part, if every part but the last is a multiple of 16 and the last is at
 * least 16: see `normalParts` in weights/draws.ts.
 *
 * Method: Box and Muller, "A Note on the Generation of Random Normal Deviates", 1958.
 */
export function fillNormal(out: Float32Array, generator: Mt19937, mean: number, std: number): void {
  if (!Number.isFinite(mean) || !(std >= 0 && std < Number.POSITIVE_INFINITY)) {
    throw new VGGNetError(
      'INVALID_ARGUMENT',
      `A normal distribution needs a finite mean and a deviation of at least 0, got ${mean} and ${std}`,
    );
  }
  const size = out.length;
  if (size < NORMAL_BLOCK) {
    for (let i = 0; i < size; i++) out[i] = generator.nextNormal() * std + mean;
    return;
  }
  const meanF = Math.fround(mean);
  const stdF = Math.fround(std);
  generator.fillUnit(out);
  boxMuller(out, 0, size - (size % NORMAL_BLOCK), meanF, stdF);
  if (size % NORMAL_BLOCK !== 0) {
    generator.fillUnit(out.subarray(size - NORMAL_BLOCK));
    boxMuller(out, size - NORMAL_BLOCK, size, meanF, stdF);
  }
}

const TWO_PI = Math.fround(2 * Math.PI);

/**
 * Turns uniforms in [start, end) into normals in place; in each 16, values j and j + 8 make a pair. Each step is
 * rounded to float32 as PyTorch's float kernel rounds it.
 */
function boxMuller(out: Float32Array, start: number, end: number, mean: number, std: number): void {
  const fround = Math.fround;
  for (let block = start; block < end; block += NORMAL_BLOCK) {
    for (let j = block; j < block + NORMAL_BLOCK / 2; j++) {
      const radius = fround(Math.sqrt(-2 * fround(log(1 - (out[j] as number)))));
      const theta = fround(TWO_PI * (out[j + 8] as number));
      // theta = quarter · π/2 + rest, with |rest| ≤ π/4.
      const quarter = (theta * (2 / Math.PI) + 0.5) | 0;
      const rest = theta - quarter * (Math.PI / 2);
      const square = rest * rest;
      const sine = sinSeries(rest, square);
      const cosine = cosSeries(square);
      const turned = (quarter & 1) === 0;
      const cos = turned ? cosine : sine;
      const sin = turned ? sine : cosine;
      out[j] = fround(radius * fround(((quarter + 1) & 2) === 0 ? cos : -cos)) * std + mean;
      out[j + 8] = fround(radius * fround((quarter & 2) === 0 ? sin : -sin)) * std + mean;
    }
  }
}

/*
 * Series instead of Math.sin, cos and log: they are twice as fast, and the same in every engine. They are cut where
 * the next term is under 2^-32 of the value, so that the float32 made of them is right but for near ties.
 */

/** sin(x) for |x| ≤ π/4; `square` is x². */
function sinSeries(x: number, square: number): number {
  return (
    x *
    (1 + square * (-1 / 6 + square * (1 / 120 + square * (-1 / 5040 + square * (1 / 362_880 - square / 39_916_800)))))
  );
}

/** cos(x) for |x| ≤ π/4, from x². */
function cosSeries(square: number): number {
  return (
    1 +
    square *
      (-1 / 2 +
        square *
          (1 / 24 + square * (-1 / 720 + square * (1 / 40_320 + square * (-1 / 3_628_800 + square / 479_001_600)))))
  );
}

const floatValue = new Float32Array(1);
const floatBits = new Int32Array(floatValue.buffer);

/** Natural logarithm of a positive normal float32. */
function log(x: number): number {
  floatValue[0] = x;
  const bits = floatBits[0] as number;
  // x = 2^exponent · m with m in [√½, √2); 0x3f3504f3 is √½.
  const exponent = (bits - 0x3f35_04f3) >> 23;
  floatBits[0] = bits - (exponent << 23);
  const m = floatValue[0] as number;
  // log(m) = 2 artanh(s), s = (m − 1) / (m + 1), |s| ≤ 0.1716.
  const s = (m - 1) / (m + 1);
  const square = s * s;
  const series =
    1 + square * (1 / 3 + square * (1 / 5 + square * (1 / 7 + square * (1 / 9 + square * (1 / 11 + square / 13)))));
  return exponent * Math.LN2 + 2 * s * series;
}
