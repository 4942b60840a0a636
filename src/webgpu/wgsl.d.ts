/* A shader's text: the build (tsup.config.ts) and vitest.config.ts load these files as strings. */
declare module '*.wgsl' {
  const code: string;
  // biome-ignore lint/style/noDefaultExport: what the loaders make of a text file.
  export default code;
}
