import { NETWORK_BACKENDS } from './support/backends.js';
import { testNetworks } from './support/networks.js';

testNetworks(NETWORK_BACKENDS.filter(({ slow }) => slow));
