import type { Architecture, CreateOptions, VGGNetError } from 'vggnet';

/*
 * What every runtime does with the built package, on nothing but web standards. Each host (hosts.ts) hands in the
 * library and the fixture (fixture.ts), and gives back the report as JSON.
 */

type Library = typeof import('vggnet');

/** A file of the fixture. */
export type Read = (name: string) => Promise<Uint8Array<ArrayBuffer>>;

export interface SmokeOptions {
  /** Numbers of threads to compute with. */
  readonly threads: readonly number[];
  /** Decode image files: there is a canvas, or sharp. */
  readonly images: boolean;
  /** Compute with WebGPU: there is an adapter. */
  readonly webgpu: boolean;
  /** The library's build brings no weights along. */
  readonly apart: boolean;
}

/** The fixture's index.json. */
export interface Fixture {
  readonly images: readonly { readonly name: string; readonly width: number; readonly height: number }[];
  /** A list network each, NAME.safetensors its weights and NAME.f32 its input. */
  readonly networks: readonly {
    readonly name: string;
    readonly architecture: Architecture;
    readonly options: CreateOptions;
    readonly shape: readonly number[];
  }[];
}

/** Where a model ran. */
interface Place {
  readonly backend: string;
  readonly build: string;
  readonly threads: number;
  readonly inline: boolean;
}

export interface SmokeReport {
  /** What a model gets that asks for nothing. */
  readonly place: Place;
  /** The label and probability of each sample image, given as pixels; and as a file, if images are decoded. */
  readonly pixels: readonly (readonly [label: string, probability: number])[];
  readonly files: readonly (readonly [label: string, probability: number])[];
  /** What `deterministic: true` gave for each number of threads: where, the logits, and the SHA-256 of their bytes. */
  readonly deterministic: readonly {
    readonly place: Place;
    readonly hash: string;
    readonly logits: Readonly<Record<string, readonly number[]>>;
    /** The SHA-256 of the gradients of the input and of all parameters of the first network. */
    readonly gradients: string;
  }[];
  /**
   * With weights in int8 and int4, in whole numbers: the SHA-256 of what `deterministic: true` gave, and how far what this
   * runtime takes by itself is from it, over the largest logit.
   */
  readonly few: { readonly hash: string; readonly difference: number };
  readonly webgpu: { readonly place: Place; readonly logits: Readonly<Record<string, readonly number[]>> } | undefined;
  /** The code of each error. */
  readonly errors: Readonly<Record<string, string>>;
}

export async function smoke(library: Library, read: Read, options: SmokeOptions): Promise<SmokeReport> {
  const fixture = JSON.parse(new TextDecoder().decode(await read('index.json'))) as Fixture;
  const deterministic: SmokeReport['deterministic'][number][] = [];
  for (const threads of options.threads) {
    const { place, logits } = await compute(library, read, fixture, { deterministic: true, device: 'wasm', threads });
    const gradients = await sha256(await differentiate(library, read, fixture, threads));
    deterministic.push({ place, hash: await sha256(logits), logits: asLists(logits), gradients });
  }
  let webgpu: SmokeReport['webgpu'];
  if (options.webgpu) {
    // One network: an adapter that computes on the CPU compiles its shaders for seconds.
    const one = { ...fixture, networks: fixture.networks.slice(0, 1) };
    const { place, logits } = await compute(library, read, one, { device: 'webgpu' });
    webgpu = { place, logits: asLists(logits) };
  }
  return {
    ...(await classify(library, read, fixture, options)),
    deterministic,
    few: await computeFew(library, read, fixture),
    webgpu,
    errors: await refuse(library, read),
  };
}

/** The embedded model reads its sample images. */
async function classify(
  { VGGNet }: Library,
  read: Read,
  { images }: Fixture,
  options: SmokeOptions,
): Promise<Pick<SmokeReport, 'place' | 'pixels' | 'files'>> {
  const weights = options.apart ? await read('glyphs.safetensors') : undefined;
  using model = await VGGNet.create('glyphs', { weights });
  const pixels: [string, number][] = [];
  const files: [string, number][] = [];
  for (const { name, width, height } of images) {
    const data = await read(`${name}.rgba`);
    const [best] = await model.classify({ data, width, height }, { topK: 1 });
    if (best) pixels.push([best.label, best.probability]);
    if (!options.images) continue;
    const [same] = await model.classify(await read(`${name}.png`), { topK: 1 });
    if (same) files.push([same.label, same.probability]);
  }
  return { place: placeOf(model.device), pixels, files };
}

/** The logits of the list networks. */
async function compute(
  { VGGNet, Tensor }: Library,
  read: Read,
  { networks }: Fixture,
  options: CreateOptions,
): Promise<{ place: Place; logits: Map<string, Float32Array> }> {
  const logits = new Map<string, Float32Array>();
  let place: Place | undefined;
  for (const { name, architecture, options: own, shape } of networks) {
    const weights = await read(`${name}.safetensors`);
    using model = await VGGNet.create(architecture, { ...own, ...options, weights });
    const input = new Tensor(new Float32Array((await read(`${name}.f32`)).slice().buffer), shape);
    logits.set(name, (await model.forward(input)).data);
    place ??= placeOf(model.device);
  }
  return { place: place as Place, logits };
}

/** The gradients of the first network, for cotangents that are its logits. */
async function differentiate(
  { VGGNet, Tensor }: Library,
  read: Read,
  { networks: [network] }: Fixture,
  threads: number,
): Promise<Map<string, Float32Array>> {
  if (!network) throw new Error('The fixture has no network');
  const { name, architecture, options, shape } = network;
  const weights = await read(`${name}.safetensors`);
  const own = { ...options, weights, device: 'wasm', deterministic: true, threads, gradients: true } as const;
  using model = await VGGNet.create(architecture, own);
  const input = new Tensor(new Float32Array((await read(`${name}.f32`)).slice().buffer), shape);
  const tape = await model.record(input, ['logits']);
  const { input: dx } = await tape.backward({ logits: tape.outputs.logits }, { wrt: ['input'] });
  return new Map([
    ['input', dx.data],
    ...[...(await model.gradients())].map(([key, { data }]) => [key, data] as const),
  ]);
}

/** The low-precision networks, by plain SIMD and by what a model gets that asks for nothing. */
async function computeFew(library: Library, read: Read, fixture: Fixture): Promise<SmokeReport['few']> {
  // Without Winograd's method, by which float32 may be faster and be taken.
  const options = { precision: { default: 'int8', fc: 'int4' }, winograd: false, device: 'wasm', threads: 1 } as const;
  const plain = await compute(library, read, fixture, { ...options, deterministic: true });
  const own = await compute(library, read, fixture, options);
  let difference = 0;
  for (const [name, logits] of plain.logits) {
    const other = own.logits.get(name) as Float32Array;
    const largest = logits.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    for (const [i, value] of logits.entries()) {
      difference = Math.max(difference, Math.abs(value - (other[i] as number)) / largest);
    }
  }
  return { hash: await sha256(plain.logits), difference };
}

/** Bad input of several kinds. */
async function refuse({ VGGNet, Tensor, VGGNetError }: Library, read: Read): Promise<Record<string, string>> {
  const weights = await read('one-channel.safetensors');
  using model = await VGGNet.create([4, 'M'], { numClasses: 2, hiddenFeatures: 4, poolSize: 1, device: 'wasm' });
  const stopped = AbortSignal.abort();
  const cases: Record<string, () => Promise<unknown>> = {
    'an unknown model': () => VGGNet.create('vgg17'),
    'an unknown device': () => VGGNet.create('vgg11', { device: 'tpu' as 'wasm' }),
    'a list that is none': () => VGGNet.create(['M', -1]),
    'weights that end early': () => VGGNet.load(weights.slice(0, -1)),
    'weights of another network': () => VGGNet.create([8, 'M'], { weights: weights.slice() }),
    'an input of another shape': () => model.forward(Tensor.zeros([1, 1, 8, 8])),
    'an input that is too small': () => model.forward(Tensor.zeros([1, 3, 1, 1])),
    'an unknown layer': () => model.features(Tensor.zeros([1, 3, 8, 8]), ['conv9_9']),
    'bytes that are no image': () => model.classify(new Uint8Array(100)),
    'too few pixels': () => model.classify({ data: new Uint8Array(3), width: 2, height: 2 }),
    'a signal that fired': () => model.forward(Tensor.zeros([1, 3, 8, 8]), { signal: stopped }),
    'a model disposed of': () => {
      model.dispose();
      return model.forward(Tensor.zeros([1, 3, 8, 8]));
    },
  };
  const codes: Record<string, string> = {};
  for (const [name, run] of Object.entries(cases)) {
    codes[name] = await run().then(
      () => 'no error',
      (error: unknown) => (error instanceof VGGNetError ? (error as VGGNetError).code : `untyped: ${String(error)}`),
    );
  }
  return codes;
}

function placeOf({ backend, build, threads, inline }: Place): Place {
  return { backend, build, threads, inline };
}

function asLists(logits: ReadonlyMap<string, Float32Array>): Record<string, number[]> {
  return Object.fromEntries([...logits].map(([name, values]) => [name, [...values]]));
}

/** Of all the bytes, in order, little-endian as every runtime here has them. */
async function sha256(logits: ReadonlyMap<string, Float32Array>): Promise<string> {
  const values = Float32Array.from([...logits.values()].flatMap((part) => [...part]));
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', values));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
