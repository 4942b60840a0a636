import { summarize } from '../model/summary.js';
import { usualShape } from '../program/shape.js';
import { checkUsage } from './failure.js';
import { describeModel, parseModel } from './model.js';
import { print, printable, printJson } from './output.js';

export interface SummaryFlags {
  readonly input?: readonly number[];
  readonly json?: boolean;
}

/** `vggnet summary`. The network itself is not made, and no weights are read. */
export async function summary(name: string, flags: SummaryFlags, signal: AbortSignal): Promise<number> {
  const { config, layers } = await describeModel(parseModel(name), signal);
  const result = checkUsage(() => summarize(config, layers, flags.input ?? usualShape(layers, config.preset?.crop)));
  if (flags.json) printJson(result);
  else print(printable(result.toString()));
  return 0;
}
