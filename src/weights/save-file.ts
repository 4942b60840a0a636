/**
 * Writes a stream to a file, in Node, Deno and Bun. The file appears, or takes the place of an older one, only when
 * all is written; after an error nothing is left.
 * @returns the number of bytes
 * @throws VGGNetError `INVALID_ARGUMENT` for a stream in use, `IO`, `ABORTED`, or whatever the stream throws
 */
export async function saveFile(
  path: string | URL,
  stream: ReadableStream<Uint8Array>,
  options: { signal?: AbortSignal | undefined } = {},
): Promise<number> {
  const { writeFile } = await import('./bytes/file.js');
  return writeFile(path, stream, options.signal);
}
