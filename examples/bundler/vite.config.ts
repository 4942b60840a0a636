// npx vite build, and npx vite to develop. Vite finds the kernels and the worker by itself.

// With these headers the page may share memory with its workers, so that several threads compute.
const headers = { 'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp' };

// biome-ignore lint/style/noDefaultExport: Vite wants it
export default {
  base: './',
  build: { target: 'es2022' },
  // In development Vite would move the package's script, and leave the files beside it behind.
  optimizeDeps: { exclude: ['vggnet'] },
  server: { headers },
  preview: { headers },
};
