// What the console asks by itself, again and again, so that pages stay up to date. Each of these calls is a row of the log
// like any other. The console names itself as their agent, so that a list can leave them out.

import type { Condition } from './filter';

/** The agent of such calls. */
export const BACKGROUND = 'console-background';

const marked = new WeakSet<AbortSignal>();

/** Calls with this signal are the console's own. */
export function inBackground(signal: AbortSignal): void {
  marked.add(signal);
}

export function isBackground(signal: AbortSignal | undefined): boolean {
  return signal !== undefined && marked.has(signal);
}

/** Leaves the console's own calls out. */
export const WITHOUT_POLLING: Condition = { name: 'agent', not: true, value: BACKGROUND };

/** Whether a page that has a filter leaves them out by itself: its address does not ask for them, and its filter names no agent and no call. */
export function hidesPolling(query: URLSearchParams, conditions: Condition[]): boolean {
  return !query.has('polling') && !conditions.some((t) => t.name === 'agent' || (!t.not && ['id', 'request_id', 'trace_id'].includes(t.name)));
}
