import { Metrics } from './metrics.js';

const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

/** What is read when the metrics are. */
export interface Gauges {
  readonly waiting: () => number;
  readonly active: () => number;
  readonly bodyBytes: () => number;
  readonly outputBytes: () => number;
}

/** What a server counts. */
export class ServerMetrics {
  readonly #metrics = new Metrics();
  readonly #images = this.#metrics.counter('vggnet_images_total', 'Images that went through the network.');
  readonly #requests = this.#metrics.counter('vggnet_requests_total', 'Requests answered, by route and status.');
  readonly #seconds = this.#metrics.histogram(
    'vggnet_request_duration_seconds',
    'From a request to its answer.',
    SECONDS,
  );
  readonly #batches = this.#metrics.histogram(
    'vggnet_batch_images',
    'Images in one forward.',
    [1, 2, 4, 8, 16, 32, 64],
  );

  constructor({ waiting, active, bodyBytes, outputBytes }: Gauges) {
    const gauge = this.#metrics.gauge.bind(this.#metrics);
    gauge('vggnet_requests_waiting', 'Images and tensors that wait to be decoded or for their forward.', waiting);
    gauge('vggnet_requests_active', 'Requests whose answer has not been sent.', active);
    gauge('vggnet_body_bytes', 'Bytes of the bodies of requests in progress.', bodyBytes);
    gauge('vggnet_output_bytes', 'Bytes of outputs that have not been sent.', outputBytes);
  }

  answered(route: string, status: number, seconds: number): void {
    this.#requests.add(1, { route, status });
    this.#seconds.observe(seconds, { route });
  }

  ran(images: number): void {
    this.#batches.observe(images);
    this.#images.add(images);
  }

  text(): string {
    return this.#metrics.text();
  }
}
