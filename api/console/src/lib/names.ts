// Names of operators and tokens, learnt from every answer that has them.

import { useEffect } from 'preact/hooks';
import { call } from './http';
import { session } from './session';
import { Store, useStore } from './store';
import type { Facets } from './types';

const names = new Store<ReadonlyMap<string, string>>(new Map());

export function learnNames(found: Record<string, string | null> | null | undefined): void {
  const known = names.get();
  const fresh = Object.entries(found ?? {}).filter(([id, name]) => name && known.get(id) !== name) as [string, string][];
  if (fresh.length > 0) names.set(new Map([...known, ...fresh]));
}

let asked = 0;

/** The name of an operator. One that no answer has named yet is asked for, with all others, once in a while. */
export function useName(id: string): string | undefined {
  const name = useStore(names).get(id);
  useEffect(() => {
    if (name !== undefined || Date.now() - asked < 5 * 60_000) return;
    const state = session.get();
    if (state.step !== 'signed-in' || !state.me.scopes.includes('logs:read')) return;
    asked = Date.now();
    void call<Facets>('/v1/audit-log/facets', { query: { fields: 'actor', since: '90d' }, background: true }).then(
      (f) => learnNames(Object.fromEntries((f.fields?.actor ?? []).map((v) => [v.value, v.name]))),
      () => undefined, // ids will do
    );
  }, [id, name]);
  return name;
}

export function useNames(): ReadonlyMap<string, string> {
  return useStore(names);
}
