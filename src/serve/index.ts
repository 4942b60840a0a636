export { createHandler, type RequestHandler } from './handler.js';
export type { ModelSource } from './model.js';
export type { ServeOptions } from './options.js';
