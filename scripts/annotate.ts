/* Comments that a minified script has to have. */

/**
 * What bundlers of a bundle need: they are told to leave an `import` of a name that only the runtime knows (an optional
 * package) alone, as the sources say in comments that minifying drops; and get no `import` without a name, of which they
 * warn, since no module has side effects.
 */
export function forBundlers(code: string): string {
  const told = 'import(/* webpackIgnore: true */ /* turbopackIgnore: true */ /* @vite-ignore */ $1)';
  return code.replace(/\bimport\(([\w$]+)\)/g, told).replace(/\bimport\s*["']\.\/[\w-]+\.js["'];/g, '');
}

/** Tells Deno and JSR, which go by no package.json, where an entry's types are. */
export function withTypes(code: string, file: string): string {
  const name = /^(index|inline|serve)\.js$/.exec(file)?.[1]?.replace('inline', 'index');
  return name ? `/* @ts-self-types="./${name}.d.ts" */\n${code}` : code;
}
