import { Store, useStore } from './store';

/** A place in the console: the path behind the hash, and its query. */
export interface Place {
  path: string;
  query: URLSearchParams;
  /** the query as it stands in the address */
  raw: string;
}

export function parseHash(hash: string): Place {
  const text = hash.replace(/^#/, '');
  const at = text.indexOf('?');
  const path = at < 0 ? text : text.slice(0, at);
  const raw = at < 0 ? '' : text.slice(at + 1);
  return { path: path.startsWith('/') ? path : `/${path}`, query: new URLSearchParams(raw), raw };
}

/** The address of a place, readable: what a URL may hold unescaped behind its hash stays as it is. */
export function href(path: string, query?: URLSearchParams | Record<string, string>): string {
  const text = new URLSearchParams(query).toString();
  const readable = text.replace(/%(2F|3A|40|2C|3E|3D)/g, (sequence) => (sequence === '%3D' ? sequence : decodeURIComponent(sequence)));
  return `#${path}${readable ? `?${readable}` : ''}`;
}

/** The list of the calls that a figure counts: those that the console makes by itself as well. */
export function countedCalls(query: URLSearchParams): string {
  query.set('polling', '1');
  return href('/settings/audit', query);
}

const place = new Store<Place>(parseHash(location.hash));

function follow(): void {
  place.set(parseHash(location.hash));
}
addEventListener('hashchange', follow);
addEventListener('popstate', follow);

/** Goes to a place; replace leaves no entry in the history, for what is no step of its own. */
export function go(to: string, replace = false): void {
  if (to === location.hash) return;
  if (replace) history.replaceState(null, '', to);
  else history.pushState(null, '', to);
  follow();
}

/** Changes some of the query of the present place; null removes a name. */
export function setQuery(changes: Record<string, string | null>, replace = false): void {
  const { path, query } = place.get();
  const next = new URLSearchParams(query);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null) next.delete(name);
    else next.set(name, value);
  }
  go(href(path, next), replace);
}

export function currentPlace(): Place {
  return place.get();
}

export function usePlace(): Place {
  return useStore(place);
}
