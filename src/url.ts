import { messageOf } from './errors.js';

/* URLs as fetch takes them and as messages show them: without what may be a secret. */

/** A quote ends a URL, unless a query or host follows in the same word: paths may have quotes. */
const URL_TEXT = /\b([a-z][a-z0-9+.-]*:\/\/)((?:[^\s'"<>]|['"<>](?=\S{0,999}[?#@]))*)/gi;

/**
 * A text for a message, in which URLs are without user, password, query and fragment: keys are often there. It also
 * takes what is no valid URL for one.
 */
export function redactUrls(text: string): string {
  return text.replace(URL_TEXT, (all: string, scheme: string, rest: string) => {
    // A password with a slash or number sign in it makes a URL invalid, and nobody knows where it ends.
    if (rest.includes('@') && !URL.canParse(all)) return `${scheme}…`;
    const place = rest.replace(/[?#].*$/s, '');
    const slash = place.indexOf('/');
    const end = slash < 0 ? place.length : slash;
    return scheme + place.slice(place.lastIndexOf('@', end - 1) + 1);
  });
}

/** The message of whatever was thrown, with what it was caused by: fetch says only 'fetch failed'. */
export function reasonOf(error: unknown): string {
  const text = messageOf(error);
  return redactUrls(error instanceof Error && error.cause instanceof Error ? `${text} (${error.cause.message})` : text);
}

/** Without user and query, which may hold a key, and without a data URL's data. */
export function describeUrl({ protocol, host, pathname }: URL): string {
  return protocol === 'data:' || protocol === 'blob:' ? `the ${protocol} URL` : `${protocol}//${host}${pathname}`;
}

/** What a text that is no absolute URL means in a page; undefined where there is no page. */
export function pageUrl(text: string): URL | undefined {
  const page: string | undefined = globalThis.location?.href;
  return page !== undefined && URL.canParse(text, page) ? new URL(text, page) : undefined;
}

/** fetch refuses a URL with a user and password: they go into a header, as browsers put those that a page is opened by. */
export function userHeaders({ username, password }: URL): Record<string, string> {
  if (!username && !password) return {};
  const plain = new TextEncoder().encode(`${decoded(username)}:${decoded(password)}`);
  return { authorization: `Basic ${btoa(String.fromCharCode(...plain))}` };
}

/** A percent sign that encodes nothing is one. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export function withoutUser(url: URL): URL {
  // A bundler's stand-in for a URL relative to the page has neither, and cannot be copied.
  if (!url.username && !url.password) return url;
  const plain = new URL(url);
  plain.username = '';
  plain.password = '';
  return plain;
}
