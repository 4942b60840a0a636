// Installs what the tests run the package in and `npm install` does not bring: other Nodes, bundlers, two browsers, and
// drivers for WebGPU that compute on the CPU. Of the last two it names what is missing, and fails, where it is not root on Debian. Safe
// to run again.

import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { delimiter, join } from 'node:path';

const folders = (process.env.PATH ?? '').split(delimiter).filter(Boolean);
const command = (...names) => names.some((name) => folders.some((folder) => existsSync(join(folder, name))));
const library = (name) =>
  ['/usr/lib', '/usr/lib64', '/lib', ...list('/usr/lib').map((each) => `/usr/lib/${each}`)].some((folder) =>
    list(folder).some((file) => file.startsWith(name)),
  );

function list(folder) {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

const NEEDED = [
  { package: 'chromium', what: 'Chromium', here: () => command('chromium', 'chromium-browser') },
  { package: 'firefox-esr', what: 'Firefox', here: () => command('firefox-esr', 'firefox') },
  { package: 'libvulkan1', what: "Vulkan's loader, libvulkan.so.1", here: () => library('libvulkan.so.1') },
  {
    package: 'mesa-vulkan-drivers',
    what: 'the Vulkan driver lavapipe',
    here: () =>
      ['/usr/share', '/etc'].some((root) => list(`${root}/vulkan/icd.d`).some((file) => file.startsWith('lvp_icd'))),
  },
];

const missing = () => NEEDED.filter(({ here }) => !here());

const before = missing();
if (before.length > 0) {
  if (!command('apt-get') || process.getuid?.() !== 0) {
    console.error(`The tests need ${before.map(({ what }) => what).join(', ')}, which this machine does not have.`);
    console.error(`On Debian, as root: apt-get install ${before.map((each) => each.package).join(' ')}`);
    process.exit(1);
  }
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const apt = (...args) => execFileSync('apt-get', ['-o', 'Acquire::Retries=3', ...args], { stdio: 'inherit', env });
  apt('update', '-q');
  apt('install', '-q', '-y', '--no-install-recommends', ...before.map((each) => each.package));
}

const still = missing();
if (still.length > 0) {
  console.error(`Still missing: ${still.map(({ what }) => what).join(', ')}`);
  process.exit(1);
}

for (const folder of ['test/runtimes/nodes', 'test/runtimes/bundlers']) {
  execFileSync('npm', ['--prefix', folder, 'install', '--no-audit', '--no-fund'], { stdio: 'inherit' });
}
console.log('All that the tests need is here.');
