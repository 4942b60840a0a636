/** A file of the package; the path is as seen from dist/cli.js, into which this is bundled. */
export function packageFile(path: string): URL {
  return new URL(`../${path}`, import.meta.url);
}
