/*
 * A small minifier for the shaders of this package, which the build runs: it drops comments and spaces, and gives what
 * a shader declares short names. Entry points and override constants keep theirs, which src/webgpu/ops/ says to the GPU.
 *
 * A name gets one other name wherever it stands in the file, so what shadows what stays the same. Members of structs
 * have names of their own, as they are only ever behind a dot.
 */

const TOKEN = /\/\*[\s\S]*?\*\/|\/\/.*|\s+|[A-Za-z_]\w*|\d[\w.]*|\/=?|[-+&|<>=!^%~*]+|./g;
const SPACE = /^(?:\s|\/\*|\/\/)/;
const WORD = /^[A-Za-z_]/;
const OPERATOR = /^[-+&|<>=!^%~*/]/;
/** How vectors name their components. */
const SWIZZLE = /^(?:[xyzw]{1,4}|[rgba]{1,4})$/;

/** For each token of a shader, whether it names something that the shader declares, and of which kind. */
type Kind = 'name' | 'member' | undefined;

/** A shader's text in fewer bytes, for the same program. */
export function minifyWGSL(text: string): string {
  const tokens = (text.match(TOKEN) ?? []).filter((token) => !SPACE.test(token));
  const kinds = kindsOf(tokens);
  const ofKind = (wanted: Kind): string[] => tokens.filter((token, i) => WORD.test(token) && kinds[i] === wanted);
  const taken = new Set(ofKind(undefined));
  const names = shorten(ofKind('name'), taken);
  const members = shorten(ofKind('member'), taken);
  const short = tokens.map((token, i) => {
    const known = kinds[i] === 'name' ? names : kinds[i] === 'member' ? members : undefined;
    return known?.get(token) ?? token;
  });
  return (
    short
      // The last comma of a list.
      .filter((token, i) => !(token === ',' && /^[)}]/.test(short[i + 1] ?? '')))
      .reduce((line, token) => line + (needsSpace(line, token) ? ' ' : '') + token, '')
  );
}

/** Two words, or two operators that could be read as one. */
function needsSpace(before: string, token: string): boolean {
  const last = before.slice(-1);
  return (/\w/.test(last) && /^\w/.test(token)) || (OPERATOR.test(last) && OPERATOR.test(token));
}

function kindsOf(tokens: readonly string[]): Kind[] {
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
  return places.map((place, i) => (place && declared[place].has(tokens[i] as string) ? place : undefined));
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

/** The shortest names for the most frequent ones. */
function shorten(names: readonly string[], taken: ReadonlySet<string>): Map<string, string> {
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  const letters = Array.from('abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ');
  // None of them is a word of WGSL.
  const free = ['', 0, 1, 2, 3, 4, 5, 6, 7, 8, 9].flatMap((digit) => letters.map((letter) => `${letter}${digit}`));
  const unused = free.filter((name) => !taken.has(name));
  const sorted = [...counts.keys()].sort((a, b) => (counts.get(b) ?? 0) - (counts.get(a) ?? 0));
  return new Map(sorted.map((name, i) => [name, unused[i] ?? name]));
}
