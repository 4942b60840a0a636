import { VGGNetError } from '../errors.js';
import { nearest } from '../nearest.js';
import { MODEL_NAMES } from '../vgg.js';
import { PRETRAINED, type PretrainedFile, type PretrainedFormat, type PretrainedSet } from './catalog.js';

/**
 * The official set of a name: `vgg16`, which is `vgg16#IMAGENET1K_V1`, or with another set's name after the `#`.
 * @throws VGGNetError `UNKNOWN_MODEL`
 */
export function findPretrained(name: string): PretrainedSet {
  if (typeof name !== 'string') {
    throw new VGGNetError('INVALID_ARGUMENT', `Expected the name of official weights, got ${typeof name}`);
  }
  const wanted = (name.includes('#') ? name : `${name}#IMAGENET1K_V1`).toLowerCase();
  const found = PRETRAINED.find((set) => set.name.toLowerCase() === wanted);
  if (found) return found;
  const names = PRETRAINED.map((set) => set.name);
  const known = [...MODEL_NAMES, ...names];
  throw new VGGNetError(
    'UNKNOWN_MODEL',
    `No official weights are called '${name}'; nearest: ${nearest(name, known).join(', ')}. Known: ${names.join(', ')}`,
  );
}

/**
 * The file of a set that is to be read.
 * @throws VGGNetError `INVALID_ARGUMENT` if there is none in the format, or its record is wrong
 */
export function choosePretrainedFile(set: PretrainedSet, format: PretrainedFormat | undefined): PretrainedFile {
  const found = format === undefined ? set.files[0] : set.files.find((file) => file.format === format);
  if (!found) {
    const have = set.files.map((file) => `'${file.format}'`).join(' or ');
    throw new VGGNetError('INVALID_ARGUMENT', `format of ${set.name} must be ${have}, got ${JSON.stringify(format)}`);
  }
  checkFile(found);
  return found;
}

/** A record may be a caller's own, and its name becomes one in a folder. */
function checkFile({ name, url, sha256, size }: PretrainedFile): void {
  const fail = (expected: string, got: unknown): never => {
    throw new VGGNetError('INVALID_ARGUMENT', `A file of weights has ${expected}, got ${JSON.stringify(got)}`);
  };
  if (!/^[\w-][\w.-]{0,199}\.(?:pth|safetensors)$/.test(name)) fail('a name such as vgg16.safetensors', name);
  if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) fail('an http: or https: URL', url);
  if (!/^(?:[0-9a-f]{8}|[0-9a-f]{64})$/.test(sha256)) fail('a SHA-256 of 64 lower-case digits, or its first 8', sha256);
  if (size !== undefined && !(Number.isSafeInteger(size) && size > 0)) fail('a size in bytes', size);
}
