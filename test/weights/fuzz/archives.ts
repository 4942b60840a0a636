import { type Fields, makeZip, type ZipOptions, type ZipPart } from '../zip-writer.js';
import type { Random } from './random.js';

/* Zip archives whose entries, directory and end record are changed, each field for itself. */

function lie(random: Random, names: readonly string[]): Partial<Fields> {
  switch (random.below(6)) {
    case 0:
      return { name: random.pick([...names, '', 'a/data.pkl', 'x/data/9', '../x', 'x'.repeat(400)]) };
    case 1:
      return { method: random.pick([0, 8, 9, 99]) };
    case 2:
      return { flags: random.pick([0, 1, 8, 0x808, 0x2041]) };
    case 3:
      return { size: random.extreme() % 2 ** 32 };
    case 4:
      return { compressedSize: random.extreme() % 2 ** 32 };
    default:
      return random.chance(2) ? { headerOffset: random.below(3000) } : { crc: random.below(2 ** 32) };
  }
}

/** An archive of these parts with a few changes. */
export function mutateArchive(parts: readonly ZipPart[], random: Random): Uint8Array<ArrayBuffer> {
  const names = parts.map(({ name }) => name);
  let changed = [...parts];
  const options: { -readonly [Key in keyof ZipOptions]: ZipOptions[Key] } = {};
  const one = (change: (part: ZipPart) => ZipPart): void => {
    const at = random.below(changed.length);
    const part = changed[at];
    if (part) changed[at] = change(part);
  };
  for (let count = 1 + random.below(3); count > 0; count--) {
    switch (random.below(12)) {
      case 0:
      case 1:
        changed = random.mutate(changed, () => ({
          name: random.pick(['x/data/7', 'x/version', 'z.npy', '']),
          data: random.bytes(64),
        }));
        break;
      case 2:
      case 3:
        one((part) => ({ ...part, lie: lie(random, names) }));
        break;
      case 4:
        one((part) => ({ ...part, localLie: lie(random, names) }));
        break;
      case 5:
        one((part) => ({ ...part, sizes: random.pick(['header', 'behind', 'behind64', 'zip64']) }));
        break;
      case 6:
        one((part) => ({ ...part, deflate: !part.deflate }));
        break;
      case 7:
        one((part) => ({ ...part, align: random.pick([4, 64, 4096]) }));
        break;
      case 8:
        options.zip64 = random.chance(2);
        break;
      case 9:
        options.endLie = {
          [random.pick(['count', 'size', 'offset'])]: random.chance(2)
            ? random.extreme() % 2 ** 32
            : random.below(3000),
        };
        break;
      case 10:
        options.gap = random.below(40);
        break;
      default:
        options.comment = random.pick(['', 'PK\x05\x06', 'x'.repeat(1000)]);
    }
  }
  return makeZip(changed, options);
}
