// Which part is away while calls are answered 503. The route of health tells it to anyone, without a row and without a
// look-up of the token. So it is asked without a token: when all is well that answer is 401, and leaves no row either.

import { Store } from './store';
import type { HealthSummary } from './types';

const AGAIN = 3000;

/** The parts that are away; null while none is known to be. */
export const outage = new Store<HealthSummary | null>(null);

let asking = false;

/** A call was answered 503: looks why, and again and again until the outage is over. */
export function suspectOutage(): void {
  if (asking) return;
  asking = true;
  void look();
}

async function look(): Promise<void> {
  let away: HealthSummary | null = outage.get();
  try {
    const answer = await fetch('/v1/health', { cache: 'no-store', credentials: 'omit', signal: AbortSignal.timeout(10_000) });
    const body = answer.status === 503 ? ((await answer.json()) as { health?: HealthSummary }) : null;
    away = body?.health ?? null;
  } catch {
    // Not reached: the pages say so, and what was known last still stands.
  }
  outage.set(away);
  asking = away !== null;
  if (away !== null) setTimeout(() => void look(), AGAIN);
}
