/* What the builds' own assets import, which the bundler gives them (tsup.config.ts). */

declare module '*.wasm' {
  /** Linked in by the runtime. */
  const module: WebAssembly.Module;
  // biome-ignore lint/style/noDefaultExport: edge workers name it so
  export default module;
}

declare module 'embedded:*.wasm' {
  const base64: string;
  // biome-ignore lint/style/noDefaultExport: as for any file imported as text
  export default base64;
}

declare module 'embedded:*.js' {
  const text: string;
  // biome-ignore lint/style/noDefaultExport: as for any file imported as text
  export default text;
}
