// npx webpack: it finds the kernels and the worker by itself. index.html is copied beside dist/main.js by hand.

// biome-ignore lint/style/noDefaultExport: webpack wants it
export default {
  mode: 'production',
  entry: './main.js',
  output: { module: true, filename: 'main.js', clean: true },
  experiments: { outputModule: true },
  target: ['web', 'es2022'],
};
