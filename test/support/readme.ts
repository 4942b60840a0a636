import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ROOT } from './project.js';

/** The code blocks of one section of the README, in order: `js` and so on, and the text word for word. */
export async function readmeBlocks(heading: string): Promise<{ language: string; code: string }[]> {
  const text = await readFile(join(ROOT, 'README.md'), 'utf8');
  const sections = text.split(/^#+ +/m);
  const section = sections.find((each) => each.startsWith(`${heading}\n`));
  if (!section) throw new Error(`README.md has no section '${heading}'`);
  const blocks = section.matchAll(/^```(\w*)\n(.*?)^```$/gms);
  return Array.from(blocks, ([, language = '', code = '']) => ({ language, code }));
}
