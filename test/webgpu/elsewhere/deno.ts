import { runSuites } from './suites.js';

/* The tests of operations and networks, for Deno: bundled by deno.test.ts. */

const outcomes = await runSuites({
  'ops/batchnorm2d.test.ts': () => import('../../ops/batchnorm2d.test.js'),
  'ops/chain.test.ts': () => import('../../ops/chain.test.js'),
  'ops/conv2d.test.ts': () => import('../../ops/conv2d.test.js'),
  'ops/elementwise.test.ts': () => import('../../ops/elementwise.test.js'),
  'ops/layout.test.ts': () => import('../../ops/layout.test.js'),
  'ops/linear.test.ts': () => import('../../ops/linear.test.js'),
  'ops/pool.test.ts': () => import('../../ops/pool.test.js'),
  'ops/softmax.test.ts': () => import('../../ops/softmax.test.js'),
  'networks.test.ts': () => import('../../networks.test.js'),
  'networks-slow.test.ts': () => import('../../networks-slow.test.js'),
});
console.log(`\n${JSON.stringify(outcomes)}`);
