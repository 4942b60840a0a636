import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname, join, sep } from 'node:path';
import { pipeline } from 'node:stream/promises';

/** What browsers may have of the repository. */
const FOLDERS = ['dist', 'models', 'bench/page', 'bench/.cache', 'bench/node_modules', 'bench/src/runtimes'];

const TYPES: Readonly<Record<string, string>> = {
  '.css': 'text/css; charset=utf-8',
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json',
  '.map': 'application/json',
  '.mjs': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.wasm': 'application/wasm',
};

export interface Served {
  /** Such as `http://127.0.0.1:41234`. A file's URL is this, `/`, and its path in the repository. */
  readonly origin: string;
  /** Ends open connections too. */
  close(): Promise<void>;
}

/**
 * Serves the repository's files to browsers of this machine alone, with the headers by which a page is cross-origin
 * isolated: without them it has no shared memory, so no threads, and a coarse clock.
 * @param port default: any that is free
 */
export async function serve(repository: string, port = 0): Promise<Served> {
  const server = createServer((request, response) => {
    // The browser may go away at any time; its answer is nobody's then.
    answer(repository, request, response).catch(() => response.destroy());
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => resolve());
  });
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/** The file that a request's path means, or undefined if it means none that may be read. */
export function servedPath(repository: string, url: string): string | undefined {
  let path: string;
  try {
    // A URL's own rules take out `..`, and what is left of it after decoding is refused.
    path = decodeURIComponent(new URL(url, 'http://127.0.0.1').pathname);
  } catch {
    return undefined;
  }
  if (/\0|\\|(^|\/)\.\.(\/|$)/.test(path)) return undefined;
  const relative = path.slice(1) + (path.endsWith('/') ? 'index.html' : '');
  if (!FOLDERS.some((folder) => relative.startsWith(`${folder}/`))) return undefined;
  return join(repository, ...relative.split('/'));
}

/** Where the server has a file of the repository. */
export function urlPath(repository: string, path: string): string {
  const root = repository.endsWith(sep) ? repository : repository + sep;
  if (!path.startsWith(root)) throw new Error(`${path} is not in the repository, ${repository}`);
  return `/${path.slice(root.length).split(sep).map(encodeURIComponent).join('/')}`;
}

async function answer(repository: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
  response.setHeader('Cross-Origin-Opener-Policy', 'same-origin');
  response.setHeader('Cross-Origin-Embedder-Policy', 'require-corp');
  response.setHeader('Cross-Origin-Resource-Policy', 'same-origin');
  response.setHeader('Cache-Control', 'no-store');
  if (request.method !== 'GET' && request.method !== 'HEAD') return end(response, 405);
  const path = servedPath(repository, request.url ?? '');
  const found = path === undefined ? undefined : await stat(path).catch(() => undefined);
  if (path === undefined || !found?.isFile()) return end(response, 404);
  response.setHeader('Content-Type', TYPES[extname(path)] ?? 'application/octet-stream');
  response.setHeader('Content-Length', found.size);
  if (request.method === 'HEAD') return end(response, 200);
  await pipeline(createReadStream(path, { highWaterMark: 2 ** 20 }), response);
}

function end(response: ServerResponse, status: number): void {
  response.statusCode = status;
  response.end();
}
