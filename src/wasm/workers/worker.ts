/* The script of a worker. Only this file and worker-training.ts have a side effect on import. */
import { serveRequests } from './requests.js';

serveRequests();
