import { readdirSync, readFileSync } from 'node:fs';

/*
 * A small minifier for the shaders of this package, which the build runs: it drops comments and spaces, and gives what
 * a shader declares short names. Entry points and override constants keep theirs, which src/webgpu/ops/ says to the GPU.
 *
 * A name gets one other name wherever it stands, in all shaders, so that lines which they share stay the same and
 * compress well, and what shadows what does too. Names that never meet in one function may get the same. Members of
 * structs have names of their own, as they are only ever behind a dot.
 */

const TOKEN = /\/\*[\s\S]*?\*\/|\/\/.*|\s+|[A-Za-z_]\w*|\d[\w.]*|\/=?|[-+&|<>=!^%~*]+|./g;
const SPACE = /^(?:\s|\/\*|\/\/)/;
const WORD = /^[A-Za-z_]/;
const OPERATOR = /^[-+&|<>=!^%~*/]/;
/** How vectors name their components. */
const SWIZZLE = /^(?:[xyzw]{1,4}|[rgba]{1,4})$/;

/** For each token of a shader, whether it names something that the shader declares, and of which kind. */
type Kind = 'name' | 'member' | undefined;

interface Parsed {
  readonly tokens: readonly string[];
  readonly kinds: readonly Kind[];
}

/** The short names for those of a source. */
export type ShortNames = Readonly<Record<'name' | 'member', ReadonlyMap<string, string>>>;

/** The text of a file in shaders/ in fewer bytes, for the same program. */
export function minifiedShader(path: string | URL): string {
  ofAllShaders ??= shortNames(readdirSync('shaders').map((file) => readFileSync(`shaders/${file}`, 'utf8')));
  return minifyWGSL(readFileSync(path, 'utf8'), ofAllShaders);
}

let ofAllShaders: ShortNames | undefined;

/** A shader's text in fewer bytes, for the same program. */
export function minifyWGSL(text: string, names: ShortNames = shortNames([text])): string {
  const { tokens, kinds } = parse(text);
  return (
    tokens
      .map((token, i) => {
        const kind = kinds[i];
        return (kind && names[kind].get(token)) ?? token;
      })
      // The last comma of a list.
      .filter((token, i) => !(token === ',' && /^[)}]/.test(tokens[i + 1] ?? '')))
      .reduce((line, token) => line + (needsSpace(line, token) ? ' ' : '') + token, '')
  );
}

/** Two words, or two operators that could be read as one. */
function needsSpace(before: string, token: string): boolean {
  const last = before.slice(-1);
  return (/\w/.test(last) && /^\w/.test(token)) || (OPERATOR.test(last) && OPERATOR.test(token));
}

function parse(text: string): Parsed {
  const tokens = (text.match(TOKEN) ?? []).filter((token) => !SPACE.test(token));
  const names = new Set<string>();
  const members = new Set<string>();
  /** What the pipelines are made by. */
  const kept = new Set<string>();
  let inStruct = false;
  const places = tokens.map((token, i) => {
    if (token === 'struct' || token === '}') inStruct = token === 'struct';
    if (!WORD.test(token) || isOfAttribute(tokens, i)) return undefined;
    const isTyped = tokens[i + 1] === ':' && token !== 'default';
    if (isKept(tokens, i)) kept.add(token);
    else if (inStruct && isTyped) members.add(token);
    else if (isTyped || isDeclared(tokens, i)) names.add(token);
    return tokens[i - 1] === '.' || (inStruct && isTyped) ? 'member' : 'name';
  });
  for (const name of kept) names.delete(name);
  for (const member of members) if (SWIZZLE.test(member)) members.delete(member);
  const declared = { name: names, member: members };
  return {
    tokens,
    kinds: places.map((place, i) => (place && declared[place].has(tokens[i] as string) ? place : undefined)),
  };
}

/** `compute` of `@compute`, `position` of `@builtin(position)`. */
function isOfAttribute(tokens: readonly string[], i: number): boolean {
  return tokens[i - 1] === '@' || (tokens[i - 1] === '(' && tokens[i - 2] === 'builtin' && tokens[i - 3] === '@');
}

/** True for an override constant and, as a function with attributes, an entry point. */
function isKept(tokens: readonly string[], i: number): boolean {
  const before = tokens[i - 1];
  return before === 'override' || (before === 'fn' && (tokens[i - 2] === ')' || tokens[i - 3] === '@'));
}

/** True for the name behind `let`, `var<storage, read>`, and the like. */
function isDeclared(tokens: readonly string[], i: number): boolean {
  const before = tokens[i - 1] ?? '';
  if (before === '>') return tokens[tokens.lastIndexOf('<', i) - 1] === 'var';
  return ['let', 'const', 'var', 'fn', 'struct', 'alias'].includes(before);
}

/** Short names for all that these shaders declare. */
function shortNames(texts: readonly string[]): ShortNames {
  const shaders = texts.map(parse);
  // What stays in one of them is no name in any.
  const taken = new Set(shaders.flatMap(({ tokens, kinds }) => tokens.filter((_, i) => !kinds[i])));
  const ofKind = (wanted: Kind, { tokens, kinds }: Parsed): string[] => tokens.filter((_, i) => kinds[i] === wanted);
  return {
    name: shorten(
      shaders.flatMap((shader) => scopesOf(shader).map((scope) => ofKind('name', scope))),
      taken,
    ),
    member: shorten(
      shaders.map((shader) => ofKind('member', shader)),
      taken,
    ),
  };
}

/** What stands in each function, from its parameters on, and what stands in none. */
function scopesOf({ tokens, kinds }: Parsed): Parsed[] {
  let last = 0;
  let scope = 0;
  let depth = 0;
  const scopes = tokens.map((token, i) => {
    if (tokens[i - 2] === 'fn') scope = ++last;
    const own = scope;
    if (token === '{') depth++;
    if (token === '}' && --depth === 0) scope = 0;
    return own;
  });
  return Array.from({ length: last + 1 }, (_, wanted) => {
    const isIn = (_: unknown, i: number): boolean => scopes[i] === wanted;
    return { tokens: tokens.filter(isIn), kinds: kinds.filter(isIn) };
  });
}

/** The shortest names for the most frequent ones, which differ within a scope. */
function shorten(scopes: readonly (readonly string[])[], taken: ReadonlySet<string>): Map<string, string> {
  const counts = new Map<string, number>();
  for (const name of scopes.flat()) counts.set(name, (counts.get(name) ?? 0) + 1);
  const letters = Array.from('abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ');
  // None of them is a word of WGSL.
  const free = ['', 0, 1, 2, 3, 4, 5, 6, 7, 8, 9].flatMap((digit) => letters.map((letter) => `${letter}${digit}`));
  const short = new Map<string, string>();
  for (const name of [...counts.keys()].sort((a, b) => (counts.get(b) ?? 0) - (counts.get(a) ?? 0))) {
    const near = new Set(scopes.filter((scope) => scope.includes(name)).flat());
    const used = new Set([...near].map((other) => short.get(other)));
    short.set(name, free.find((one) => !taken.has(one) && !used.has(one)) ?? name);
  }
  return short;
}
