/* The script of a worker that computes gradients too. */
import { serveRequests } from './requests.js';
import { makeTraining } from './training.js';

serveRequests(makeTraining);
