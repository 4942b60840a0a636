import { createHash, randomBytes } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { PretrainedFile } from '../../src/hub/catalog.js';

/** Long enough for several parts on the wire. */
export const SIZE: number = 300_000;

export function randomFile(size: number = SIZE): Buffer {
  return randomBytes(size);
}

export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

export interface Asked {
  readonly url: string;
  readonly range: string | undefined;
  readonly ifRange: string | undefined;
}

/** Answers one request; `index` counts them from 0. */
export type Answer = (request: IncomingMessage, response: ServerResponse, index: number) => unknown;

export interface WeightServer {
  readonly url: string;
  readonly asked: readonly Asked[];
  /** The record of a file of these bytes there. */
  file(bytes: Uint8Array, more?: Partial<PretrainedFile>): PretrainedFile;
  close(): Promise<void>;
}

/** A server of this machine for files of weights, which answers as it is told. */
export async function serveWeights(answer: Answer): Promise<WeightServer> {
  const asked: Asked[] = [];
  const server = createServer((request, response) => {
    const { range, 'if-range': ifRange } = request.headers;
    asked.push({ url: request.url ?? '', range, ifRange: typeof ifRange === 'string' ? ifRange : undefined });
    void answer(request, response, asked.length - 1);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url,
    asked,
    file: (bytes, more) => ({
      format: 'safetensors',
      name: 'small.safetensors',
      url: `${url}/small.safetensors`,
      sha256: sha256(bytes),
      ...more,
    }),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

export interface SendOptions {
  readonly etag?: string | undefined;
  readonly lastModified?: string | undefined;
  /** The connection is cut when so many bytes of the body are sent. */
  readonly cutAfter?: number;
  /** Milliseconds before the cut, in which they have to be read: what a client holds unread then is lost. Default 100. */
  readonly cutDelay?: number;
  /** The body stops there, and the connection stays. */
  readonly stallAfter?: number;
  /** Always the whole file. */
  readonly ignoreRange?: boolean;
  readonly headers?: Readonly<Record<string, string>>;
}

/** Sends a file as a good server does, with ranges, unless the options say otherwise. */
export async function send(
  request: IncomingMessage,
  response: ServerResponse,
  bytes: Buffer,
  options: SendOptions = {},
): Promise<void> {
  const { etag = '"one"', lastModified, cutAfter, cutDelay = 100, stallAfter, ignoreRange, headers = {} } = options;
  if (etag) response.setHeader('etag', etag);
  if (lastModified) response.setHeader('last-modified', lastModified);
  const start = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
  const condition = request.headers['if-range'];
  const partial = !ignoreRange && start > 0 && (condition === undefined || condition === (etag || lastModified));
  if (partial && start >= bytes.length) {
    response.writeHead(416, { 'content-range': `bytes */${bytes.length}` }).end();
    return;
  }
  const body = partial ? bytes.subarray(start) : bytes;
  if (partial) response.setHeader('content-range', `bytes ${start}-${bytes.length - 1}/${bytes.length}`);
  response.writeHead(partial ? 206 : 200, { 'content-length': body.length, ...headers });
  const end = Math.min(cutAfter ?? Infinity, stallAfter ?? Infinity, body.length);
  await new Promise<void>((resolve) => response.write(body.subarray(0, end), () => resolve()));
  if (stallAfter !== undefined) return;
  if (cutAfter === undefined) response.end();
  else setTimeout(() => response.destroy(), cutDelay);
}
