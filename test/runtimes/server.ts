import { readFile, stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname, join, normalize } from 'node:path';
import { gzipSync } from 'node:zlib';

const TYPES: Readonly<Record<string, string>> = {
  '.css': 'text/css; charset=utf-8',
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json',
  '.png': 'image/png',
  '.svg': 'image/svg+xml',
  '.wasm': 'application/wasm',
};

/** What the package promises to be enough: nothing evaluated, no worker from a blob. */
export const STRICT_CSP =
  "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'";

/** With these a page is cross-origin isolated, and may share memory with its workers. */
export const ISOLATED: Readonly<Record<string, string>> = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
};

export interface ServerOptions {
  /** Path prefixes, longest first, and the folders that they stand for. */
  readonly folders: Readonly<Record<string, string>>;
  /** On every answer. */
  readonly headers?: Readonly<Record<string, string>>;
}

export interface Server {
  /** `http://127.0.0.1:PORT` */
  readonly origin: string;
  /** What was asked for and found so far, and its size as gzip leaves it, in bytes. */
  readonly sent: ReadonlyMap<string, number>;
  close(): Promise<void>;
}

/** Serves files of folders to this machine's browsers. */
export async function serve({ folders, headers = {} }: ServerOptions): Promise<Server> {
  const sent = new Map<string, number>();
  const find = async (path: string): Promise<Buffer | undefined> => {
    for (const [prefix, folder] of Object.entries(folders)) {
      if (!path.startsWith(prefix)) continue;
      const file = join(folder, normalize(`/${path.slice(prefix.length) || 'index.html'}`));
      if ((await stat(file).catch(() => undefined))?.isFile()) return readFile(file);
    }
    return undefined;
  };
  const server = createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url ?? '/', 'http://host').pathname);
    find(path).then(
      (body) => {
        if (body) sent.set(path, gzipSync(body, { level: 9 }).length);
        const type = TYPES[extname(path) || '.html'] ?? 'application/octet-stream';
        response.writeHead(body ? 200 : 404, { 'Content-Type': type, 'Cache-Control': 'no-store', ...headers });
        response.end(body);
      },
      () => response.destroy(),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', () => resolve()));
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    sent,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
