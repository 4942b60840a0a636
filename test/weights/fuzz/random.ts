/** A generator of its own for each case, so that a case can be run alone: mulberry32. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** From 0 to below `limit`. */
  below(limit: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % limit;
  }

  chance(one: number): boolean {
    return this.below(one) === 0;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)] as T;
  }

  bytes(most: number): Uint8Array<ArrayBuffer> {
    return Uint8Array.from({ length: this.below(most + 1) }, () => this.below(256));
  }

  /** A number of the kind that checks forget. */
  extreme(): number {
    return this.pick([
      0,
      1,
      2,
      3,
      4,
      7,
      8,
      64,
      255,
      256,
      65_535,
      65_536,
      2 ** 20,
      2 ** 31 - 1,
      2 ** 31,
      2 ** 32 - 1,
      2 ** 53 - 1,
    ]);
  }

  /** Changes a list: an item is left out, repeated, moved, put elsewhere or replaced. */
  mutate<T>(list: readonly T[], other: () => T): T[] {
    const items = [...list];
    const at = this.below(items.length + 1);
    const item = items[at] ?? other();
    switch (this.below(6)) {
      case 0:
        items.splice(at, 1 + this.below(3));
        break;
      case 1:
        items.splice(at, 0, item);
        break;
      case 2:
        items.splice(at, 1);
        items.splice(this.below(items.length + 1), 0, item);
        break;
      case 3:
        items.splice(at, 0, ...items.slice(this.below(items.length + 1)).slice(0, 20));
        break;
      default:
        items.splice(at, this.below(2), other());
    }
    return items;
  }
}
