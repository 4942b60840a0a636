/** The GPUBufferUsage that this backend needs; Node has no such global. */
export const USAGE = {
  mapRead: 0x1,
  copySource: 0x4,
  copyTarget: 0x8,
  uniform: 0x40,
  storage: 0x80,
  queryResolve: 0x200,
} as const;
/** The GPUMapMode of that name. */
export const MAP_READ = 0x1;
