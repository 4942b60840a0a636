import { VGGNetError } from '../errors.js';
import { nearest } from '../nearest.js';
import { redactUrls } from '../url.js';
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
  const { files }: { readonly files?: unknown } = set;
  if (!Array.isArray(files) || !files.every((file) => typeof file === 'object' && file !== null)) {
    throw new VGGNetError('INVALID_ARGUMENT', `A record of weights has a list of files, got ${show(files)}`);
  }
  const found = (files as readonly PretrainedFile[]).find((file) => format === undefined || file.format === format);
  if (!found) {
    const have = (files as readonly PretrainedFile[]).map((file) => `'${file.format}'`).join(' or ');
    throw new VGGNetError('INVALID_ARGUMENT', `format of ${set.name} must be ${have}, got ${show(format)}`);
  }
  checkFile(found);
  return found;
}

/** A record may be a caller's own, of any types, and its name becomes one in a folder. */
function checkFile(file: PretrainedFile): void {
  const { name, url, sha256, size }: { [Key in keyof PretrainedFile]?: unknown } = file;
  const fail = (expected: string, got: unknown): never => {
    throw new VGGNetError('INVALID_ARGUMENT', `A file of weights has ${expected}, got ${show(got)}`);
  };
  const matches = (value: unknown, pattern: RegExp): boolean => typeof value === 'string' && pattern.test(value);
  if (!matches(name, /^[\w-][\w.-]{0,199}\.(?:pth|safetensors)$/)) fail('a name such as vgg16.safetensors', name);
  if (typeof url !== 'string' || !URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) {
    fail('an http: or https: URL', url);
  }
  if (!matches(sha256, /^(?:[0-9a-f]{8}|[0-9a-f]{64})$/)) {
    fail('a SHA-256 of 64 lower-case digits, or its first 8', sha256);
  }
  if (size !== undefined && !(typeof size === 'number' && Number.isSafeInteger(size) && size > 0)) {
    fail('a size in bytes', size);
  }
}

/** A stranger's value for a message: cut, and without the secrets of a URL. */
function show(value: unknown): string {
  return typeof value === 'string' ? `'${redactUrls(value).slice(0, 200)}'` : typeof value;
}
