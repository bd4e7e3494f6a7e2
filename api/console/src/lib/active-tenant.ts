// The tenant an operator is busy with: it stands first in the list and is offered where a tenant is asked for.

import { Store } from './store';

const KEY = 'argus.active-tenant';

export const activeTenant = new Store<string | null>(localStorage.getItem(KEY));

export function setActiveTenant(id: string | null): void {
  if (id === null) localStorage.removeItem(KEY);
  else localStorage.setItem(KEY, id);
  activeTenant.set(id);
}
