/*
 * A service worker. It keeps what the page has fetched, so that the page opens without a network, and it adds the two
 * headers that let a page share memory between threads, which a plain file server does not send.
 */

const CACHE = 'vggnet-page';

self.addEventListener('install', (event) => {
  event.waitUntil(self.skipWaiting());
});
self.addEventListener('activate', (event) => {
  event.waitUntil(self.clients.claim().then(keepPage));
});

/** What was fetched before this worker was there. */
async function keepPage() {
  const cache = await caches.open(CACHE);
  const files = await (await fetch('./files.json')).json();
  await cache.addAll(files);
}

self.addEventListener('fetch', (event) => {
  const { request } = event;
  const here = new URL(request.url).origin === self.location.origin;
  if (request.method === 'GET' && here) event.respondWith(answer(request));
});

/** The network's answer, so that a new version is seen at once; the kept one where there is no network. */
async function answer(request) {
  const cache = await caches.open(CACHE);
  let response;
  try {
    response = await fetch(request);
    if (response.ok && response.status === 200) await cache.put(request, response.clone());
  } catch (error) {
    response = await cache.match(request, { ignoreSearch: true });
    if (!response) throw error;
  }
  return isolated(response);
}

function isolated(response) {
  const headers = new Headers(response.headers);
  headers.set('Cross-Origin-Opener-Policy', 'same-origin');
  headers.set('Cross-Origin-Embedder-Policy', 'require-corp');
  headers.set('Cross-Origin-Resource-Policy', 'same-origin');
  const { status, statusText } = response;
  return new Response(response.body, { status, statusText, headers });
}
