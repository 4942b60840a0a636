import { VGGNetError } from '../../errors.js';
import { nodeFs } from '../../platform/node.js';
import type { ByteSource, WeightsInput } from '../bytes/bytes.js';
import { ByteCursor } from '../bytes/cursor.js';
import { spool } from '../bytes/spool.js';
import { quoteName } from '../safetensors/header.js';
import type { OpenExternal } from './open.js';

/** Values that an ONNX file keeps in files beside it: one file, or each by its relative path. */
export type ExternalData = WeightsInput | Readonly<Record<string, WeightsInput>>;

/** As `openBytes`. */
export type OpenBytes = (input: WeightsInput, signal: AbortSignal | undefined) => Promise<ByteSource>;

/**
 * Finds the files beside a model: those that the caller gave, or those in the model's folder.
 * @param model where the model came from
 * @param open opens a file; given, since what loads this file on demand has it
 */
export function externalOpener(
  model: WeightsInput,
  open: OpenBytes,
  { externalData, signal }: { externalData?: ExternalData | undefined; signal?: AbortSignal | undefined },
): OpenExternal {
  return async (location) => {
    const given = isRecord(externalData) ? own(externalData, location) : externalData;
    const input = given ?? besideOf(model, location);
    if (input === undefined) {
      throw new VGGNetError(
        'INVALID_ARGUMENT',
        `The model's values are in ${quoteName(location)}, a file beside it. Give that file by the option externalData`,
      );
    }
    const bytes = await open(input, signal);
    return new ByteCursor(bytes.seek ? bytes : await spool(bytes, { signal }), { signal });
  };
}

/** A path in the folder of a model that is a file. */
function besideOf(model: WeightsInput, location: string): string | URL | undefined {
  if (!nodeFs()) return undefined;
  if (model instanceof URL) return model.protocol === 'file:' ? new URL(encodePath(location), model) : undefined;
  if (typeof model !== 'string') return undefined;
  if (/^file:/i.test(model) && URL.canParse(model)) return new URL(encodePath(location), model);
  if (/^(?:https?|data|blob):/i.test(model)) return undefined;
  const path = globalThis.process.getBuiltinModule('node:path');
  return path.join(path.dirname(model), location);
}

function encodePath(path: string): string {
  return encodeURI(path).replace(/[?#]/g, encodeURIComponent);
}

function isRecord(value: ExternalData | undefined): value is Readonly<Record<string, WeightsInput>> {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

/** The location is a stranger's, such as 'constructor'. */
function own(files: Readonly<Record<string, WeightsInput>>, location: string): WeightsInput | undefined {
  return Object.hasOwn(files, location) ? files[location] : undefined;
}
