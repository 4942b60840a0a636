import { messageOf, VGGNetError, type VGGNetErrorCode } from '../errors.js';
import { printable } from './output.js';

/** The command was used wrongly: exit code 2. */
export class UsageError extends VGGNetError {
  constructor(message: string, code: VGGNetErrorCode = 'INVALID_ARGUMENT') {
    super(code, message);
  }
}

/** Runs a check of what the command line said: a typed error of it is then wrong use. */
export function checkUsage<T>(check: () => T): T {
  try {
    return check();
  } catch (error) {
    throw error instanceof VGGNetError ? new UsageError(error.message, error.code) : error;
  }
}

/** Exit codes: 1 for a failed run, 2 for wrong use. */
export function exitCodeOf(error: unknown): 1 | 2 {
  return error instanceof UsageError ? 2 : 1;
}

/** Prints `vggnet: <message> (CODE)` on stderr. */
export function reportFailure(error: unknown): void {
  const message = messageOf(error);
  const code = error instanceof VGGNetError ? error.code : 'UNEXPECTED';
  process.stderr.write(`vggnet: ${printable(message)} (${code})\n`);
}
