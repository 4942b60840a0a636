/*
 * Against DNS rebinding: a page of an attacker's, whose name is made to point here, has that name in its Host header. An
 * address cannot be rebound, and a name without a dot is nobody's to register.
 */

/**
 * Whether a Host header names an address, a local name, or one of a list.
 * @param allowed names, or `.example.org` for all names under one
 */
export function isAllowedHost(host: string | null, allowed: readonly string[]): boolean {
  // HTTP/1.0 and tests have none; a browser always has one.
  if (host === null) return true;
  const name = host.replace(/:\d*$/, '').toLowerCase();
  if (/^\[[\d.:a-f]+\]$/.test(name) || /^\d{1,3}(?:\.\d{1,3}){3}$/.test(name)) return true;
  if (/^[^.]+$/.test(name) || name.endsWith('.localhost')) return true;
  return allowed.some((entry) => {
    const own = entry.toLowerCase();
    return own === '*' || (own.startsWith('.') ? name.endsWith(own) || name === own.slice(1) : name === own);
  });
}
