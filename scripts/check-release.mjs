// Fails with one line if what is about to be published lacks something. Run by the release workflow with the tag.

import { readFileSync } from 'node:fs';

const [tag] = process.argv.slice(2);
const own = JSON.parse(readFileSync('package.json', 'utf8'));
const jsr = JSON.parse(readFileSync('jsr.json', 'utf8'));
const changelog = readFileSync('CHANGELOG.md', 'utf8');

/** The address of a repository without what npm puts around it. */
const plain = (url) => url.replace(/^git\+/, '').replace(/\.git$/, '');

const { GITHUB_SERVER_URL: server, GITHUB_REPOSITORY: path } = process.env;

function problem() {
  const missing = ['repository', 'homepage', 'bugs'].filter((field) => !own[field]);
  if (missing.length > 0) {
    return `package.json has no ${missing.join(', ')}: set them to the repository's address, which npm's provenance names`;
  }
  const repository = own.repository.url ?? own.repository;
  if (server && path && plain(repository) !== `${server}/${path}`) {
    return `package.json's repository is ${repository}, and this one is ${server}/${path}: provenance needs them equal`;
  }
  if (tag !== `v${own.version}`) return `The tag is ${tag}, and package.json has the version ${own.version}`;
  if (jsr.version !== own.version) return `jsr.json has the version ${jsr.version}, package.json ${own.version}`;
  if (!changelog.includes(`\n## ${own.version}`)) return `CHANGELOG.md has no section '## ${own.version}'`;
  return undefined;
}

const found = problem();
if (found) {
  console.error(found);
  process.exit(1);
}
