import { type Ran, runModule } from './child.js';

/*
 * Programs that end the workers of their models, or make them fail. What they may use:
 *
 * workers            all that were started, in order: a model's engine comes before its helpers
 * running()          how many have not exited
 * settle(count)      resolves with that number when it is `count`, or does not become so within seconds
 * gone(worker)       resolves when it has
 * faults.script      JavaScript that the next workers run before their own script
 * faults.refuse      set to true, no worker starts
 * WORKER             what `faults.script` may call to change the kernels: `change(exports => other exports)`
 * outcome(promise)   'ok' or the error's code
 * sleep(ms)
 * SMALL, x           options of a small model, and an input of which a forward of `SLOW` takes a while
 */
const PRELUDE = `
  import { createRequire, syncBuiltinESMExports } from 'node:module';
  const threads = createRequire(import.meta.url)('node:worker_threads');
  const workers = [];
  const faults = { script: '', refuse: false };
  const exited = new Set();
  threads.Worker = class extends threads.Worker {
    constructor(script, options) {
      if (faults.refuse) throw new Error('no more threads');
      super(faults.script ? faulty(faults.script, script) : script, options);
      workers.push(this);
      this.once('exit', () => exited.add(this));
    }
  };
  syncBuiltinESMExports();
  function faulty(fault, script) {
    const text = \`
      const { instantiate } = WebAssembly;
      const change = (make) => {
        WebAssembly.instantiate = async (module, imports) => {
          const { exports } = await instantiate(module, imports);
          return { exports: { ...exports, ...make(exports) } };
        };
      };
      \${fault}
      await import(\${JSON.stringify(String(script))});
    \`;
    return new URL('data:text/javascript,' + encodeURIComponent(text));
  }
  const running = () => workers.length - exited.size;
  const settle = async (count) => {
    for (let i = 0; i < 200 && running() !== count; i++) await sleep(25);
    return running();
  };
  const gone = async (worker) => { while (!exited.has(worker)) await sleep(1); };
  const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const outcome = (call) => call.then(() => 'ok', (error) => error.code ?? String(error));
  const bits = ({ data }) => Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('base64');
  const { VGGNet, Tensor, saveSafetensors } = await import('vggnet');
  const SMALL = { device: 'wasm', numClasses: 10, hiddenFeatures: 16, poolSize: 2, batchNorm: true };
  const SLOW = [32, 32, 32, 32, 32, 32, 'M'];
  const x = Tensor.randn([2, 3, 224, 224]);
`;

/** Runs such a program. */
export function runCrash(source: string, options: Parameters<typeof runModule>[1] = {}): Promise<Ran> {
  return runModule(PRELUDE + source, options);
}
