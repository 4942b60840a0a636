import { type ChildProcess, spawn } from 'node:child_process';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';

/** The built command. */
export const CLI: string = fileURLToPath(new URL('../../dist/cli.js', import.meta.url));

/** A file of the repository. */
export function repositoryFile(path: string): string {
  return fileURLToPath(new URL(`../../${path}`, import.meta.url));
}

export interface Finished {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Makes Vulkan find no driver, and so WebGPU no adapter, on any machine; Dawn says so on stderr. */
export const NO_GPU: Readonly<Record<string, string>> = { VK_ICD_FILENAMES: '/dev/null', VK_DRIVER_FILES: '/dev/null' };

/** Runs `vggnet` with these arguments to its end. `started` is given the process, to disturb it. */
export function vggnet(
  args: readonly string[],
  started?: (child: ChildProcess) => void,
  env: Readonly<Record<string, string>> = {},
): Promise<Finished> {
  const options = { stdio: ['ignore' as const, 'pipe' as const, 'pipe' as const], env: { ...process.env, ...env } };
  return finished(spawn(process.execPath, [CLI, ...args], options), started);
}

/** Runs a shell command in a pseudo-terminal; what it writes there is `stdout`. */
export function inTerminal(command: string): Promise<Finished> {
  return finished(spawn('script', ['-qec', command, '/dev/null'], { stdio: ['ignore', 'pipe', 'pipe'] }));
}

function finished(child: ChildProcess, started?: (child: ChildProcess) => void): Promise<Finished> {
  return new Promise((resolve, reject) => {
    let stdout = '';
    let stderr = '';
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, stdout, stderr }));
    started?.(child);
  });
}

export interface TestServer {
  readonly url: string;
  /** Resolves when it is asked for the first time. */
  readonly asked: Promise<void>;
  close(): Promise<void>;
}

/** A server on this machine that answers every request by `answer`. */
export async function serve(answer: (response: ServerResponse) => unknown): Promise<TestServer> {
  let onAsked: () => void = () => {};
  const asked = new Promise<void>((resolve) => {
    onAsked = resolve;
  });
  const server = createServer((_, response) => {
    onAsked();
    void answer(response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}/model.safetensors`,
    asked,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
