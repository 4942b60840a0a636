import { cp, mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

/*
 * Puts the page, the library and the embedded model into one folder, which any file server can serve:
 * node examples/page/build.mjs [FOLDER]
 */

const here = fileURLToPath(new URL('.', import.meta.url));
const root = join(here, '../..');
const site = process.argv[2] ?? join(here, 'site');

const PAGE = ['index.html', 'style.css', 'icon.svg', 'page.js', 'pad.js', 'views.js', 'offline.js'];
/** For other runtimes, or for people. */
const LEFT_OUT = /\.(?:map|d\.ts|txt)$|^cli|^workerd|^inline|^serve|debug/;

await rm(site, { recursive: true, force: true });
await mkdir(site, { recursive: true });
for (const file of PAGE) await cp(join(here, file), join(site, file));
await cp(join(root, 'dist'), join(site, 'vggnet'), {
  recursive: true,
  filter: (path) => !LEFT_OUT.test(relative(join(root, 'dist'), path).replace(/^kernels\//, '')),
});
await cp(join(root, 'models/glyphs.safetensors'), join(site, 'models/glyphs.safetensors'));

const files = (await readdir(site, { recursive: true, withFileTypes: true }))
  .filter((entry) => entry.isFile())
  .map((entry) => `./${relative(site, join(entry.parentPath, entry.name))}`)
  .sort();
await writeFile(join(site, 'files.json'), JSON.stringify(['./', ...files, './files.json']));
console.log(`${files.length} files in ${relative(process.cwd(), site) || '.'}`);
