import type { SystemName } from '../job.js';
import type { System } from './system.js';

/** Imports one system's code, and no other's. Import errors say what is not installed. */
export async function importSystem(name: Exclude<SystemName, 'kernels'>): Promise<System> {
  switch (name) {
    case 'vggnet':
      return (await import('./vggnet.js')).vggnet;
    case 'onnxruntime-web':
      return (await import('./onnxruntime-web.js')).onnxruntimeWeb;
    case 'onnxruntime-node':
      return (await import('./onnxruntime-node.js')).onnxruntimeNode;
    case 'reader':
      return (await import('./reader.js')).reader;
    case 'tfjs':
      return (await import('./tfjs.js')).tfjs;
  }
}
