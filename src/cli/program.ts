import { readFileSync } from 'node:fs';
import { Argument, Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { type BenchFlags, bench } from './bench.js';
import { type CacheFlags, clearCachedWeights, listCachedWeights } from './cache.js';
import { type ClassifyFlags, classify } from './classify.js';
import { type ConvertFlags, convert, parsePrecision } from './convert.js';
import { UsageError } from './failure.js';
import { type ForwardFlags, forward } from './forward.js';
import { packageFile } from './package.js';
import { type ServeFlags, serve } from './serve.js';
import { type SummaryFlags, summary } from './summary.js';

/**
 * Runs the command line.
 * @param args without the program's name
 * @returns the exit code
 * @throws UsageError for wrong use; VGGNetError
 */
export async function run(args: readonly string[], signal: AbortSignal): Promise<number> {
  let exitCode = 0;
  const program = createProgram(signal, (code) => {
    exitCode = code;
  });
  try {
    await program.parseAsync(args, { from: 'user' });
    return exitCode;
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    // Help or the version was asked for.
    if (error.exitCode === 0) return 0;
    // Called without a command: the help is on stderr.
    if (error.code === 'commander.help') return 2;
    const message = error.message.replace(/^error: /, '').replace(/\n/g, ' ');
    throw new UsageError(`${message.charAt(0).toUpperCase()}${message.slice(1)}`);
  }
}

function createProgram(signal: AbortSignal, finish: (exitCode: number) => void): Command {
  const program = new Command('vggnet')
    .description('VGG networks on the command line: from an image to its top-5.')
    .version(version(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .helpCommand(false)
    // Before any command is added, for they inherit it. Errors are thrown, and reported in one place.
    .exitOverride()
    .configureOutput({ outputError: () => {} })
    .addHelpText('after', examples('vggnet classify letter.png', 'vggnet summary vgg16', 'vggnet bench glyphs'))
    .addHelpText(
      'after',
      '\nEvery command has its own help: vggnet classify --help.\nExit codes: 0, 1 for a failed run, 2 for wrong use.',
    );

  program
    .command('classify')
    .description('name what is in images: the most likely classes of each, with percent and times')
    .argument('<IMAGE...>', 'files or URLs: JPEG, PNG, WebP or GIF')
    .option('--model <NAME|FILE>', `${NAMES}; or a weights file that describes itself (default: glyphs)`)
    .option('--weights <FILE|URL>', WEIGHTS_TEXT)
    .option(CACHE_FLAG, CACHE_TEXT)
    .option('--base-url <URL>', 'a mirror to download them from')
    .option('--top <N>', 'how many classes to print (default: 5)', integer(1, MAX_COUNT))
    .addOption(deviceOption())
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      examples(
        'vggnet classify letter.png digit.png',
        'vggnet classify photo.jpg --model vgg16 --top 3',
        'vggnet classify photo.jpg --model vgg16 --weights vgg16.safetensors',
        'vggnet classify photo.jpg --weights my-own.safetensors --json',
      ),
    )
    .addHelpText('after', '\nThe embedded model glyphs reads one printed character, 0-9 or A-Z.')
    .action(async (images: string[], flags: ClassifyFlags) => finish(await classify(images, flags, signal)));

  program
    .command('summary')
    .description("print a network's layers, output shapes, parameters, multiply-accumulates and memory")
    .addArgument(
      new Argument('[MODEL]', `${NAMES}; a list such as 64,M,128,M; or a weights file`).default('vgg16', 'vgg16'),
    )
    .option('--input <NxCxHxW>', "shape of the input (default: one image of the model's size)", shape)
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      examples(
        'vggnet summary vgg19_bn',
        'vggnet summary 64,M,128,M --input 8x3x64x64',
        'vggnet summary glyphs --json',
      ),
    )
    .action(async (model: string, flags: SummaryFlags) => finish(await summary(model, flags, signal)));

  program
    .command('forward')
    .description('run a tensor from a file through a network, to compare with other systems')
    .requiredOption('--input <FILE>', 'safetensors file with one F32 tensor (N, C, H, W)')
    .requiredOption('--output <FILE>', 'safetensors file to write, one tensor per layer')
    .option('--tensor <NAME>', 'which tensor of the input file, if it has several')
    .addOption(
      new Option('--layers <NAMES>', 'outputs to write, such as relu3_3,fc7 or features.16')
        .argParser(names)
        .default(['logits'], 'logits'),
    )
    .option('--model <NAME|LIST|FILE>', `${NAMES}; a list such as 64,M,128,M; or a file (default: glyphs)`)
    .option('--weights <FILE|URL>', 'file of the weights of --model (default: random weights)')
    .option('--seed <N>', 'seed of the random weights (default: 0)', integer(0, 2 ** 32 - 1))
    .addOption(new Option('--init <SCHEME>', 'how random weights are drawn (default: pytorch)').choices(INIT_SCHEMES))
    .addOption(deviceOption())
    .addHelpText(
      'after',
      examples(
        'vggnet forward --model vgg16 --input x.safetensors --output y.safetensors',
        'vggnet forward --input x.safetensors --output y.safetensors --layers relu2_1,fc7',
      ),
    )
    .addHelpText(
      'after',
      [
        '',
        'Random weights are those that PyTorch makes after torch.manual_seed(SEED): by the',
        "constructors of nn.Conv2d and nn.Linear in the lesson's order, or with",
        '--init torchvision by torchvision.models.vgg16(weights=None) and its like.',
        'A list has batch norm, as in the lesson. Everything runs in eval mode.',
      ].join('\n'),
    )
    .action(async (flags: ForwardFlags) => finish(await forward(flags, signal)));

  program
    .command('bench')
    .description('time the forward of networks: a first table of latencies')
    .addArgument(
      new Argument('[MODEL...]', `${NAMES}; a list; or a weights file`).default(['glyphs', 'vgg16'], 'glyphs vgg16'),
    )
    .addOption(deviceOption())
    .option('--batch <N>', 'images in one forward', integer(1, MAX_COUNT), 1)
    .option('--size <PIXELS>', "side of the input (default: the model's own, 224 for vgg16)", integer(1, MAX_COUNT))
    .option('--samples <N>', 'forwards that are timed', integer(1, MAX_COUNT), 10)
    .option('--warmup <N>', 'forwards before these', integer(0, MAX_COUNT), 2)
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      examples('vggnet bench', 'vggnet bench vgg11 vgg11_bn --samples 5', 'vggnet bench vgg16 --json'),
    )
    .addHelpText('after', '\nNetworks named without a file get random weights, which take as long as any others.')
    .action(async (models: string[], flags: BenchFlags) => finish(await bench(models, flags, signal)));

  program
    .command('convert')
    .description('write low-precision weights, and report the effect on the answers')
    .argument('<IN>', `weights file; or ${NAMES}`)
    .argument('<OUT>', 'safetensors file to write')
    .requiredOption(
      '--precision <LIST>',
      'fp32, fp16, int8 or int4 for all layers, and LAYER=PRECISION for some; conv and fc are all of a kind',
      parsePrecision,
    )
    .option('--calibrate <DIR>', 'folder of images, by which the ranges of activations are fixed (default: per image)')
    .option(CACHE_FLAG, CACHE_TEXT)
    .option('--base-url <URL>', 'a mirror to download official weights from')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      examples(
        'vggnet convert vgg16.pth vgg16-small.safetensors --precision int8,fc=int4',
        'vggnet convert vgg16 vgg16-int8.safetensors --precision int8,conv1_1=fp32 --calibrate photos',
      ),
    )
    .addHelpText(
      'after',
      [
        '',
        'int8 has a scale for each output channel; int4, for linear layers, one for each 32 inputs',
        '(convolutions are int8 then). The answers are compared on the images of --calibrate, or on noise.',
      ].join('\n'),
    )
    .action(async (input: string, output: string, flags: ConvertFlags) =>
      finish(await convert(input, output, flags, signal)),
    );

  const cache = program
    .command('cache')
    .helpCommand(false)
    .description('list or delete the official weights that were downloaded')
    .addHelpText('after', examples('vggnet cache list', 'vggnet cache clear --cache-dir ./weights'));
  cache
    .command('list')
    .description('list the files, with downloads that were cut')
    .option(CACHE_FLAG, CACHE_TEXT)
    .option('--json', 'print one JSON document')
    .action(async (flags: CacheFlags) => finish(await listCachedWeights(flags)));
  cache
    .command('clear')
    .description('delete them all, except what is being downloaded right now; other files in the folder stay')
    .option(CACHE_FLAG, CACHE_TEXT)
    .option('--json', 'print one JSON document')
    .action(async (flags: CacheFlags) => finish(await clearCachedWeights(flags)));

  program
    .command('serve')
    .description('answer HTTP requests: images to classes, tensors to logits')
    .option('--model <NAME|FILE>', `${NAMES}; or a weights file that describes itself (default: glyphs)`)
    .option('--weights <FILE|URL>', WEIGHTS_TEXT)
    .option(CACHE_FLAG, CACHE_TEXT)
    .option('--base-url <URL>', 'a mirror to download them from')
    .addOption(deviceOption())
    .option('--threads <N>', 'threads that compute (default: one for each core, up to 16)', integer(1, 256))
    .option('--memory-limit <BYTES>', 'most memory of weights and activations (default: none)', integer(1, 2 ** 32))
    .option('--precision <LIST>', 'as convert has it: fp32, fp16, int8 or int4, and LAYER=PRECISION', parsePrecision)
    .option('--layers <NAMES>', 'outputs that may be asked for besides logits and probabilities', names)
    .option('--host <ADDRESS>', 'address to listen on; 0.0.0.0 for all', '127.0.0.1')
    .option('--port <N>', 'port to listen on; 0 for any that is free', integer(0, 65_535), 8000)
    .option('--allowed-hosts <NAMES>', 'names in Host headers that are answered (default: docs/serving.md)', names)
    .option('--cors <ORIGINS>', "origins that may call from a browser, or '*' (default: none)", names)
    .option('--max-batch <N>', 'images in one forward (default: 8)', integer(1, MAX_COUNT))
    .option('--max-delay <MS>', 'how long a request waits for others (default: 5)', integer(0, MAX_COUNT))
    .option('--max-queue <N>', 'images that may wait; more get 503 (default: 64)', integer(1, MAX_COUNT))
    .option('--timeout <MS>', 'how long a request may take (default: 30000)', integer(1, 1_000_000_000))
    .option('--max-body <BYTES>', 'largest request body (default: 16777216)', integer(1, 2 ** 31))
    .option('--max-total-body <BYTES>', 'all bodies together (default: 67108864)', integer(1, 2 ** 40))
    .option('--max-requests <N>', 'requests in progress (default: 256)', integer(1, MAX_COUNT))
    .option('--max-output <BYTES>', 'largest answer to a tensor (default: 33554432)', integer(1, 2 ** 31))
    .option('--max-total-output <BYTES>', 'all such answers together (default: 67108864)', integer(1, 2 ** 40))
    .option('--answer-timeout <MS>', 'how long a client may read its answer (default: 60000)', integer(1, MAX_MS))
    .option('--max-pixels <N>', 'largest image, width times height (default: 25000000)', integer(1, 100_000_000))
    .option('--max-decoded <BYTES>', 'all images being decoded together (default: 134217728)', integer(1, 2 ** 40))
    .option('--max-input-pixels <N>', 'largest tensor, height times width (default: 262144)', integer(1, 100_000_000))
    .option('--max-images <N>', 'images in a tensor (default: 4096)', integer(1, MAX_COUNT))
    .option('--max-connections <N>', 'connections that are open', integer(1, MAX_COUNT), 512)
    .option('--keep-alive <MS>', 'how long a connection waits for its next request', integer(0, MAX_MS), 65_000)
    .option('--drain-delay <MS>', 'how long it answers on after SIGTERM', integer(0, MAX_MS), 5000)
    .option('--grace <MS>', 'how long the last answers may take after that', integer(0, MAX_MS), 10_000)
    .addHelpText('after', examples('vggnet serve', 'vggnet serve --model vgg16 --weights vgg16.safetensors --port 80'))
    .addHelpText(
      'after',
      [
        '',
        'Routes: POST /classify (an image, or a form of several; ?topK=5), the Open Inference',
        'Protocol v2 under /v2, GET /metrics for Prometheus. If VGGNET_TOKEN is set, requests',
        'must carry it as a bearer token. After SIGTERM and Ctrl-C it is not ready any more, and',
        'requests in progress end; a second one ends it at once.',
      ].join('\n'),
    )
    .action(async (flags: ServeFlags) => finish(await serve(flags, signal)));

  return program;
}

const NAMES = 'vgg11 to vgg19, vgg11_bn to vgg19_bn, or glyphs';
const WEIGHTS_TEXT =
  "file of --model's weights, or alone one that describes itself (a name's default: the official ones, downloaded once)";
const CACHE_FLAG = '--cache-dir <DIR>';
const CACHE_TEXT = 'folder of downloads (default: VGGNET_CACHE, or vggnet where the system keeps caches)';
const DEVICES = ['auto', 'wasm', 'webgpu', 'reference'];
const INIT_SCHEMES = ['pytorch', 'torchvision'];
const MAX_COUNT = 1_000_000;
const MAX_MS = 1_000_000_000;

function version(): string {
  return JSON.parse(readFileSync(packageFile('package.json'), 'utf8')).version;
}

function deviceOption(): Option {
  return new Option('--device <NAME>', 'what to run on').choices(DEVICES).default('auto', 'auto');
}

function examples(...lines: string[]): string {
  return `\nExamples:\n${lines.map((line) => `  ${line}`).join('\n')}`;
}

function integer(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= min && value <= max) return value;
    throw new InvalidArgumentError(`Expected an integer from ${min} to ${max}.`);
  };
}

function shape(text: string): number[] {
  if (/^\d+(?:x\d+){3}$/i.test(text)) return text.split(/x/i).map(Number);
  throw new InvalidArgumentError('Expected a shape such as 1x3x224x224.');
}

function names(text: string): string[] {
  const list = [...new Set(text.split(',').map((name) => name.trim()))];
  if (!list.includes('')) return list;
  throw new InvalidArgumentError('Expected layer names such as relu3_3,fc7.');
}
