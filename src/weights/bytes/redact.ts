import { messageOf } from '../../errors.js';

const URL_TEXT = /\b([a-z][a-z0-9+.-]*:\/\/)([^\s'"<>]*)/gi;

/**
 * A text for a message, in which URLs are without user, password, query and fragment: keys are often there. It also
 * takes what is no valid URL for one.
 */
export function redactUrls(text: string): string {
  return text.replace(URL_TEXT, (_, scheme: string, rest: string) => {
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
