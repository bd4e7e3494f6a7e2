// The tenants, as several pages ask for them.
import { call } from './http';
import { learnNames } from './names';
import type { Tenant } from './types';

export interface TenantList {
  tenants: Tenant[];
  actors?: Record<string, string>;
}

export async function fetchTenants(signal: AbortSignal, retired = false): Promise<TenantList> {
  const list = await call<TenantList>('/v1/tenants', { signal, query: retired ? { retired: 'true' } : {} });
  list.tenants ??= [];
  learnNames(list.actors);
  return list;
}
