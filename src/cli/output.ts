import type { DeviceInfo } from '../backend.js';

/** Writes a result on stdout. */
export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

export function printJson(document: unknown): void {
  print(JSON.stringify(document, undefined, 2));
}

/** Without characters that would steer the terminal: names and labels may come from a file of anyone's. */
export function printable(text: string): string {
  return text.replace(/(?!\n)[\p{Cc}\u2028\u2029]/gu, '?');
}

/** Milliseconds as they are read, to three figures or so: `0.85 ms`, `42.3 ms`, `1,234 ms`. */
export function formatMs(ms: number): string {
  return `${ms < 10 ? ms.toFixed(2) : ms < 100 ? ms.toFixed(1) : Math.round(ms).toLocaleString('en-US')} ms`;
}

/** `wasm (simd, 1 thread)` */
export function formatDevice({ backend, build, threads }: DeviceInfo): string {
  const parts = [...(build ? [build] : []), `${threads} thread${threads === 1 ? '' : 's'}`];
  return `${backend} (${parts.join(', ')})`;
}

/** Rows in columns; the first row is the heading, and the columns from `numbersFrom` on are flush right. */
export function formatTable(rows: readonly (readonly string[])[], numbersFrom: number): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => (row[column] ?? '').length)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => {
          const width = widths[column] ?? 0;
          return column < numbersFrom ? cell.padEnd(width) : cell.padStart(width);
        })
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
