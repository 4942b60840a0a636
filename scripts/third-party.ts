import { execFile } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { promisify } from 'node:util';

/*
 * What of others is in dist/: their licenses, which they ask to be passed on (THIRD-PARTY-NOTICES.txt), and a software bill
 * of materials in CycloneDX (sbom.cdx.json). Both list the packages that the bundlers took, not those that are installed:
 * a consumer's own scanner sees no dependency of this package, and cannot know what is inside its files.
 */

/** Data of others in the source: it has a license, and no package. */
const DATA = [
  { name: 'torchvision: class names of ImageNet', license: 'BSD-3-Clause', file: 'src/image/imagenet-labels.LICENSE' },
] as const;

interface Component {
  readonly name: string;
  readonly version: string;
  readonly purl: string;
  readonly properties?: unknown;
}

interface Bom {
  readonly metadata: { readonly component: Record<string, unknown> };
  readonly components: readonly Component[];
}

/** The packages that went into any bundle: a package's folder by its name and version. */
const bundled = new Map<string, string>();

/** All packages of the lock file, as npm describes them. It is asked once, while the bundlers run. */
const locked: Promise<Bom> = promisify(execFile)('npm', ['sbom', '--package-lock-only', '--sbom-format', 'cyclonedx'], {
  maxBuffer: 2 ** 26,
}).then(({ stdout }) => JSON.parse(stdout));

/** Notes that a module is in a bundle. */
export function addBundled(path: string): void {
  const folder = /^.*(node_modules\/(?:@[^/]+\/)?[^/]+)/.exec(path)?.[1];
  if (!folder) return;
  const { name, version } = JSON.parse(readFileSync(`${folder}/package.json`, 'utf8'));
  bundled.set(`${name}@${version}`, folder);
}

/** Writes both files. Each bundle calls it when it ends, so the last call has all packages. */
export async function writeThirdParty(): Promise<void> {
  mkdirSync('dist', { recursive: true });
  writeFileSync('dist/THIRD-PARTY-NOTICES.txt', notices());
  const bom = billOfMaterials(await locked);
  writeFileSync('dist/sbom.cdx.json', `${JSON.stringify(bom, null, 2)}\n`);
}

function notices(): string {
  const packages = [...bundled.keys()].sort().map((id) => {
    const folder = bundled.get(id) as string;
    const { name, version, license } = JSON.parse(readFileSync(`${folder}/package.json`, 'utf8'));
    const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
    // Some packages name their license and leave its text out.
    const text = file ? `${folder}/${file}` : `scripts/licenses/${name.replace('@', '').replace('/', '-')}.txt`;
    return notice(`${name} ${version}`, license, text);
  });
  const data = DATA.map(({ name, license, file }) => notice(name, license, file));
  return ['The files of this folder contain these works of others.\n', ...packages, ...data].join(
    `\n${'-'.repeat(80)}\n\n`,
  );
}

const notice = (title: string, license: string, file: string): string =>
  `${title} (${license})\n\n${readFileSync(file, 'utf8').trim()}\n`;

/** Without a time or a random serial number, so that the same sources make the same file. */
function billOfMaterials({ metadata, components }: Bom): object {
  const own = JSON.parse(readFileSync('package.json', 'utf8'));
  const found = components.filter(({ name, version }) => bundled.has(`${name}@${version}`));
  const missing = [...bundled.keys()].filter((id) => !found.some(({ name, version }) => `${name}@${version}` === id));
  if (missing.length > 0) throw new Error(`npm sbom does not list ${missing.join(', ')}, which the bundles contain`);
  const packages = found.map(({ properties, ...component }) => component);
  const data = DATA.map(({ name, license }) => ({
    'bom-ref': name,
    type: 'data',
    name,
    licenses: [{ license: { id: license } }],
  }));
  return {
    $schema: 'http://cyclonedx.org/schema/bom-1.5.schema.json',
    bomFormat: 'CycloneDX',
    specVersion: '1.5',
    version: 1,
    // npm takes the name of the folder for that of the package.
    metadata: { component: { ...metadata.component, name: own.name } },
    components: [...packages.sort((a, b) => (a.purl < b.purl ? -1 : 1)), ...data],
  };
}
