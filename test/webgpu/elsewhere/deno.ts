import { runSuites } from './suites.js';

/* The kernels' and networks' tests, for Deno: bundled by deno.test.ts. */

const outcomes = await runSuites({
  'kernels.test.ts': () => import('../../kernels.test.js'),
  'networks.test.ts': () => import('../../networks.test.js'),
  'networks-slow.test.ts': () => import('../../networks-slow.test.js'),
});
console.log(`\n${JSON.stringify(outcomes)}`);
