import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { createSha256, PortableSha256 } from '../../src/hub/sha256.js';
import { randomFile } from './server.js';

test.each([
  // FIPS 180-4's examples, as NIST publishes them.
  ['abc', 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'],
  [
    'abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq',
    '248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1',
  ],
  ['', 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'],
])('%j', (text, expected) => {
  const hash = new PortableSha256();
  hash.update(new TextEncoder().encode(text));
  expect(hash.digest()).toBe(expected);
});

test('any length in any parts gives what the runtime gives', () => {
  for (const length of [1, 55, 56, 63, 64, 65, 111, 119, 120, 127, 128, 129, 1000, 65_537]) {
    const bytes = randomFile(length);
    for (const most of [1, 7, 64, 100, 1_000_000]) {
      if (most < 7 && length > 1000) continue;
      const portable = new PortableSha256();
      const own = createSha256();
      for (let at = 0; at < length; at += most) {
        portable.update(bytes.subarray(at, at + most));
        own.update(bytes.subarray(at, at + most));
      }
      const expected = createHash('sha256').update(bytes).digest('hex');
      expect([portable.digest(), own.digest()], `${length} bytes in parts of ${most}`).toEqual([expected, expected]);
    }
  }
});
