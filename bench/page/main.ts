import { MODEL_NAMES } from '../../src/model/config.js';
import { measure, type PageRow, type Plan, type Variant, WARMUP } from './measure.js';
import { format, label, plot } from './plot.js';

/** Put in by the bundler. */
declare const COMMIT: string;

/** What a VGG takes at most, in GB, for one image: weights, Winograd's own, and activations. */
const GIGABYTES = 1;
/** Models are held together, and their samples taken in turn, up to this many GB. */
const TOGETHER_GB = 2;

const form = byId('form', HTMLFormElement);
const model = byId('model', HTMLSelectElement);
const run = byId('run', HTMLButtonElement);
const stop = byId('stop', HTMLButtonElement);
const progress = byId('progress', HTMLProgressElement);
const status = byId('status', HTMLElement);
const json = byId('json', HTMLTextAreaElement);
let rows: readonly PageRow[] = [];
let controller = new AbortController();

for (const name of ['glyphs', ...MODEL_NAMES]) {
  model.append(new Option(name === 'glyphs' ? 'glyphs (small, embedded)' : name, name));
}
offerThreads();
describeMemory();
form.addEventListener('change', describeMemory);
form.addEventListener('submit', (event) => {
  event.preventDefault();
  void start();
});
stop.addEventListener('click', () => controller.abort());
byId('copy', HTMLButtonElement).addEventListener('click', () => void copy());
new ResizeObserver(draw).observe(byId('plot', HTMLElement));

function offerThreads(): void {
  const cores = navigator.hardwareConcurrency || 1;
  const counts = [...new Set([1, 2, 4, 8, 16, cores].filter((count) => count <= Math.min(cores, 16)))];
  for (const count of counts.sort((a, b) => a - b)) {
    const box = document.createElement('input');
    Object.assign(box, { type: 'checkbox', name: 'threads', value: String(count) });
    box.checked = count === 1 || (count === counts.at(-1) && crossOriginIsolated);
    box.disabled = count > 1 && !crossOriginIsolated;
    const choice = document.createElement('label');
    choice.append(box, String(count));
    byId('threads', HTMLElement).append(choice);
  }
  if (crossOriginIsolated) return;
  const note = byId('threads-note', HTMLElement);
  note.hidden = false;
  note.textContent =
    'More than one thread needs shared memory, which this page does not have: its server does not send the headers ' +
    'Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp.';
}

function checked(name: string): string[] {
  return [...form.querySelectorAll<HTMLInputElement>(`input[name="${name}"]:checked:not(:disabled)`)].map(
    ({ value }) => value,
  );
}

/** What the form asks for. */
function choice(): Plan {
  const threads = checked('threads').map(Number);
  const variants = checked('backend').flatMap((backend): Variant[] => {
    if (backend === 'webgpu') return [{ backend: 'webgpu', threads: 1 }];
    return threads.map((count) => ({ backend: 'wasm', build: backend as 'simd' | 'relaxed-simd', threads: count }));
  });
  return {
    model: model.value,
    seed: byId('seed', HTMLInputElement).valueAsNumber,
    samples: byId('samples', HTMLInputElement).valueAsNumber,
    variants,
    together: model.value === 'glyphs' || variants.length * GIGABYTES <= TOGETHER_GB,
  };
}

function describeMemory(): void {
  const { variants, together } = choice();
  const note = byId('memory', HTMLElement);
  if (model.value === 'glyphs') {
    note.textContent = 'A few MB of memory. Its own weights come with the library, so the seed is not used.';
    return;
  }
  const needed = GIGABYTES * (together ? Math.max(1, variants.length) : 1);
  note.textContent =
    `About ${needed} GB of memory${together ? '' : ' at a time'}; making the random weights takes some seconds. ` +
    (together ? '' : 'Backends are measured one after the other, as all at once would take too much.');
}

async function start(): Promise<void> {
  const plan = choice();
  if (plan.variants.length === 0) {
    status.textContent = 'Choose at least one backend, and for WebAssembly a number of threads.';
    return;
  }
  controller = new AbortController();
  const { signal } = controller;
  rows = [];
  setBusy(true);
  byId('results', HTMLElement).hidden = false;
  byId('method', HTMLElement).textContent =
    `${WARMUP} forwards of warm-up and the one that ended the load are not counted; all other samples are shown. ` +
    (plan.together
      ? 'Samples were taken in turn, so that what disturbs this device disturbs all alike.'
      : 'Backends were measured one after the other, so differences may be the device’s own drift.');
  draw();
  try {
    await measure(plan, {
      library: new URL('../../dist/index.js', document.baseURI).href,
      commit: COMMIT,
      signal,
      onProgress(share, what) {
        progress.value = share;
        status.textContent = `${Math.round(100 * share)}% · ${what}`;
      },
      onRows(now) {
        rows = now;
        draw();
      },
    });
    const skipped = rows.filter((row) => row.skipped !== undefined).length;
    if (signal.aborted) status.textContent = 'Stopped. What was measured is kept.';
    else status.textContent = `Done.${skipped > 0 ? ` ${skipped} could not be measured: the table says why.` : ''}`;
  } catch (error) {
    status.textContent = `Failed: ${(error as Error).message}`;
  } finally {
    setBusy(false);
  }
}

function setBusy(busy: boolean): void {
  for (const field of form.querySelectorAll<HTMLInputElement | HTMLSelectElement>('input, select')) {
    field.disabled = busy || (field.name === 'threads' && field.value !== '1' && !crossOriginIsolated);
  }
  run.disabled = busy;
  stop.disabled = !busy;
  (busy ? stop : run).focus();
}

function draw(): void {
  const box = byId('plot', HTMLElement);
  const width = Math.round(box.clientWidth);
  if (width > 0) box.replaceChildren(plot(rows, width));
  byId('rows', HTMLElement).replaceChildren(...rows.map(tableRow));
  json.value = rows.map((row) => JSON.stringify(row)).join('\n');
}

function tableRow(row: PageRow): HTMLTableRowElement {
  const made = document.createElement('tr');
  const cell = (content: string, name = ''): HTMLTableCellElement => {
    const one = made.insertCell();
    one.textContent = content;
    one.className = name;
    return one;
  };
  cell(label(row).split(', ')[0] as string);
  cell(String(row.threads));
  if (row.skipped !== undefined) {
    cell(`not run: ${row.skipped}`, 'reason').colSpan = 6;
    return made;
  }
  cell(format(row.median));
  cell(`${format(row.min)} – ${format(row.p90)}`);
  cell(row.gflops.toPrecision(3));
  cell(((row.loadMs ?? Number.NaN) / 1000).toFixed(2));
  if (row.wrong) cell(`✗ ${row.error?.toExponential(1)}`, 'wrong');
  else cell(row.error ? row.error.toExponential(1) : '0');
  cell(row.device ?? '');
  return made;
}

async function copy(): Promise<void> {
  const said = byId('copied', HTMLElement);
  try {
    await navigator.clipboard.writeText(json.value);
    said.textContent = `${rows.length} rows copied.`;
  } catch {
    // Some browsers keep the clipboard from pages: the user's own keys can still copy what is selected.
    json.focus();
    json.select();
    said.textContent = 'The browser did not allow it. The text is selected: copy it by hand.';
  }
}

function byId<Type extends HTMLElement>(id: string, type: new () => Type): Type {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`The page has no ${type.name} '${id}'`);
  return found;
}
