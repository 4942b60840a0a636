import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { openBytes } from '../../src/weights/bytes/bytes.js';
import { ByteCursor } from '../../src/weights/bytes/cursor.js';
import { spool } from '../../src/weights/bytes/spool.js';
import { streamOf } from './rawfile.js';

const bytes = Uint8Array.from({ length: 20_000 }, (_, i) => (i * 7) ^ (i >> 8));

type Step = readonly ['peek' | 'read' | 'skip' | 'seek', number];

/** Takes steps, and holds each against the bytes themselves. */
async function walk(cursor: ByteCursor, steps: readonly Step[]): Promise<void> {
  let position = 0;
  for (const [what, count] of steps) {
    const want = Buffer.from(bytes.subarray(position, position + count));
    if (what === 'seek') {
      if (!cursor.canSeek) continue;
      position = Math.min(count, bytes.length);
      cursor.seek(position);
    } else if (what === 'peek') {
      expect(Buffer.compare(Buffer.from(await cursor.peek(count)), want)).toBe(0);
    } else if (what === 'read') {
      const into = new Uint8Array(count);
      expect(await cursor.read(into)).toBe(want.length);
      expect(Buffer.compare(Buffer.from(into.subarray(0, want.length)), want)).toBe(0);
      position += want.length;
    } else {
      expect(await cursor.skip(count)).toBe(want.length);
      position += want.length;
    }
    expect(cursor.position).toBe(position);
  }
}

describe('ByteCursor', () => {
  const size = fc.oneof(fc.nat(40), fc.nat(6000));
  const step = fc.tuple(fc.constantFrom('peek', 'read', 'skip'), size) as fc.Arbitrary<Step>;
  const seek = fc.tuple(fc.constant('seek'), fc.nat(21_000)) as fc.Arbitrary<Step>;

  test('gives the bytes in whatever steps, from memory, a Blob, a stream and a spooled one', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.oneof(step, seek), { maxLength: 12 }),
        fc.integer({ min: 1, max: 5000 }),
        async (steps, part) => {
          await walk(new ByteCursor(await openBytes(bytes)), steps);
          await walk(new ByteCursor(await openBytes(new Blob([bytes]))), steps);
          await walk(new ByteCursor(await openBytes(streamOf(bytes, part))), steps);
          await walk(new ByteCursor(await spool(await openBytes(streamOf(bytes, part)))), steps);
        },
      ),
      { numRuns: 60 },
    );
  });

  test('take says within what the bytes end', async () => {
    const message = /^the (bytes|stream): .*the tail, from byte 19990 to 20010/;
    for (const input of [bytes, streamOf(bytes, 999)]) {
      const cursor = new ByteCursor(await openBytes(input));
      await cursor.skip(19_990);
      await expect(cursor.take(20, 'the tail')).rejects.toMatchObject({
        code: 'INVALID_WEIGHTS_FILE',
        message: expect.stringMatching(message),
      });
    }
  });
});

describe('spool', () => {
  test('keeps several parts, and closes the stream', async () => {
    const large = new Uint8Array(9_000_000).map((_, i) => i >> 12);
    const stream = streamOf(large, 1_000_000);
    const kept = await spool(await openBytes(stream));
    expect(kept.size).toBe(large.length);
    kept.seek?.(4_194_300);
    const into = new Uint8Array(4_300_000);
    expect(await kept.read(into)).toBe(into.length);
    expect(Buffer.compare(into, large.subarray(4_194_300, 8_494_300))).toBe(0);
    await kept.close();
    expect(await kept.read(into)).toBe(0);
  });

  test('passes on what the stream throws, and a signal', async () => {
    const broken = new ReadableStream<Uint8Array>({
      pull() {
        throw new Error('cut');
      },
    });
    await expect(spool(await openBytes(broken))).rejects.toMatchObject({ code: 'IO', message: /cut/ });
    const abort = new AbortController();
    const silent = new ReadableStream<Uint8Array>({ pull: () => new Promise(() => {}) });
    const pending = spool(await openBytes(silent), { signal: abort.signal });
    abort.abort();
    await expect(pending).rejects.toMatchObject({ code: 'ABORTED' });
  });
});
