/*
 * Numbers for Prometheus, in its text format 0.0.4. The usual client library needs Node, and this runs at the edge too.
 */

type Labels = Readonly<Record<string, string | number>>;

interface Histogram {
  readonly help: string;
  readonly bounds: readonly number[];
  readonly series: Map<string, { readonly counts: number[]; sum: number; count: number }>;
}

export class Metrics {
  readonly #counters = new Map<string, { readonly help: string; readonly series: Map<string, number> }>();
  readonly #gauges = new Map<string, { readonly help: string; readonly read: () => number }>();
  readonly #histograms = new Map<string, Histogram>();

  counter(name: string, help: string): { add(value: number, labels?: Labels): void } {
    const series = new Map<string, number>();
    this.#counters.set(name, { help, series });
    return {
      add(value, labels = {}) {
        const key = format(labels);
        series.set(key, (series.get(key) ?? 0) + value);
      },
    };
  }

  gauge(name: string, help: string, read: () => number): void {
    this.#gauges.set(name, { help, read });
  }

  /** @param bounds the buckets' upper ends, rising */
  histogram(name: string, help: string, bounds: readonly number[]): { observe(value: number, labels?: Labels): void } {
    const series: Histogram['series'] = new Map();
    this.#histograms.set(name, { help, bounds, series });
    return {
      observe(value, labels = {}) {
        const key = format(labels);
        const one = series.get(key) ?? { counts: bounds.map(() => 0), sum: 0, count: 0 };
        series.set(key, one);
        one.sum += value;
        one.count++;
        bounds.forEach((bound, i) => {
          if (value <= bound) one.counts[i] = (one.counts[i] as number) + 1;
        });
      },
    };
  }

  /** The page that Prometheus reads. */
  text(): string {
    const lines: string[] = [];
    const head = (name: string, type: string, help: string): void => {
      lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
    };
    for (const [name, { help, series }] of this.#counters) {
      head(name, 'counter', help);
      for (const [labels, value] of series) lines.push(`${name}${braced(labels)} ${value}`);
    }
    for (const [name, { help, read }] of this.#gauges) {
      head(name, 'gauge', help);
      lines.push(`${name} ${read()}`);
    }
    for (const [name, { help, bounds, series }] of this.#histograms) {
      head(name, 'histogram', help);
      for (const [labels, { counts, sum, count }] of series) {
        bounds.forEach((bound, i) => {
          lines.push(`${name}_bucket${braced(labels, `le="${bound}"`)} ${counts[i]}`);
        });
        lines.push(`${name}_bucket${braced(labels, 'le="+Inf"')} ${count}`);
        lines.push(`${name}_sum${braced(labels)} ${sum}`, `${name}_count${braced(labels)} ${count}`);
      }
    }
    return `${lines.join('\n')}\n`;
  }
}

function format(labels: Labels): string {
  return Object.entries(labels)
    .map(([key, value]) => `${key}="${String(value).replace(/[\\"\n]/g, escaped)}"`)
    .join();
}

function escaped(char: string): string {
  return char === '\n' ? '\\n' : `\\${char}`;
}

function braced(...labels: readonly string[]): string {
  const all = labels.filter((text) => text !== '').join();
  return all === '' ? '' : `{${all}}`;
}
