import { Unavailable } from '../job.js';
import { type BrowserOptions, BrowserRuntime, type DrivenPage, type LaunchOptions } from './browser.js';

/** No sandbox, as it can't start as root; nothing that uses the network or the processor beside the page. */
const FLAGS = [
  '--no-sandbox',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--no-first-run',
];

export function chromiumRuntime(benchFolder: string): BrowserRuntime {
  const options: BrowserOptions = {
    name: 'chromium',
    commands: ['chromium', 'chromium-browser'],
    variable: 'BENCH_CHROMIUM',
    benchFolder,
    launch,
  };
  return new BrowserRuntime(options);
}

/** By playwright-core, over the DevTools protocol. */
async function launch({ path, flags, launchMs }: LaunchOptions): Promise<DrivenPage> {
  const { chromium } = await import('playwright-core').catch((error: Error) => {
    throw new Unavailable(`playwright-core can't be imported: ${error.message}`);
  });
  const browser = await chromium.launch({
    executablePath: path,
    headless: true,
    args: [...FLAGS, ...flags],
    timeout: launchMs,
    // The suite decides what an interrupt means, and closes the browser itself. At the process's end it is killed.
    handleSIGINT: false,
    handleSIGTERM: false,
    handleSIGHUP: false,
  });
  try {
    const page = await browser.newPage();
    // A page that dies answers nothing any more.
    const died = new Promise<never>((_, reject) => {
      page.on('crash', () => reject(new Error('the page crashed')));
      page.on('close', () => reject(new Error('the page was closed')));
    });
    died.catch(() => undefined);
    return {
      open: async (url) => void (await page.goto(url, { waitUntil: 'load', timeout: launchMs })),
      evaluate: (expression) => Promise.race([page.evaluate<string>(expression), died]),
      async processIds() {
        const session = await browser.newBrowserCDPSession();
        const { processInfo } = await session.send('SystemInfo.getProcessInfo');
        return processInfo.map(({ id }) => id);
      },
      close: () => browser.close(),
    };
  } catch (error) {
    await browser.close();
    throw error;
  }
}
