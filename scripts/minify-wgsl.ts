import { readdirSync, readFileSync } from 'node:fs';

/*
 * A small minifier for the shaders of this package, which the build runs. It drops comments and spaces, and shortens
 * the names that a shader declares. Entry points and override constants keep theirs, since src/webgpu/ops/ refers to
 * them.
 *
 * A name gets the same short name in all shaders, so that lines which they share stay equal and compress well, and so
 * that shadowing is preserved. Names that never occur in the same function may share a short name. Members of structs
 * have a namespace of their own, since they only occur after a dot.
 */

const TOKEN = /\/\*[\s\S]*?\*\/|\/\/.*|\s+|[A-Za-z_]\w*|\d[\w.]*|\/=?|[-+&|<>=!^%~*]+|./g;
const SPACE = /^(?:\s|\/\*|\/\/)/;
const WORD = /^[A-Za-z_]/;
const OPERATOR = /^[-+&|<>=!^%~*/]/;
/** The components of vectors. */
const SWIZZLE = /^(?:[xyzw]{1,4}|[rgba]{1,4})$/;

/** What a token names: a declaration of the shader, a member of a struct, or neither. */
type Kind = 'name' | 'member' | undefined;

interface Parsed {
  readonly tokens: readonly string[];
  readonly kinds: readonly Kind[];
}

/** The short name of each declared name. */
export type ShortNames = Readonly<Record<'name' | 'member', ReadonlyMap<string, string>>>;

/** Minifies a file of shaders/. */
export function minifiedShader(path: string | URL): string {
  ofAllShaders ??= shortNames(readdirSync('shaders').map((file) => readFileSync(`shaders/${file}`, 'utf8')));
  return minifyWGSL(readFileSync(path, 'utf8'), ofAllShaders);
}

let ofAllShaders: ShortNames | undefined;

/** Minifies the text of a shader. */
export function minifyWGSL(text: string, names: ShortNames = shortNames([text])): string {
  const { tokens, kinds } = parse(text);
  return (
    tokens
      .map((token, i) => {
        const kind = kinds[i];
        return (kind && names[kind].get(token)) ?? token;
      })
      // Trailing commas.
      .filter((token, i) => !(token === ',' && /^[)}]/.test(tokens[i + 1] ?? '')))
      .reduce((line, token) => line + (needsSpace(line, token) ? ' ' : '') + token, '')
  );
}

/** True between two words, and between two operators that would join. */
function needsSpace(before: string, token: string): boolean {
  const last = before.slice(-1);
  return (/\w/.test(last) && /^\w/.test(token)) || (OPERATOR.test(last) && OPERATOR.test(token));
}

function parse(text: string): Parsed {
  const tokens = (text.match(TOKEN) ?? []).filter((token) => !SPACE.test(token));
  const names = new Set<string>();
  const members = new Set<string>();
  /** Names that pipelines refer to. */
  const kept = new Set<string>();
  let inStruct = false;
  const candidates = tokens.map((token, i) => {
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
    kinds: candidates.map((kind, i) => (kind && declared[kind].has(tokens[i] as string) ? kind : undefined)),
  };
}

/** `compute` of `@compute`, `position` of `@builtin(position)`. */
function isOfAttribute(tokens: readonly string[], i: number): boolean {
  return tokens[i - 1] === '@' || (tokens[i - 1] === '(' && tokens[i - 2] === 'builtin' && tokens[i - 3] === '@');
}

/** True for an override constant, and for an entry point, which is a function with attributes. */
function isKept(tokens: readonly string[], i: number): boolean {
  const before = tokens[i - 1];
  return before === 'override' || (before === 'fn' && (tokens[i - 2] === ')' || tokens[i - 3] === '@'));
}

/** True for the name after `let`, `var<storage, read>` and the like. */
function isDeclared(tokens: readonly string[], i: number): boolean {
  const before = tokens[i - 1] ?? '';
  if (before === '>') return tokens[tokens.lastIndexOf('<', i) - 1] === 'var';
  return ['let', 'const', 'var', 'fn', 'struct', 'alias'].includes(before);
}

/** Short names for all declarations of these shaders. */
function shortNames(texts: readonly string[]): ShortNames {
  const shaders = texts.map(parse);
  // A token that one shader keeps is not a short name in any.
  const reserved = new Set(shaders.flatMap(({ tokens, kinds }) => tokens.filter((_, i) => !kinds[i])));
  const ofKind = (kind: Kind, { tokens, kinds }: Parsed): string[] => tokens.filter((_, i) => kinds[i] === kind);
  return {
    name: shorten(
      shaders.flatMap((shader) => scopesOf(shader).map((scope) => ofKind('name', scope))),
      reserved,
    ),
    member: shorten(
      shaders.map((shader) => ofKind('member', shader)),
      reserved,
    ),
  };
}

/** The tokens of each function, from its parameters on, and those outside of all functions. */
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
  return Array.from({ length: last + 1 }, (_, index) => {
    const isIn = (_: unknown, i: number): boolean => scopes[i] === index;
    return { tokens: tokens.filter(isIn), kinds: kinds.filter(isIn) };
  });
}

/** Gives the shortest names to the most frequent ones; names in the same scope differ. */
function shorten(scopes: readonly (readonly string[])[], reserved: ReadonlySet<string>): Map<string, string> {
  const counts = new Map<string, number>();
  for (const name of scopes.flat()) counts.set(name, (counts.get(name) ?? 0) + 1);
  const letters = Array.from('abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ');
  // None of them is a keyword of WGSL.
  const free = ['', 0, 1, 2, 3, 4, 5, 6, 7, 8, 9].flatMap((digit) => letters.map((letter) => `${letter}${digit}`));
  const short = new Map<string, string>();
  for (const name of [...counts.keys()].sort((a, b) => (counts.get(b) ?? 0) - (counts.get(a) ?? 0))) {
    const near = new Set(scopes.filter((scope) => scope.includes(name)).flat());
    const used = new Set([...near].map((other) => short.get(other)));
    short.set(name, free.find((one) => !reserved.has(one) && !used.has(one)) ?? name);
  }
  return short;
}
