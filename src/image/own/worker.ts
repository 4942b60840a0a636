import { messageOf } from '../../errors.js';
import { type CodecTask, decodeWithCodec } from './codec.js';

/*
 * The script of a thread that decodes one picture: a task comes, pixels or the reason of a failure go, and it ends.
 */

export type CodecResult = { readonly rgb: Uint8Array<ArrayBuffer> } | { readonly failure: string };

const port = globalThis.process?.getBuiltinModule?.('node:worker_threads').parentPort;
port?.once('message', (task: CodecTask) => {
  try {
    const rgb = decodeWithCodec(task);
    port.postMessage({ rgb } satisfies CodecResult, [rgb.buffer]);
  } catch (error) {
    port.postMessage({ failure: messageOf(error) } satisfies CodecResult);
  }
});
