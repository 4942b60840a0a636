import { readdir, readFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ROOT } from './support/project.js';

/* The documents: their links, their length, their width. */

const SKIPPED = /^(node_modules|dist|site|\.git|\.cache)$/;

/** All Markdown files, by their paths from the root. */
async function documents(folder = ROOT): Promise<string[]> {
  const found: string[] = [];
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory() && !SKIPPED.test(entry.name)) found.push(...(await documents(path)));
    else if (entry.name.endsWith('.md')) found.push(relative(ROOT, path));
  }
  return found;
}

const read = (path: string): Promise<string> => readFile(join(ROOT, path), 'utf8');

/** Lines outside code blocks. */
function prose(text: string): string[] {
  let code = false;
  return text.split('\n').filter((line) => {
    const fence = line.trimStart().startsWith('```');
    if (fence) code = !code;
    return !code && !fence;
  });
}

/** The anchors of a document: its headings as GitHub writes them, and those set by hand. */
function anchors(text: string): Set<string> {
  const headings = prose(text).flatMap((line) => /^#+ +(.+)$/.exec(line)?.[1] ?? []);
  const slugs = headings.map((heading) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, '')
      .replaceAll(' ', '-'),
  );
  return new Set([...slugs, ...Array.from(text.matchAll(/<a (?:id|name)="([^"]+)"/g), ([, id = '']) => id)]);
}

/** Why a link leads nowhere, or undefined. */
async function broken(from: string, link: string): Promise<string | undefined> {
  const [path = '', anchor] = link.split('#');
  const target = path ? join(dirname(from), path) : from;
  try {
    if (!anchor) {
      await readdir(join(ROOT, target)).catch(() => read(target));
      return undefined;
    }
    return anchors(await read(target)).has(anchor) ? undefined : `${link}: ${target} has no such heading`;
  } catch {
    return `${link}: there is no ${target}`;
  }
}

const linksOf = (text: string): string[] =>
  Array.from(
    prose(text)
      .join('\n')
      .matchAll(/\]\(([^)\s]+)\)/g),
    ([, link = '']) => link,
  ).filter((link) => !/^[a-z]+:/.test(link));

describe('links', () => {
  test('between files of the project lead to something', async () => {
    const files = await documents();
    expect(files).toEqual(expect.arrayContaining(['README.md', 'docs/names.md', 'bench/README.md']));
    const problems: string[] = [];
    for (const file of files) {
      for (const link of linksOf(await read(file))) {
        const problem = await broken(file, link);
        if (problem) problems.push(`${file}: ${problem}`);
      }
    }
    expect(problems).toEqual([]);
  });

  test('and paths in the text of the map and the recipes are there', async () => {
    for (const file of ['ARCHITECTURE.md', 'CONTRIBUTING.md', 'SECURITY.md']) {
      const named = Array.from(
        (await read(file)).matchAll(/`((?:src|assembly|shaders|test|scripts|docs)\/[\w./-]+)`/g),
      );
      const paths = named.map(([, path = '']) => path).filter((path) => !path.includes('NAME'));
      const missing = await Promise.all(paths.map((path) => broken('README.md', path)));
      expect(missing.filter(Boolean), file).toEqual([]);
    }
  });

  test('of the package lead to its own files, or to what only the repository has: rows and examples', async () => {
    const { files } = JSON.parse(await read('package.json')) as { files: string[] };
    const shipped = new Set(['README.md', 'LICENSE', ...files.filter((file) => file.endsWith('.md'))]);
    for (const file of await documents(join(ROOT, 'docs'))) shipped.add(file);
    expect(files).toContain('docs');
    for (const file of shipped) {
      const targets = linksOf(await read(file)).map((link) => join(dirname(file), link.split('#')[0] || '.'));
      const outside = targets.filter((target) => !shipped.has(target) && !/^(bench|examples)\//.test(target));
      expect(
        outside.filter((target) => target !== dirname(file)),
        file,
      ).toEqual([]);
    }
  });

  test('a missing file and a missing heading would be found', async () => {
    expect(await broken('docs/names.md', '../README.md')).toBeUndefined();
    expect(await broken('docs/names.md', 'nowhere.md')).toContain('there is no docs/nowhere.md');
    expect(await broken('README.md', 'docs/names.md#nothing')).toContain('no such heading');
    expect(await broken('README.md', '#nothing')).toContain('no such heading');
  });
});

describe('size', () => {
  test.each([
    ['README.md', 220],
    ['ARCHITECTURE.md', 200],
  ])('%s has at most %d lines', async (file, most) => {
    expect((await read(file)).trimEnd().split('\n').length).toBeLessThanOrEqual(most);
  });

  test('lines of prose have at most 120 columns', async () => {
    const files = ['README.md', 'ARCHITECTURE.md', 'CONTRIBUTING.md', 'SECURITY.md', 'CHANGELOG.md'];
    files.push(...(await documents(join(ROOT, 'docs'))));
    for (const file of files) {
      const long = prose(await read(file)).filter((line) => [...line].length > 120 && !/^\s*(\||!?\[|<)/.test(line));
      expect(long, file).toEqual([]);
    }
  });
});
