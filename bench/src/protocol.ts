/** Before every answer of a measuring process. */
export const ANSWER = '\u0001';

export type Answer = { readonly result: unknown } | { readonly error: string; readonly unavailable: boolean };
