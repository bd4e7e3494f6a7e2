// A call as text that can stand in a ticket or a report: what happened, and what proves it.

import { shown } from '../lib/text';
import { now, utcOf } from '../lib/time';
import type { CallDetail } from '../lib/types';

/** The evidence of a call. Each line names one fact; a value is escaped, so that none can pretend to be a line. */
export function evidence(call: CallDetail, permalink: string): string {
  const facts: [string, string | number | null | undefined][] = [
    ['Call', call.id],
    ['Arrived', call.occurred_at],
    ['Recorded', call.recorded_at],
    ['Actor', call.actors[call.actor_id] ? `${call.actors[call.actor_id]} (${call.actor_id})` : call.actor_id],
    ['Impersonated by', call.impersonator_id],
    ['Credential', call.actor_kind],
    ['Token', call.pat_id ?? call.break_glass_id],
    ['Break-glass reason', call.break_glass_reason],
    ['Service', call.release ? `${call.service} ${call.release}` : call.service],
    ['Route', call.route],
    ...Object.entries(call.path_params ?? {}).map(([name, value]): [string, string] => [`  :${name}`, value]),
    ['Outcome', call.status === null ? call.outcome : `${call.outcome} with ${call.status}`],
    ['Error', call.error_code],
    ['Reason', call.reason],
    ['Address', call.client_ip],
    ['User agent', call.user_agent],
    ['Body SHA-256', call.body_sha256],
    ...(call.steps ?? []).map((s): [string, string] => [
      'Step',
      [
        `${s.at} ${s.action} ${s.result}`,
        s.from_state || s.to_state ? `${s.from_state ?? '–'} → ${s.to_state ?? '–'}` : '',
        s.consent_document_id ? `consent ${s.consent_document_id}` : '',
        s.error ?? '',
      ]
        .filter(Boolean)
        .join(', '),
    ]),
    ['Writer, number', `${call.writer_id}, ${call.seq}`],
    ['Row hash', call.row_hash],
    ['Link', permalink],
    ['Copied', utcOf(now())],
  ];
  const lines = facts.filter(([, value]) => value !== null && value !== undefined && value !== '');
  return `${shown(call.sentence)}\n\n${lines.map(([name, value]) => `${shown(name)}: ${shown(String(value))}`).join('\n')}\n`;
}
