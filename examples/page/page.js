import { createPad } from './pad.js';
import { PRETRAINED, VGGNet } from './vggnet/index.js';
import { formatMs, showBars, showMaps } from './views.js';

/*
 * Ties the page together: one picture, one network on one or two devices, and what is shown of a forward.
 */

const $ = (id) => document.getElementById(id);

/** The network on each device that is in use: 'wasm' first, and 'webgpu' if it is compared. */
const models = new Map();
/** How to load the network again, for another device. */
let open = (options) => VGGNet.create('glyphs', options);
let loading;
let running;
let again = false;

const pad = createPad($('pad'), classify);

/** Loads on the devices in use; the old networks stay until all of the new ones are there. */
async function load(next, devices = [...models.keys()]) {
  loading?.abort();
  loading = new AbortController();
  const { signal } = loading;
  $('error').textContent = '';
  $('loading').hidden = false;
  const fresh = new Map();
  try {
    for (const device of devices) {
      fresh.set(device, await next({ device, signal, onProgress: showProgress(device) }));
    }
  } catch (error) {
    for (const model of fresh.values()) model.dispose();
    if (!signal.aborted) fail(error);
    return false;
  } finally {
    if (loading?.signal === signal) $('loading').hidden = true;
  }
  for (const model of models.values()) model.dispose();
  models.clear();
  for (const [device, model] of fresh) models.set(device, model);
  open = next;
  showModel();
  classify();
  return true;
}

function showProgress(device) {
  return ({ loaded, total }) => {
    const mib = (bytes) => `${(bytes / 2 ** 20).toFixed(0)} MiB`;
    if (total) $('progress').value = loaded / total;
    else $('progress').removeAttribute('value');
    $('loaded').textContent = `${device}: ${mib(loaded)}${total ? ` of ${mib(total)}` : ''}`;
  };
}

function fail(error) {
  $('error').textContent = error.code ? `${error.message} (${error.code})` : String(error);
}

function showModel() {
  const { config, parameters, layers } = models.get('wasm');
  $('model').textContent =
    `${config.name}: ${(parameters / 1e6).toFixed(1)} million parameters, ${config.numClasses} classes`;
  const chosen = $('layer').value;
  const names = layers.filter(({ op }) => op !== 'flatten').map(({ name }) => name);
  $('layer').replaceChildren(...names.map((name) => new Option(name)));
  $('layer').value = names.includes(chosen) ? chosen : (names.find((name) => name.startsWith('relu2')) ?? names[0]);
  showDevices(new Map());
}

function showDevices(times) {
  $('devices').replaceChildren(
    ...[...models].map(([name, { device }]) => {
      const entry = document.createElement('div');
      entry.className = 'device';
      entry.dataset.device = name;
      const time = document.createElement('b');
      time.textContent = times.has(name) ? formatMs(times.get(name)) : '';
      const title = document.createElement('span');
      title.textContent = name === 'wasm' ? 'WebAssembly' : 'WebGPU';
      const detail = document.createElement('small');
      detail.textContent = name === 'wasm' ? `${device.build}, ${device.threads} threads` : device.build;
      entry.append(time, title, detail);
      return entry;
    }),
  );
}

/** Runs the picture through the network; while it runs, changes are gathered for one more run. */
function classify() {
  if (running) {
    again = true;
    return;
  }
  running = show()
    .catch(fail)
    .finally(() => {
      running = undefined;
      if (again) {
        again = false;
        classify();
      }
    });
}

async function show() {
  const image = pad.image();
  const model = models.get('wasm');
  if (!image || !model) {
    for (const id of ['top', 'times']) $(id).replaceChildren();
    $('hint').hidden = false;
    return;
  }
  $('hint').hidden = true;
  $('error').textContent = '';
  const input = await model.preprocess(image);
  const times = new Map();
  for (const [name, one] of models) {
    const start = performance.now();
    const top = await one.classify(input);
    times.set(name, performance.now() - start);
    if (name !== 'wasm') continue;
    showBars(
      $('top'),
      top.map(({ label, probability }) => ({
        label,
        text: `${(probability * 100).toFixed(1)}%`,
        share: probability,
      })),
    );
  }
  showDevices(times);
  const { layers } = await model.profile(input);
  const longest = Math.max(...layers.map(({ ms }) => ms));
  showBars(
    $('times'),
    layers.map(({ name, ms }) => ({ label: name, text: formatMs(ms), share: longest > 0 ? ms / longest : 0 })),
  );
  await showLayer(model, input);
}

async function showLayer(model, input) {
  const layer = $('layer').value;
  const { [layer]: output } = await model.features(input, [layer]);
  $('shape').textContent = showMaps($('maps'), output);
}

async function openPicture(file) {
  try {
    pad.show(await createImageBitmap(file));
  } catch {
    $('error').textContent = `${file.name || 'That'} is not a picture that this browser reads`;
  }
}

$('clear').addEventListener('click', () => pad.clear());
$('picture').addEventListener('change', ({ target }) => {
  if (target.files[0]) openPicture(target.files[0]);
  target.value = '';
});
$('layer').addEventListener('change', classify);

const drop = $('drop');
for (const type of ['dragenter', 'dragover']) {
  drop.addEventListener(type, (event) => {
    event.preventDefault();
    drop.classList.add('over');
  });
}
drop.addEventListener('dragleave', () => drop.classList.remove('over'));
drop.addEventListener('drop', (event) => {
  event.preventDefault();
  drop.classList.remove('over');
  const [file] = event.dataTransfer.files;
  if (file) openPicture(file);
});
document.addEventListener('paste', ({ clipboardData }) => {
  const file = [...clipboardData.files].find(({ type }) => type.startsWith('image/'));
  if (file) openPicture(file);
});

$('embedded').addEventListener('click', () => load((options) => VGGNet.create('glyphs', options)));
$('weights').addEventListener('change', ({ target }) => {
  const [file] = target.files;
  if (file) load((options) => VGGNet.load(file, options));
  target.value = '';
});
$('named').addEventListener('submit', (event) => {
  event.preventDefault();
  const name = $('name').value;
  load((options) => VGGNet.fromPretrained(name, options));
});
$('cancel').addEventListener('click', () => loading?.abort());
$('compare').addEventListener('change', async ({ target }) => {
  const done = await load(open, target.checked ? ['wasm', 'webgpu'] : ['wasm']);
  if (!done) target.checked = models.has('webgpu');
});

$('name').replaceChildren(...PRETRAINED.map(({ name }) => new Option(name)));
load(open, ['wasm']);

if ('serviceWorker' in navigator) {
  navigator.serviceWorker.register('./offline.js').catch(() => {
    // Without one the page works, but only online and on one thread.
  });
}
