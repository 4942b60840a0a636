import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { type Browser, launch, type Page } from 'puppeteer-core';

/* Browsers without a window: Chromium by the DevTools protocol, Firefox by WebDriver BiDi. */

export type BrowserName = 'chromium' | 'firefox';

const COMMANDS: Readonly<Record<BrowserName, readonly string[]>> = {
  chromium: ['chromium', 'chromium-browser'],
  firefox: ['firefox-esr', 'firefox'],
};

/** One that is not here is an error: nothing is skipped. */
export function findBrowser(name: BrowserName): string {
  const folders = (process.env.PATH ?? '').split(delimiter);
  const paths = COMMANDS[name].flatMap((command) => folders.map((folder) => join(folder, command)));
  const path = paths.find((each) => existsSync(each));
  if (!path) throw new Error(`${name} is needed: npm run test:setup`);
  return path;
}

/** WebGPU is on, and computes on the CPU where there is no GPU. */
export function openBrowser(name: BrowserName): Promise<Browser> {
  const executablePath = findBrowser(name);
  if (name === 'chromium') {
    const args = [
      // As root it does not start in one.
      '--no-sandbox',
      '--disable-background-networking',
      '--enable-unsafe-webgpu',
      '--use-webgpu-adapter=swiftshader',
      '--enable-features=Vulkan',
      '--ignore-gpu-blocklist',
    ];
    return launch({ browser: 'chrome', executablePath, headless: true, args });
  }
  const extraPrefsFirefox = { 'dom.webgpu.enabled': true, 'gfx.webgpu.ignore-blocklist': true };
  return launch({ browser: 'firefox', executablePath, headless: true, extraPrefsFirefox });
}

/** A page that collects what goes wrong in it. */
export interface Watched {
  readonly page: Page;
  /** Uncaught errors, and what the console was told of errors and of things that the policy forbids. */
  readonly problems: readonly string[];
}

export async function openPage(browser: Browser, url: string): Promise<Watched> {
  const page = await browser.newPage();
  const problems: string[] = [];
  page.on('pageerror', (error) => problems.push(String(error)));
  page.on('console', (message) => {
    if (message.type() === 'error') problems.push(message.text());
  });
  await page.goto(url, { waitUntil: 'load' });
  return { page, problems };
}
