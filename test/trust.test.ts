import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseAst } from 'rolldown/parseAst';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { run, runModule } from './support/child.js';
import { ROOT } from './support/project.js';

/* What SECURITY.md says of the package and of the way it is built. */

const read = (path: string): Promise<string> => readFile(join(ROOT, path), 'utf8');

interface Node {
  readonly type: string;
  readonly [field: string]: unknown;
}

const isNode = (value: unknown): value is Node =>
  typeof value === 'object' && value !== null && typeof (value as Node).type === 'string';

/** Every node of a syntax tree. */
function* nodes(node: Node): Generator<Node> {
  yield node;
  for (const value of Object.values(node)) {
    for (const child of Array.isArray(value) ? value : [value]) if (isNode(child)) yield* nodes(child);
  }
}

const GLOBALS = /^(globalThis|self|window|global)$/;

/** `eval` and `Function`, by their own names or as properties of the global object. */
function compilesText(node: Node): boolean {
  const compiler = (callee: Node): boolean => {
    if (callee.type === 'Identifier') return callee.name === 'eval' || callee.name === 'Function';
    if (callee.type !== 'MemberExpression') return false;
    const [object, property] = [callee.object as Node, callee.property as Node];
    return GLOBALS.test(String(object.name)) && /^(eval|Function)$/.test(String(property.name ?? property.value));
  };
  if (node.type === 'SequenceExpression') return (node.expressions as Node[]).some(compiler); // (0, eval)
  if (node.type !== 'CallExpression' && node.type !== 'NewExpression') return false;
  const [first] = node.arguments as Node[];
  const callee = node.callee as Node;
  if (/^set(Timeout|Interval)$/.test(String(callee.name))) {
    return first?.type === 'TemplateLiteral' || (first?.type === 'Literal' && typeof first.value === 'string');
  }
  return compiler(callee);
}

const findings = (code: string): Node[] => [...nodes(parseAst(code) as unknown as Node)].filter(compilesText);

describe('dist compiles no text as code', () => {
  test.each([
    'eval(x)',
    'new Function(x)',
    'Function("return this")()',
    '(0, eval)(x)',
    'globalThis.eval(x)',
    'self["Function"](x)',
    'setTimeout("x()", 1)',
  ])('%s would be found', (code) => expect(findings(code)).not.toEqual([]));

  test.each(['model.eval()', 'class A { eval() {} }', 'setTimeout(x, 1)', 'x instanceof Function'])(
    '%s would not',
    (code) => expect(findings(code)).toEqual([]),
  );

  test('no script of it has eval, Function or a timer with text', async () => {
    const scripts = (await readdir(join(ROOT, 'dist'))).filter((name) => name.endsWith('.js'));
    expect(scripts).toEqual(expect.arrayContaining(['index.js', 'inline.js', 'worker.js', 'workerd.js', 'cli.js']));
    for (const name of scripts) {
      const found = findings(await read(`dist/${name}`));
      expect(found, name).toEqual([]);
    }
  });

  test.each(['vggnet', 'vggnet/inline'])('%s classifies where the runtime forbids it', async (name) => {
    const source = `
      import { VGGNet } from '${name}';
      try { new Function('')(); } catch (error) { console.log(error.name); }
      const model = await VGGNet.create('glyphs', { weights: 'models/glyphs.safetensors' });
      const [best] = await model.classify({ data: new Uint8Array(1024), width: 32, height: 32, channels: 1 });
      console.log(best.label.length);
      model.dispose();
    `;
    const { code, stdout, stderr } = await runModule(source, { flags: ['--disallow-code-generation-from-strings'] });
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: 'EvalError\n1\n', stderr: '' });
  });
});

describe('what of others is in it', () => {
  test('the notices have the license of each, that of torchvision with its copyright', async () => {
    const notices = await read('dist/THIRD-PARTY-NOTICES.txt');
    expect(notices).toContain(await read('src/image/imagenet-labels.LICENSE'));
    expect(notices).toContain('Copyright (c) Soumith Chintala 2016');
    expect(notices).toContain('Yusuke Wada and Hono contributors');
  });

  test('the bill of materials lists the same, each package with its address, license and digest', async () => {
    const bom = JSON.parse(await read('dist/sbom.cdx.json'));
    const notices = await read('dist/THIRD-PARTY-NOTICES.txt');
    expect([bom.bomFormat, bom.specVersion, bom.metadata.component.purl]).toEqual([
      'CycloneDX',
      '1.5',
      expect.stringMatching(/^pkg:npm\/vggnet@\d/),
    ]);
    const titles = Array.from(notices.matchAll(/^-{80}\n\n(.+) \(.+\)$/gm), ([, title]) => title);
    const listed: { name: string; version?: string; purl?: string; hashes?: { content: string }[] }[] = bom.components;
    expect(listed.map(({ name, version }) => (version ? `${name} ${version}` : name)).sort()).toEqual(titles.sort());
    expect(titles).toEqual(
      expect.arrayContaining([expect.stringMatching(/^hono \d/), expect.stringMatching(/^pbf \d/)]),
    );
    for (const { purl, hashes } of listed.filter(({ version }) => version)) {
      expect(purl).toMatch(/^pkg:npm\//);
      expect(hashes?.[0]?.content, purl).toMatch(/^[0-9a-f]{128}$/);
    }
    expect(listed.filter((component) => !('licenses' in component))).toEqual([]);
  });
});

interface Workflow {
  readonly permissions: Readonly<Record<string, string>>;
  readonly jobs: Readonly<
    Record<
      string,
      {
        readonly 'timeout-minutes'?: number;
        readonly permissions?: Readonly<Record<string, string>>;
        readonly steps: readonly { readonly uses?: string; readonly run?: string }[];
      }
    >
  >;
}

describe.each(['ci', 'release'])('the workflow %s', (name) => {
  const load = async (): Promise<Workflow> => parse(await read(`.github/workflows/${name}.yml`));

  test('takes actions by the digest of a commit, may only read, and ends', async () => {
    const { permissions, jobs } = await load();
    expect(permissions).toEqual({ contents: 'read' });
    for (const job of Object.values(jobs)) {
      expect(job['timeout-minutes']).toBeLessThanOrEqual(60);
      expect(Object.values(job.permissions ?? {}).length).toBeLessThanOrEqual(2);
      for (const { uses } of job.steps) if (uses) expect(uses).toMatch(/^[\w/-]+@[0-9a-f]{40}$/);
    }
  });

  test('runs only scripts that are there', async () => {
    const { scripts } = JSON.parse(await read('package.json'));
    const commands = Object.values((await load()).jobs).flatMap(({ steps }) =>
      steps.flatMap(({ run: line = [] }) => line),
    );
    expect(commands).toContain('.ci/run');
    for (const command of commands) {
      const script = /^npm run (\S+)/.exec(command)?.[1];
      if (script) expect(scripts).toHaveProperty(script);
      const file = /^(?:node )?(\S+\/\S+)/.exec(command)?.[1];
      if (file) expect(await read(file)).not.toBe('');
    }
  });
});

describe('a release', () => {
  const ADDRESS = 'https://github.com/someone/vggnet';
  const SET = { repository: { url: `git+${ADDRESS}.git` }, homepage: ADDRESS, bugs: ADDRESS };

  /** Runs the check in a folder that has such a package. */
  async function check(fields: object, tag: string, env: Record<string, string> = {}): Promise<string> {
    const folder = await mkdtemp(join(tmpdir(), 'vggnet-release-'));
    try {
      await writeFile(join(folder, 'package.json'), JSON.stringify({ version: '1.2.3', ...fields }));
      await writeFile(join(folder, 'jsr.json'), JSON.stringify({ version: '1.2.3' }));
      await writeFile(join(folder, 'CHANGELOG.md'), '# Changelog\n\n## 1.2.3\n');
      const quiet = { GITHUB_SERVER_URL: '', GITHUB_REPOSITORY: '', ...env };
      const script = join(ROOT, 'scripts/check-release.mjs');
      const { code, stderr } = await run(process.execPath, [script, tag], { cwd: folder, env: quiet });
      expect(code).toBe(stderr ? 1 : 0);
      return stderr;
    } finally {
      await rm(folder, { recursive: true });
    }
  }

  test('fails with one line while the addresses are unknown', async () => {
    const line = await check({}, 'v1.2.3');
    expect(line).toMatch(/^package\.json has no repository, homepage, bugs: .+\n$/);
    expect(await check({ ...SET, bugs: undefined }, 'v1.2.3')).toMatch(/^package\.json has no bugs: .+\n$/);
  });

  test('goes on when they are known and the versions agree', async () => {
    expect(await check(SET, 'v1.2.3')).toBe('');
    const env = { GITHUB_SERVER_URL: 'https://github.com', GITHUB_REPOSITORY: 'someone/vggnet' };
    expect(await check(SET, 'v1.2.3', env)).toBe('');
    expect(await check(SET, 'v1.2.3', { ...env, GITHUB_REPOSITORY: 'another/vggnet' })).toContain('needs them equal');
    expect(await check(SET, 'v1.2.4')).toContain('The tag is v1.2.4');
  });
});
