import { concat } from '../zip-writer.js';
import type { Random } from './random.js';

/* The headers that are text: .npy's and safetensors'. */

type Bytes = Uint8Array<ArrayBuffer>;
const encode = (text: string): Bytes => new TextEncoder().encode(text);

/** A .npy array whose header's fields are changed, each for itself. */
export function anyNpy(random: Random): Bytes {
  const sizes = Array.from({ length: random.below(6) }, () =>
    random.pick(['1', '2', '3', '0', '65536', '1073741824', '99999999999999999999', '-1', '3L', 'x']),
  );
  const descr = random.pick([
    "'<f4'",
    "'<f4'",
    "'<f2'",
    "'>f4'",
    "'<f8'",
    "'|O'",
    "'<U7'",
    "'|V99'",
    "[('a', '<f4')]",
    "'<i8'",
    "'f4'",
  ]);
  const fields = [
    `'descr': ${descr}`,
    `'fortran_order': ${random.pick(['False', 'True', '0'])}`,
    `'shape': (${sizes.join(', ')}${sizes.length === 1 ? ',' : ''})`,
  ];
  const text = `{${(random.chance(6) ? random.mutate(fields, () => "'x': True") : fields).join(', ')}, }${' '.repeat(random.below(40))}\n`;
  const length = random.chance(12) ? random.extreme() % 65_536 : text.length;
  const version = random.pick([1, 1, 1, 2, 3, 9]);
  const head = version === 1 ? [length & 255, length >> 8] : [length & 255, length >> 8, 0, 0];
  const data = random.chance(8) ? new Uint8Array(random.pick([1e5, 2e6])) : new Uint8Array(4 * random.below(30));
  return concat([Uint8Array.of(0x93), encode('NUMPY'), Uint8Array.of(version, 0, ...head), encode(text), data]);
}

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

function anyJson(random: Random): Json {
  return random.pick<Json>([
    null,
    true,
    -1,
    0.5,
    random.extreme(),
    'F32',
    'I64',
    'F4',
    '',
    [],
    [1, 2],
    {},
    { dtype: 'F32' },
    'x'.repeat(500),
  ]);
}

/** A value with one change in it, at any depth. */
function mutateJson(value: Json, random: Random): Json {
  if (random.chance(4) || value === null || typeof value !== 'object') return anyJson(random);
  if (Array.isArray(value)) {
    if (value.length > 0 && random.chance(2))
      return value.with(random.below(value.length), mutateJson(random.pick(value), random));
    return random.mutate(value, () => anyJson(random));
  }
  const entries = Object.entries(value);
  const [key, inner] = entries.length > 0 ? random.pick(entries) : ['a', null];
  switch (random.below(4)) {
    case 0:
      return Object.fromEntries(entries.filter(([name]) => name !== key));
    case 1:
      return Object.fromEntries([
        ...entries,
        [random.pick(['__proto__', '__metadata__', 'dtype', 'shape', 'features.0.weight', 'z']), anyJson(random)],
      ]);
    default:
      return { ...value, [key]: mutateJson(inner, random) };
  }
}

/** A safetensors file whose header is changed as JSON, or as text, and its length. */
export function mutateSafetensors(bytes: Uint8Array, random: Random): Bytes {
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  let header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length))) as Json;
  for (let count = 1 + random.below(3); count > 0; count--) header = mutateJson(header, random);
  let text = JSON.stringify(header);
  // The descriptions of network and precisions are JSON in a string.
  if (random.chance(10))
    text = text.replace(
      '{',
      `{${random.pick(['"a":1,', '"__metadata__":{"vggnet":"{}"},', '"__metadata__":{"vggnet.precision":"[1]"},', '[[', '\\ud800'])}`,
    );
  if (random.chance(30)) text = '['.repeat(random.pick([100, 5000])) + text;
  const encoded = encode(text);
  const size = new DataView(new ArrayBuffer(8));
  size.setBigUint64(0, BigInt(random.chance(10) ? random.extreme() : encoded.length), true);
  const data = bytes.subarray(8 + length);
  return concat([new Uint8Array(size.buffer), encoded, random.chance(6) ? data.subarray(random.below(20)) : data]);
}
