// Names of operators and tokens, learnt from every answer that has them.

import { Store, useStore } from './store';

const names = new Store<ReadonlyMap<string, string>>(new Map());

export function learnNames(found: Record<string, string | null> | null | undefined): void {
  const known = names.get();
  const fresh = Object.entries(found ?? {}).filter(([id, name]) => name && known.get(id) !== name) as [string, string][];
  if (fresh.length > 0) names.set(new Map([...known, ...fresh]));
}

export function useNames(): ReadonlyMap<string, string> {
  return useStore(names);
}
