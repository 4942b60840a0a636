/*
 * How well glyphs reads fonts that it was never trained on, by precision: `node models/measure-precision.mjs` after
 * `npm run build`. It wants the Debian packages of the held-out families in GLYPHS.md, and `fc-list`. Each style is drawn
 * upright, black on white ("clean"), and once more disturbed as GLYPHS.md says but for the noise.
 */
import { execFileSync } from 'node:child_process';
import sharp from 'sharp';
import { VGGNet } from 'vggnet';

const FAMILIES = [
  ...[
    'Cabin',
    'Charis SIL',
    'Comic Neue',
    'EB Garamond',
    'Fira Code',
    'Inconsolata',
    'Inter',
    'JetBrains Mono',
    'Lato',
  ],
  ...['PT Mono', 'PT Sans', 'PT Serif', 'Quicksand', 'Rasa', 'Roboto', 'Roboto Slab', 'Vollkorn', 'Yanone Kaffeesatz'],
  'Yrsa',
];
const CHARACTERS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ';
/** CSS's weights by fontconfig's. */
const WEIGHTS = { 40: 200, 50: 300, 80: 400, 100: 500, 180: 600, 200: 700, 205: 800, 210: 900 };
const MOST_STYLES = 6;
const SIZE = 96;

/** The styles of a family that are installed. */
function stylesOf(family) {
  const listed = execFileSync('fc-list', [`:family=${family}`, '--format', '%{weight} %{slant}\n']).toString();
  const styles = [...new Set(listed.trim().split('\n'))].map((line) => line.split(' ').map(Number));
  return styles
    .filter(([weight]) => weight in WEIGHTS)
    .slice(0, MOST_STYLES)
    .map(([weight, slant]) => ({ family, weight: WEIGHTS[weight], italic: slant > 0 }));
}

let state = 7;
/** The same numbers each time, from 0 to 1. */
function random() {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return state / 2 ** 32;
}

const CLEAN = () => ({ height: 0.7, turn: 0, shear: 0, x: 0, y: 0, inverse: false, contrast: 1, blur: 0 });
const DISTURBED = () => ({
  height: 0.55 + 0.3 * random(),
  turn: 16 * random() - 8,
  shear: (Math.atan(0.16 * random() - 0.08) * 180) / Math.PI,
  x: (0.1 * random() - 0.05) * SIZE,
  y: (0.1 * random() - 0.05) * SIZE,
  inverse: random() < 0.5,
  contrast: random() < 0.5 ? 0.3 + 0.7 * random() : 1,
  blur: 0.012 * SIZE * random(),
});

async function draw(character, { family, weight, italic }, { height, turn, shear, x, y, inverse, contrast, blur }) {
  const grey = (share) => Math.round(255 * (0.5 + (share * contrast) / 2));
  const [ink, paper] = inverse ? [grey(1), grey(-1)] : [grey(-1), grey(1)];
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${SIZE}" height="${SIZE}">
    <rect width="100%" height="100%" fill="rgb(${paper},${paper},${paper})"/>
    <g transform="translate(${SIZE / 2 + x},${SIZE / 2 + y}) rotate(${turn}) skewX(${shear})">
      <text y="${(height * SIZE) / 2}" text-anchor="middle" font-family="${family}" font-weight="${weight}"
        font-style="${italic ? 'italic' : 'normal'}" font-size="${(height * SIZE) / 0.7}"
        fill="rgb(${ink},${ink},${ink})">${character}</text>
    </g></svg>`;
  let image = sharp(Buffer.from(svg)).greyscale();
  // The least that sharp takes.
  if (blur > 0.3) image = image.blur(blur);
  const { data, info } = await image.raw().toBuffer({ resolveWithObject: true });
  return { data: new Uint8Array(data), width: SIZE, height: SIZE, channels: info.channels };
}

const styles = FAMILIES.flatMap(stylesOf);
const missing = FAMILIES.filter((family) => !styles.some((style) => style.family === family));
if (missing.length > 0) throw new Error(`These families are not installed: ${missing.join(', ')}`);
const models = new Map();
for (const precision of ['fp32', 'fp16', 'int8', 'int4'])
  models.set(precision, await VGGNet.create('glyphs', { precision }));
for (const [name, disturb] of Object.entries({ clean: CLEAN, disturbed: DISTURBED })) {
  const right = new Map([...models.keys()].map((precision) => [precision, 0]));
  for (const style of styles) {
    for (const character of CHARACTERS) {
      const image = await draw(character, style, disturb());
      for (const [precision, model] of models) {
        const [best] = await model.classify(image, { topK: 1 });
        if (best.label === character) right.set(precision, right.get(precision) + 1);
      }
    }
  }
  const count = styles.length * CHARACTERS.length;
  for (const [precision, hits] of right) {
    console.log(`${name} ${precision}: ${((100 * hits) / count).toFixed(2)}% of ${count}`);
  }
}
for (const model of models.values()) model.dispose();
