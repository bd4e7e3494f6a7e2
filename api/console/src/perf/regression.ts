import { formatPercent } from '../lib/format';
import type { PerfRow } from '../lib/types';

/** What grew most of a row, among the figures that changed by more than noise. */
export interface Regression {
  figure: 'p50' | 'p95' | 'p99' | 'errors';
  /** how many times as large; 1 or more */
  factor: number;
  text: string;
}

/**
 * The greatest growth of a latency or of the share of 5xx answers, as argusctl sorts it; null without one. A percentage
 * point is added to both shares, so that the first errors there are do not outgrow everything.
 */
export function regressionOf(row: PerfRow): Regression | null {
  const { before } = row;
  let worst: Regression | null = null;
  for (const name of before ? (row.changed ?? []) : []) {
    let found: Regression;
    if (name === 'error_rate') {
      const grown = row.error_rate - before!.error_rate;
      found = { figure: 'errors', factor: (row.error_rate + 0.01) / (before!.error_rate + 0.01), text: `5xx +${formatPercent(Math.max(0, grown))}` };
    } else if (name === 'p50' || name === 'p95' || name === 'p99') {
      const [now, was] = [row[`${name}_ms`], before![`${name}_ms`]];
      if (now === null || was === null || was <= 0) continue;
      const factor = now / was;
      found = { figure: name, factor, text: `${name} ×${factor < 10 ? factor.toFixed(1) : factor.toFixed(0)}` };
    } else {
      continue;
    }
    if (found.factor > (worst?.factor ?? 1)) worst = found;
  }
  return worst;
}
