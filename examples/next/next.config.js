// npx next build: static files in out/. Next finds the kernels and the worker by itself, by Turbopack and by webpack.
// With the headers of cross-origin isolation from the server that sends the files, several threads compute.

// biome-ignore lint/style/noDefaultExport: Next wants it
export default { output: 'export' };
