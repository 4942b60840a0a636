import { join } from 'node:path';
import { bundleForBrowsers } from './bundle.js';
import { serve } from './serve.js';

/** Serves bench/page to the browsers of this machine until an interrupt. Gives the exit code. */
export async function servePage(benchFolder: string, port: number): Promise<number> {
  await bundleForBrowsers(benchFolder);
  let server: Awaited<ReturnType<typeof serve>>;
  try {
    server = await serve(join(benchFolder, '..'), port);
  } catch (error) {
    console.error(`Port ${port} can't be had: ${(error as Error).message}`);
    return 2;
  }
  console.log(`${server.origin}/bench/page/ (Ctrl-C ends it)`);
  await new Promise<void>((resolve) => {
    process.once('SIGINT', () => resolve());
    process.once('SIGTERM', () => resolve());
  });
  await server.close();
  return 0;
}
