/**
 * Gives a buffer that nobody reads any more back at once, where the engine can: until garbage is collected it counts as
 * an edge worker's memory. Never one that a read may still write into.
 */
export function free({ buffer }: ArrayBufferView): void {
  // ES2024.
  (buffer as { transfer?(length: number): ArrayBuffer }).transfer?.(0);
}
