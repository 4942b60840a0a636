/* The members of GPUBufferUsage that this backend uses; Node has no such global. */

export const mapRead = 0x1;
export const copySource = 0x4;
export const copyTarget = 0x8;
export const uniform = 0x40;
export const storage = 0x80;
export const queryResolve = 0x200;
/** `GPUMapMode.READ`. */
export const mapModeRead = 0x1;
