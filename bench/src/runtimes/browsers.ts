import type { Page } from 'puppeteer-core';
import { Unavailable } from '../job.js';
import { hasGpu } from './adapter.js';
import { BrowserRuntime, type DrivenPage, type LaunchOptions } from './browser.js';
import { processTree } from './memory.js';

/** Chromium and Firefox, both driven by puppeteer-core: the one over DevTools, the other over WebDriver BiDi. */
export function browserRuntimes(benchFolder: string): BrowserRuntime[] {
  return [
    new BrowserRuntime({
      name: 'chromium',
      commands: ['chromium', 'chromium-browser'],
      variable: 'BENCH_CHROMIUM',
      debian: 'chromium',
      benchFolder,
      launch: (options) => launch(options, { browser: 'chrome', args: chromiumFlags(options.webgpu) }),
    }),
    new BrowserRuntime({
      name: 'firefox',
      commands: ['firefox-esr', 'firefox'],
      variable: 'BENCH_FIREFOX',
      debian: 'firefox-esr',
      benchFolder,
      launch: (options) => launch(options, { browser: 'firefox', extraPrefsFirefox: firefoxPreferences() }),
    }),
  ];
}

/** No sandbox, as it can't start as root; nothing that uses the network or the processor beside the page. */
function chromiumFlags(webgpu: boolean): string[] {
  const flags = [
    '--no-sandbox',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--no-first-run',
  ];
  if (!webgpu) return flags;
  flags.push('--enable-unsafe-webgpu', '--enable-features=Vulkan', '--ignore-gpu-blocklist');
  // On the CPU a dispatch may take longer than a GPU's watchdog allows.
  return hasGpu() ? flags : [...flags, '--use-webgpu-adapter=swiftshader', '--disable-gpu-watchdog'];
}

/** Firefox takes what Vulkan has; software drivers are on its list of blocked ones. */
function firefoxPreferences(): Record<string, boolean> {
  return { 'dom.webgpu.enabled': true, 'gfx.webgpu.ignore-blocklist': true };
}

interface Kind {
  readonly browser: 'chrome' | 'firefox';
  readonly args?: readonly string[];
  readonly extraPrefsFirefox?: Record<string, boolean>;
}

async function launch(options: LaunchOptions, { args = [], ...kind }: Kind): Promise<DrivenPage> {
  const { path, flags, launchMs, timeoutMs } = options;
  const puppeteer = await import('puppeteer-core').catch((error: Error) => {
    throw new Unavailable(`puppeteer-core can't be imported: ${error.message}`);
  });
  const browser = await puppeteer.launch({
    ...kind,
    executablePath: path,
    headless: true,
    args: [...args, ...flags],
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
    const died = death(page);
    const root = browser.process()?.pid;
    return {
      open: async (url) => void (await page.goto(url, { waitUntil: 'load', timeout: launchMs })),
      evaluate: async (expression) => (await Promise.race([page.evaluate(expression), died])) as string,
      processIds: async () => (root === undefined ? [] : processTree(root)),
      close: () => browser.close(),
    };
  } catch (error) {
    await browser.close();
    throw error;
  }
}

/** Rejects when the page dies: it answers nothing any more then. */
function death(page: Page): Promise<never> {
  const died = new Promise<never>((_, reject) => {
    page.on('error', ({ message }) => reject(new Error(`the page crashed: ${message}`)));
    page.on('close', () => reject(new Error('the page was closed')));
  });
  died.catch(() => undefined);
  return died;
}
