// Given to a program by `--import`: on SIGUSR2 the last worker that it started is ended, whatever it does, and stderr
// told so. CORES is how many the program believes to have.

import { createRequire, syncBuiltinESMExports } from 'node:module';

const require = createRequire(import.meta.url);
const threads = require('node:worker_threads');

if (threads.isMainThread) {
  const running = new Set();
  threads.Worker = class extends threads.Worker {
    constructor(...args) {
      super(...args);
      running.add(this);
      this.once('exit', () => running.delete(this));
    }
  };
  require('node:os').availableParallelism = () => Number(process.env.CORES);
  syncBuiltinESMExports();
  process.on('SIGUSR2', () => {
    const last = [...running].at(-1);
    if (!last) return;
    running.delete(last);
    console.error('ended a worker');
    last.terminate();
  });
}
