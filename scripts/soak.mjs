import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { Agent, createServer, request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { deflateSync, gzipSync } from 'node:zlib';

/*
 * Long runs against `vggnet serve`, with results under bench/results/serve/:
 *
 *   npm run soak -- traffic --seconds 600           good and hostile requests mixed: memory, statuses, health
 *   npm run soak -- restart --times 20 --rate 200   two instances behind a proxy, restarted in turn: answers that are missing
 *   npm run soak -- throughput --seconds 60 --other FOLDER   requests a second, and those of another installed version, in turn
 *
 * On Linux, as memory is read from /proc. Only 127.0.0.1 is talked to.
 */

const root = fileURLToPath(new URL('..', import.meta.url));
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seconds: { type: 'string', default: '600' },
    times: { type: 'string', default: '20' },
    rate: { type: 'string', default: '200' },
    rounds: { type: 'string', default: '6' },
    other: { type: 'string' },
    out: { type: 'string', default: join(root, 'bench/results/serve') },
  },
});
const letter = readFileSync(join(root, 'examples/images/glyph-W.png'));
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const INFER = '/v2/models/glyphs/infer';

/** Starts an installed version; resolves when it is ready. */
async function start(folder = root, args = []) {
  const cli = join(folder, 'dist/cli.js');
  const child = spawn(process.execPath, [cli, 'serve', '--device', 'wasm', '--port', '0', ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let out = '';
  let err = '';
  child.stderr.on('data', (data) => {
    err += data;
  });
  const ended = new Promise((resolve) => child.on('exit', (code, signal) => resolve({ code, signal, err })));
  const url = await new Promise((resolve, reject) => {
    child.stdout.on('data', (data) => {
      out += data;
      const found = /^Listening on (\S+)$/m.exec(out)?.[1];
      if (found) resolve(found);
    });
    ended.then(() => reject(new Error(err)));
  });
  for (let i = 0; i < 600; i++) {
    const ready = await fetch(new URL('/v2/health/ready', url)).catch(() => undefined);
    await ready?.arrayBuffer();
    if (ready?.ok) break;
    await sleep(100);
  }
  const status = () => readFileSync(`/proc/${child.pid}/status`, 'utf8');
  const mib = (key) => Math.round(Number(new RegExp(`${key}:\\s+(\\d+)`).exec(status())?.[1]) / 1024);
  return {
    child,
    url,
    port: Number(new URL(url).port),
    ended,
    rss: () => mib('VmRSS'),
    peak: () => mib('VmHWM'),
    errors: () => err,
  };
}

/** Posts; gives the status, or the error's code. */
async function post(url, path, body, headers = {}, signal = undefined) {
  try {
    const response = await fetch(new URL(path, url), { method: 'POST', body, headers, signal });
    await response.arrayBuffer();
    return response.status;
  } catch (error) {
    return error.cause?.code ?? error.name;
  }
}

function quantile(sorted, share) {
  return sorted.length === 0
    ? 0
    : Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] * 10) / 10;
}

/** A PNG of zeros. */
function png(width, height, depth, type) {
  const table = Int32Array.from({ length: 256 }, (_, n) => {
    let c = n;
    for (let k = 0; k < 8; k++) c = c & 1 ? (c >>> 1) ^ 0xedb88320 : c >>> 1;
    return c;
  });
  const chunk = (name, data) => {
    const bytes = Buffer.alloc(12 + data.length);
    bytes.writeUInt32BE(data.length);
    bytes.write(name, 4, 'latin1');
    data.copy(bytes, 8);
    let c = ~0;
    for (const byte of bytes.subarray(4, 8 + data.length)) c = table[(c ^ byte) & 255] ^ (c >>> 8);
    bytes.writeUInt32BE(~c >>> 0, 8 + data.length);
    return bytes;
  };
  const row = 1 + Math.ceil((width * { 0: 1, 2: 3, 6: 4 }[type] * depth) / 8);
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  head.set([depth, type], 8);
  const pixels = deflateSync(Buffer.alloc(row * height), { level: 9 });
  const signature = Buffer.from('89504e470d0a1a0a', 'hex');
  return Buffer.concat([signature, chunk('IHDR', head), chunk('IDAT', pixels), chunk('IEND', Buffer.alloc(0))]);
}

function tensor(shape, names, binary = true) {
  const bytes = shape.reduce((a, b) => a * b, 4);
  const input = { name: 'input', datatype: 'FP32', shape, parameters: { binary_data_size: bytes } };
  const outputs = names.map((name) => ({ name, parameters: { binary_data: binary } }));
  const json = JSON.stringify({ inputs: [input], outputs });
  return [
    Buffer.concat([Buffer.from(json), Buffer.alloc(bytes)]),
    { 'Inference-Header-Content-Length': String(json.length) },
  ];
}

/** A connection that sends some bytes, and is left for a while. */
async function half(port, text, ms, { reads = true } = {}) {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => {});
  if (reads) socket.resume();
  else socket.pause();
  socket.write(text);
  await sleep(ms);
  socket.destroy();
  return 'left';
}

/** What is done to the server; each gives a status or a word. */
function hostile() {
  const bombs = { rgba: png(5000, 5000, 8, 6), deep: png(5000, 5000, 16, 6) };
  const part = '--b\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\n\r\n';
  const form = Buffer.from(`${part.repeat(100_000)}--b--\r\n`);
  const zipped = gzipSync(Buffer.alloc(200 * 2 ** 20));
  const numbers = `{"inputs":[{"name":"input","datatype":"FP32","shape":[4096,1,32,32],"data":[${'0,'.repeat(4096 * 1024 - 1)}0]}]}`;
  const [large, largeHead] = tensor([4000, 1, 32, 32], ['logits', 'probabilities']);
  const [wide, wideHead] = tensor([1, 1, 512, 512], ['logits']);
  const [early, earlyHead] = tensor([1, 1, 512, 512], ['conv1_1']);
  const head = `POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: ${16 * 2 ** 20}\r\n\r\n`;
  const rawLarge = `POST ${INFER} HTTP/1.1\r\nHost: x\r\nInference-Header-Content-Length: ${largeHead['Inference-Header-Content-Length']}\r\nContent-Length: ${large.length}\r\n\r\n`;
  return {
    'a picture of 25 megapixels': (s) => post(s.url, '/classify', bombs.rgba),
    'one of 16 bits': (s) => post(s.url, '/classify', bombs.deep),
    'one whose client hangs up': (s) => post(s.url, '/classify', bombs.rgba, {}, AbortSignal.timeout(50)),
    'a form of 100,000 files': (s) =>
      post(s.url, '/classify', form, { 'content-type': 'multipart/form-data; boundary=b' }),
    'a gzip bomb': (s) => post(s.url, '/classify', zipped, { 'content-encoding': 'gzip' }),
    'JSON of 4 million numbers': (s) => post(s.url, INFER, numbers),
    'nested JSON': (s) => post(s.url, INFER, '['.repeat(1e6)),
    '4,000 images': (s) => post(s.url, INFER, large, largeHead),
    'a wide tensor': (s) => post(s.url, INFER, wide, wideHead),
    'an early layer': (s) => post(s.url, INFER, early, earlyHead),
    'a body that stops': (s) => half(s.port, Buffer.concat([Buffer.from(head), Buffer.alloc(8 * 2 ** 20)]), 3000),
    'an answer that is not read': (s) =>
      half(s.port, Buffer.concat([Buffer.from(rawLarge), large]), 5000, { reads: false }),
    silence: (s) => half(s.port, '', 3000),
    'half a head': (s) => half(s.port, 'GET /v2 HTTP/1.1\r\nHo', 3000),
    'no HTTP': (s) => half(s.port, '\x16\x03\x01\x02\x00', 100),
    'no picture': (s) => post(s.url, '/classify', 'x'),
    'an unknown path': (s) => post(s.url, '/nothing', 'x'),
  };
}

async function traffic() {
  const seconds = Number(values.seconds);
  const server = await start();
  const attacks = Object.entries(hostile());
  const end = performance.now() + seconds * 1000;
  const isOn = () => performance.now() < end;
  const statuses = {};
  const count = (name, status) => {
    statuses[name] ??= {};
    statuses[name][status] = (statuses[name][status] ?? 0) + 1;
  };
  const health = [];
  const rss = [];
  const loops = [
    (async () => {
      while (isOn()) {
        const begin = performance.now();
        const response = await fetch(new URL('/v2/health/live', server.url)).catch(() => undefined);
        await response?.arrayBuffer();
        health.push(performance.now() - begin);
        count('health', response?.status ?? 'no answer');
        await sleep(50);
      }
    })(),
    (async () => {
      while (isOn()) {
        rss.push(server.rss());
        await sleep(1000);
      }
    })(),
    ...Array.from({ length: 4 }, async () => {
      while (isOn()) {
        count('a letter', await post(server.url, '/classify', letter));
        await sleep(20);
      }
    }),
    ...Array.from({ length: 4 }, async (_, i) => {
      for (let n = i * 5; isOn(); n++) {
        const [name, attack] = attacks[n % attacks.length];
        count(name, await attack(server));
        await sleep(20);
      }
    }),
  ];
  await Promise.all(loops);
  const peak = server.peak();
  const log = server.errors().split('\n').length - 1;
  server.child.kill('SIGTERM');
  const { code } = await server.ended;
  health.sort((a, b) => a - b);
  const quarter = Math.ceil(rss.length / 4);
  const quarters = [0, 1, 2, 3].map((i) => Math.max(0, ...rss.slice(i * quarter, (i + 1) * quarter)));
  const failures = Object.values(statuses)
    .flatMap((all) => Object.keys(all))
    .filter((s) => /^5/.test(s) && s !== '503');
  return {
    seconds,
    rssMiB: { quarters, peak },
    healthMs: { p50: quantile(health, 0.5), p99: quantile(health, 0.99), worst: quantile(health, 1) },
    serverErrors: [...new Set(failures)],
    statuses,
    logLines: log,
    exitCode: code,
  };
}

/** Sends each request to one of the instances that said ready in the last poll, on connections that stay open. */
function proxy(instances) {
  const agent = new Agent({ keepAlive: true, maxSockets: 256 });
  const ready = new Set(instances.filter(Boolean));
  const timer = setInterval(async () => {
    for (const instance of instances) {
      const response = await fetch(new URL('/v2/health/ready', instance.url), {
        headers: { connection: 'close' },
      }).catch(() => undefined);
      await response?.arrayBuffer().catch(() => {});
      if (response?.ok) ready.add(instance);
      else ready.delete(instance);
    }
  }, 1000);
  let turn = 0;
  const server = createServer((request, response) => {
    const all = [...ready];
    const target = all[turn++ % all.length];
    if (!target) {
      response.writeHead(502).end();
      return;
    }
    const { method, url: path, headers } = request;
    const forward = httpRequest({ host: '127.0.0.1', port: target.port, method, path, headers, agent }, (answer) => {
      response.writeHead(answer.statusCode, { 'content-type': answer.headers['content-type'] ?? '' });
      answer.pipe(response);
      answer.on('aborted', () => response.destroy());
    });
    forward.on('error', () => (response.headersSent ? response.destroy() : response.writeHead(502).end()));
    request.pipe(forward);
  });
  return {
    listen: () =>
      new Promise((resolve) =>
        server.listen(0, '127.0.0.1', () => resolve(`http://127.0.0.1:${server.address().port}`)),
      ),
    isReady: (instance) => ready.has(instance),
    close() {
      clearInterval(timer);
      server.closeAllConnections();
      server.close();
      agent.destroy();
    },
  };
}

async function restart() {
  const times = Number(values.times);
  const rate = Number(values.rate);
  const instances = [await start(), await start()];
  const front = proxy(instances);
  const url = await front.listen();
  const statuses = {};
  let on = true;
  const asked = [];
  const load = (async () => {
    const begin = performance.now();
    for (let n = 0; on; n++) {
      const wait = begin + (n / rate) * 1000 - performance.now();
      if (wait > 0) await sleep(wait);
      asked.push(
        post(url, '/classify', letter).then((status) => {
          statuses[status] = (statuses[status] ?? 0) + 1;
        }),
      );
    }
  })();
  const exits = [];
  for (let i = 0; i < times; i++) {
    const slot = i % 2;
    const next = await start();
    const old = instances[slot];
    old.child.kill('SIGTERM');
    exits.push((await old.ended).code);
    instances[slot] = next;
    for (let k = 0; k < 100 && !front.isReady(next); k++) await sleep(100);
  }
  on = false;
  await load;
  await Promise.all(asked);
  front.close();
  for (const { child, ended } of instances) {
    child.kill('SIGKILL');
    await ended;
  }
  const lost = Object.entries(statuses).reduce((sum, [status, n]) => (status === '200' ? sum : sum + n), 0);
  return { times, rate, requests: asked.length, lost, statuses, exitCodes: [...new Set(exits)] };
}

/** Answers a second to so many clients, of whom each waits for its answer. */
async function answersPerSecond(server, seconds, clients = 32) {
  let answered = 0;
  const begin = performance.now();
  const end = begin + seconds * 1000;
  const one = async () => {
    while (performance.now() < end) {
      if ((await post(server.url, '/classify', letter)) === 200) answered++;
    }
  };
  await Promise.all(Array.from({ length: clients }, one));
  return answered / ((performance.now() - begin) / 1000);
}

async function throughput() {
  if (!values.other) throw new Error('Give the folder of another installed version by --other node_modules/vggnet');
  const rounds = Number(values.rounds);
  const seconds = Number(values.seconds) / (2 * rounds);
  const versions = [await start(), await start(values.other)];
  for (const server of versions) await answersPerSecond(server, 2);
  const rates = [[], []];
  for (let i = 0; i < rounds; i++) {
    // In turn, each first in half of the rounds.
    for (const which of i % 2 ? [1, 0] : [0, 1]) rates[which].push(await answersPerSecond(versions[which], seconds));
  }
  for (const { child } of versions) child.kill('SIGKILL');
  const ratios = rates[0].map((rate, i) => rate / rates[1][i]).sort((a, b) => a - b);
  const round = (list) => list.map((rate) => Math.round(rate));
  return {
    rounds,
    secondsEach: seconds,
    perSecond: { this: round(rates[0]), other: round(rates[1]) },
    ratio: {
      median: Math.round(ratios[Math.floor(ratios.length / 2)] * 1000) / 1000,
      least: Math.round(ratios[0] * 1000) / 1000,
      most: Math.round(ratios.at(-1) * 1000) / 1000,
    },
  };
}

const runs = { traffic, restart, throughput };
const name = positionals[0];
if (!(name in runs)) throw new Error(`Expected one of ${Object.keys(runs).join(', ')}, got ${name ?? 'nothing'}`);
const result = {
  run: name,
  date: new Date().toISOString(),
  node: process.version,
  cpu: cpus()[0]?.model,
  cores: cpus().length,
  ...(await runs[name]()),
};
mkdirSync(values.out, { recursive: true });
const file = join(values.out, `${name}-node${process.versions.node.split('.')[0]}`);
writeFileSync(`${file}.json`, `${JSON.stringify(result, undefined, 2)}\n`);
const rows = Object.entries(result).map(
  ([key, value]) => `| ${key} | ${typeof value === 'object' ? `\`${JSON.stringify(value)}\`` : value} |`,
);
writeFileSync(`${file}.md`, `# ${name}\n\n| | |\n| --- | --- |\n${rows.join('\n')}\n`);
console.log(JSON.stringify(result, undefined, 2));
process.exit(0);
