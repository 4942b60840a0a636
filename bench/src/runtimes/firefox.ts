import { Unavailable } from '../job.js';
import { type BrowserOptions, BrowserRuntime, type DrivenPage, type LaunchOptions } from './browser.js';
import { processTree } from './memory.js';

export function firefoxRuntime(benchFolder: string): BrowserRuntime {
  const options: BrowserOptions = {
    name: 'firefox',
    commands: ['firefox-esr', 'firefox'],
    variable: 'BENCH_FIREFOX',
    benchFolder,
    launch,
  };
  return new BrowserRuntime(options);
}

/** By puppeteer-core, over WebDriver BiDi. */
async function launch({ path, flags, launchMs, timeoutMs }: LaunchOptions): Promise<DrivenPage> {
  const puppeteer = await import('puppeteer-core').catch((error: Error) => {
    throw new Unavailable(`puppeteer-core can't be imported: ${error.message}`);
  });
  const browser = await puppeteer.launch({
    browser: 'firefox',
    executablePath: path,
    headless: true,
    args: [...flags],
    timeout: launchMs,
    // The suite's own limit is to be the first.
    protocolTimeout: timeoutMs + 10_000,
    // The suite decides what an interrupt means, and closes the browser itself. At the process's end it is killed.
    handleSIGINT: false,
    handleSIGTERM: false,
    handleSIGHUP: false,
  });
  try {
    const page = await browser.newPage();
    const root = browser.process()?.pid;
    return {
      open: async (url) => void (await page.goto(url, { waitUntil: 'load', timeout: launchMs })),
      evaluate: async (expression) => (await page.evaluate(expression)) as string,
      processIds: async () => (root === undefined ? [] : processTree(root)),
      close: () => browser.close(),
    };
  } catch (error) {
    await browser.close();
    throw error;
  }
}
