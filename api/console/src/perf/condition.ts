import type { Condition } from '../lib/filter';

/** The condition that asks for a value; null when no filter does. */
export function conditionOf(dimension: string, value: string): Condition | null {
  if (dimension === 'status' && value === 'interrupted') return { name: 'outcome', not: false, value };
  if (value === '' && dimension !== 'client') return null;
  return { name: dimension, not: false, value };
}
