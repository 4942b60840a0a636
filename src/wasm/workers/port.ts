/** A `MessagePort`, with the `on` that Node's class has in addition to the web's listeners. */
interface ListeningPort {
  onmessage: unknown;
  on?: (type: 'message', listener: (message: never) => void) => unknown;
}

/**
 * Calls `take` with each message that arrives at a port or a worker's global scope. Node's web listener makes an event of
 * each message and loads HTTP, TLS and more for its class, 5 MiB per thread, so its `on` is used. Deno's own `on`, a
 * property of the port itself, inspects every value of an array and is not.
 */
export function listen<Message>(port: object, take: (message: Message) => void): void {
  const listening = port as ListeningPort;
  if ('on' in port && !Object.hasOwn(port, 'on')) listening.on?.('message', take);
  else listening.onmessage = (event: { data: Message }) => take(event.data);
}
