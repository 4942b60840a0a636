/* The text of a shader: the build (tsup.config.ts) and vitest.config.ts load these files as strings. */
declare module '*.wgsl' {
  const code: string;
  // biome-ignore lint/style/noDefaultExport: the loaders of text files make one.
  export default code;
}
