// Prints a hash of the logits of all eight networks and of 60 random lists, in both kernel builds, for a comparison of
// two versions of the library to the bit:
//
//   node --experimental-wasm-relaxed-simd test/full-size/logit-bits.mjs OLD_PACKAGE > old.txt
//   node --experimental-wasm-relaxed-simd test/full-size/logit-bits.mjs . > new.txt
//   cmp old.txt new.txt
//
// The argument is a folder with a built dist/; a second one, 'simd' or 'relaxed-simd', limits the run to that build.
// Relaxed SIMD may round differently on another machine, so both runs belong on the same one. Each takes two to five
// minutes.
import { createHash } from 'node:crypto';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

const [folder = '.', only] = process.argv.slice(2);
const { VGGNet, Tensor } = await import(pathToFileURL(resolve(folder, 'dist/index.js')));

const NETWORKS = ['vgg11', 'vgg13', 'vgg16', 'vgg19'].flatMap((name) => [name, `${name}_bn`]);
/** The usual input, one smaller than it whose sides are no multiple of a tile, and a batch. */
const INPUTS = [
  [1, 3, 224, 224],
  [1, 3, 97, 75],
  [3, 3, 64, 64],
];
const RANDOM_LISTS = 60;
/** The random lists take these in turn. */
const PRECISIONS = [undefined, 'fp16', 'int8', { default: 'int8', fc: 'int4' }];

/** Integers below `limit`, the same in every run (a linear congruential generator). */
function generator(seed) {
  let state = seed >>> 0;
  return (limit) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}

function inputOf(shape, next) {
  const count = shape.reduce((product, side) => product * side, 1);
  return new Tensor(
    Float32Array.from({ length: count }, () => next(4096) / 1024 - 2),
    shape,
  );
}

function hash({ data }) {
  return createHash('sha256')
    .update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))
    .digest('hex');
}

async function print(title, model, inputs) {
  for (const input of inputs) {
    console.log(`${title} ${model.device.build} ${input.shape.join('x')} ${hash(await model.forward(input))}`);
  }
}

/** A list of one to six convolutions with a pool after some of them, its options, and its inputs. */
function randomNetwork(index) {
  const next = generator(1000 + index);
  const list = [];
  let pools = 0;
  for (let left = 1 + next(6); left > 0; left--) {
    list.push([4, 8, 11, 16, 24, 40, 64][next(7)]);
    if (pools < 3 && next(2) === 1) {
      list.push('M');
      pools++;
    }
  }
  const options = {
    inChannels: [1, 3, 3, 4][next(4)],
    numClasses: 2 + next(20),
    hiddenFeatures: [16, 33, 64][next(3)],
    batchNorm: next(2) === 1,
    seed: index,
    threads: 1 + next(2),
    precision: PRECISIONS[index % PRECISIONS.length],
    winograd: [true, true, 4, 6, false][next(5)],
  };
  const shape = () => [1 + next(3), options.inChannels, 8 + next(50), 8 + next(50)];
  return { list, options, inputs: [inputOf(shape(), next), inputOf(shape(), next)] };
}

for (const build of ['simd', 'relaxed-simd']) {
  if (only && only !== build) continue;
  const deterministic = build === 'simd';
  for (const [index, name] of NETWORKS.entries()) {
    const model = await VGGNet.create(name, { device: 'wasm', deterministic, seed: index, threads: 2 });
    await print(
      name,
      model,
      INPUTS.map((shape) => inputOf(shape, generator(index))),
    );
    model.dispose();
  }
  for (let index = 0; index < RANDOM_LISTS; index++) {
    const { list, options, inputs } = randomNetwork(index);
    const model = await VGGNet.create(list, { device: 'wasm', deterministic, ...options });
    await print(`list ${index}`, model, inputs);
    model.train();
    await print(`list ${index} train`, model, inputs);
    model.eval();
    await print(`list ${index} after`, model, inputs);
    model.dispose();
  }
}
