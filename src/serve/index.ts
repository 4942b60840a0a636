export { createHandler, type RequestHandler } from './handler.js';
export type { DrainOptions } from './lifecycle.js';
export type { ModelSource } from './model.js';
export { type NodeListenerOptions, type NodeRequest, type NodeResponse, toNodeListener } from './node.js';
export type { ServeOptions } from './options.js';
