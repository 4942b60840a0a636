/** A `MessagePort`, with the listener that Node's class has besides the web's. */
interface ListeningPort {
  onmessage: unknown;
  on?: (type: 'message', listener: (message: never) => void) => unknown;
}

/**
 * Hands on what comes through a port, or into a worker by its global scope. For the web's listener Node makes an event
 * of each message, and loads HTTP, TLS and more to have its class: 5 MiB a thread. Deno's own `on`, which is put on the
 * port itself, looks at every value of an array that comes.
 */
export function listen<Message>(port: object, take: (message: Message) => void): void {
  const listening = port as ListeningPort;
  if ('on' in port && !Object.hasOwn(port, 'on')) listening.on?.('message', take);
  else listening.onmessage = (event: { data: Message }) => take(event.data);
}
