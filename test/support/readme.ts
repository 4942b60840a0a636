import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ROOT } from './project.js';

/** The code blocks of one section of a document, in order: `js` and so on, and the text word for word. */
export async function readmeBlocks(heading: string, file = 'README.md'): Promise<{ language: string; code: string }[]> {
  const text = await readFile(join(ROOT, file), 'utf8');
  const sections = text.split(/^#+ +/m);
  const section = sections.find((each) => each.startsWith(`${heading}\n`));
  if (!section) throw new Error(`${file} has no section '${heading}'`);
  const blocks = section.matchAll(/^```(\w*)\n(.*?)^```$/gms);
  return Array.from(blocks, ([, language = '', code = '']) => ({ language, code }));
}
