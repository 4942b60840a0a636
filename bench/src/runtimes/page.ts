/*
 * The script of a measuring page, in any browser: worker.ts's counterpart. The suite calls `vggnetBench` by the
 * browser's remote protocol, one request after the other.
 */
import { Host, type Request } from '../host.js';
import { Unavailable } from '../job.js';
import type { Answer } from '../protocol.js';

const host = new Host();

async function answer(request: Request): Promise<Answer> {
  try {
    return { result: await host.handle(request) };
  } catch (error) {
    const { message } = error instanceof Error ? error : new Error(String(error));
    return { error: message, unavailable: error instanceof Unavailable };
  }
}

// JSON both ways, so that every protocol says the same.
Object.assign(globalThis, {
  vggnetBench: async (text: string) => JSON.stringify(await answer(JSON.parse(text) as Request)),
});
