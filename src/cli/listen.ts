import type { Server, ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { messageOf, VGGNetError } from '../errors.js';
import type { RequestHandler } from '../serve/handler.js';
import { toNodeListener } from '../serve/node.js';

/*
 * The servers of Node, Deno and Bun, and how they stop.
 */

export interface ListenOptions {
  readonly hostname: string;
  readonly port: number;
  /** Connections at most; for more, those that have no request in progress are closed. */
  readonly maxConnections: number;
  /** How long the head of a request may take, in ms. */
  readonly headersTimeout: number;
  /** How long a whole request may take to come, in ms. */
  readonly requestTimeout: number;
  /** How long a connection may wait for its next request, in ms. */
  readonly keepAliveTimeout: number;
  readonly answerTimeout: number;
}

export interface Listening {
  readonly url: string;
  /** Closes connections that never sent a request, and from now on such that do not send one in time. */
  leave(): void;
  /** Takes no more connections, closes those that wait, and resolves when the others have ended. */
  close(): Promise<void>;
  /** Takes no more connections, and cuts those that are left. */
  cut(): void;
}

/** What Deno and Bun have of their own. */
interface Runtimes {
  readonly Deno?: {
    serve(
      options: { hostname: string; port: number; signal: AbortSignal; onListen: () => void },
      fetch: RequestHandler['fetch'],
    ): { readonly addr: { readonly hostname: string; readonly port: number }; shutdown(): Promise<void> };
  };
  readonly Bun?: {
    serve(options: { hostname: string; port: number; fetch: RequestHandler['fetch'] }): {
      readonly url: URL;
      stop(closeActiveConnections?: boolean): Promise<void>;
    };
  };
}

/** @throws VGGNetError `IO` if the port cannot be had */
export async function listen(handler: RequestHandler, options: ListenOptions): Promise<Listening> {
  const { Deno, Bun } = globalThis as Runtimes;
  const { hostname, port } = options;
  const { fetch } = handler;
  try {
    if (Deno) {
      const controller = new AbortController();
      const server = Deno.serve({ hostname, port, signal: controller.signal, onListen() {} }, fetch);
      return {
        url: urlOf(server.addr.hostname, server.addr.port),
        leave() {},
        close: () => server.shutdown(),
        cut: () => controller.abort(),
      };
    }
    if (Bun) {
      const server = Bun.serve({ hostname, port, fetch });
      return {
        url: server.url.href,
        leave() {},
        close: () => server.stop(),
        cut: () => void server.stop(true),
      };
    }
    return await listenInNode(handler, options);
  } catch (cause) {
    const reason = messageOf(cause);
    throw new VGGNetError('IO', `Cannot listen on ${urlOf(hostname, port)}: ${reason}`, { cause });
  }
}

async function listenInNode(handler: RequestHandler, options: ListenOptions): Promise<Listening> {
  const { createServer } = await import('node:http');
  const { hostname, port, headersTimeout, requestTimeout, keepAliveTimeout, answerTimeout } = options;
  const listener = toNodeListener(handler, { answerTimeout });
  const server = createServer({
    headersTimeout,
    requestTimeout: Math.max(requestTimeout, headersTimeout),
    keepAliveTimeout,
    connectionsCheckingInterval: 1000,
  });
  const connections = new Connections(server, options.maxConnections);
  server.on('request', listener);
  // The body is asked for when it is read, so that what is refused is not sent.
  server.on('checkContinue', listener);
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, hostname, resolve);
  });
  const { address, port: own } = server.address() as AddressInfo;
  return {
    url: urlOf(address, own),
    leave: () => connections.leave(),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        connections.closeIdle();
      }),
    cut() {
      server.close();
      server.closeAllConnections();
    },
  };
}

interface Connection {
  readonly since: number;
  /** Requests whose answer has not been sent. */
  requests: number;
  /** True when a request has come whole, at least its head. */
  asked: boolean;
}

/** How long a new connection may be silent when the server leaves, in ms: its request may be on its way. */
const SILENCE = 1000;

/** The connections of a server, and which of them may go. */
class Connections {
  readonly #open = new Map<Socket, Connection>();
  readonly #max: number;
  #leaving = false;
  #closing = false;

  constructor(server: Server, max: number) {
    this.#max = max;
    server.on('connection', (socket: Socket) => this.#add(socket));
    const began = (_: unknown, response: ServerResponse): void => this.#began(response);
    server.prependListener('request', began);
    server.prependListener('checkContinue', began);
  }

  leave(): void {
    this.#leaving = true;
    for (const [socket, connection] of this.#open) this.#dropSilent(socket, connection);
  }

  /** Closes those without a request in progress, and from now on each when its last is answered. */
  closeIdle(): void {
    this.#closing = true;
    for (const [socket, { requests }] of this.#open) {
      if (requests === 0) socket.destroy();
    }
  }

  #add(socket: Socket): void {
    // The oldest first: a client that takes connections and says nothing loses them to those who ask.
    if (this.#open.size >= this.#max && !this.#evict()) {
      socket.destroy();
      return;
    }
    const connection = { since: performance.now(), requests: 0, asked: false };
    this.#open.set(socket, connection);
    socket.once('close', () => this.#open.delete(socket));
    if (this.#leaving) this.#dropSilent(socket, connection);
  }

  #evict(): boolean {
    for (const [socket, { requests }] of this.#open) {
      if (requests > 0) continue;
      this.#open.delete(socket);
      socket.destroy();
      return true;
    }
    return false;
  }

  #began(response: ServerResponse): void {
    const { socket } = response;
    const connection = socket && this.#open.get(socket);
    if (!socket || !connection) return;
    // To the end of the line: it is the last to go.
    this.#open.delete(socket);
    this.#open.set(socket, connection);
    connection.requests++;
    connection.asked = true;
    response.once('close', () => {
      connection.requests--;
      if (this.#closing && connection.requests === 0) socket.destroySoon();
    });
  }

  #dropSilent(socket: Socket, connection: Connection): void {
    if (connection.asked) return;
    const left = connection.since + SILENCE - performance.now();
    if (left <= 0) {
      socket.destroy();
      return;
    }
    setTimeout(() => {
      if (!connection.asked) socket.destroy();
    }, left);
  }
}

function urlOf(hostname: string, port: number): string {
  return `http://${hostname.includes(':') ? `[${hostname}]` : hostname}:${port}/`;
}
