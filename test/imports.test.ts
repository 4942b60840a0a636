import { cruise, type ICruiseResult, type IModule } from 'dependency-cruiser';
import { beforeAll, describe, expect, test } from 'vitest';

/*
 * What may import what. The sources are floors: a file imports from its own floor and from those below, types included.
 * And no file imports itself by way of others, types apart: such a circle can only be read all at once.
 */

/** From the ground up. A file is on the first floor with a prefix of its path. */
const FLOORS: readonly (readonly [floor: string, ...prefixes: string[]])[] = [
  ['the contract', 'src/backend.ts'],
  ['the program', 'src/program/'],
  ['images and lists', 'src/image/', 'src/vgg.ts'],
  ['the backends', 'src/reference/', 'src/wasm/', 'src/webgpu/', 'src/platform/assets'],
];
