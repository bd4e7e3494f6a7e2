import { useState } from 'preact/hooks';
import { call } from '../lib/http';
import { useKeys } from '../lib/keys';
import { learnNames, useNames } from '../lib/names';
import { usePoll } from '../lib/poll';
import { href, setQuery, usePlace } from '../lib/router';
import { now, parseTime } from '../lib/time';
import type { Operator, Token, TokenList } from '../lib/types';
import { Actor, Ago, Empty, Skeleton } from '../ui/bits';
import { Dialog } from '../ui/dialog';
import * as icons from '../ui/icons';
import { Failure, StaleNotice } from '../ui/notice';
import { TableWrap } from '../ui/table-wrap';
import { CreateDialog, SecretDialog } from './token-create';
import { FoundDialog, RevokeDialog, RevokeOwnerDialog } from './token-revoke';

const PAGE = 100;

const UNUSED: [string, string][] = [
  ['7d', '7 days'],
  ['30d', '30 days'],
  ['90d', '90 days'],
  ['180d', '180 days'],
];

/** Asks for so many pages of a list, newest first. */
async function fetchTokens(query: Record<string, string>, pages: number, signal: AbortSignal): Promise<TokenList> {
  const list: TokenList = { tokens: [], next_cursor: null, actors: {} };
  for (let page = 0; page < pages; page++) {
    const more: TokenList = await call<TokenList>('/v1/tokens', {
      signal,
      query: { ...query, limit: String(PAGE), ...(list.next_cursor ? { cursor: list.next_cursor } : {}) },
    });
    list.tokens.push(...(more.tokens ?? []));
    list.next_cursor = more.next_cursor ?? null;
    learnNames(more.actors);
    if (!list.next_cursor) break;
  }
  return list;
}

/**
 * The operator's own tokens, or with tokens:admin everybody's (owner=all) or one owner's (owner=user_…).
 * #/settings/tokens?new=1&name=ci&preset=support-readonly&expires_in=30d (or scopes=logs:read,tenants:read) opens the
 * form filled in.
 */
export function TokensPage({ me }: { me: Operator }) {
  const { query } = usePlace();
  const names = useNames();
  const admin = me.scopes.includes('tokens:admin');
  const owner = query.get('owner') ?? '';
  const unused = query.get('unused_since') ?? '';
  const ended = query.get('ended') === '1';
  const asked = { ...(owner && { owner }), ...(unused && { unused_since: unused }), ...(ended ? {} : { state: 'live' }) };
  const what = JSON.stringify(asked);
  const [more, setMore] = useState({ what, pages: 1 });
  const pages = more.what === what ? more.pages : 1;
  const polled = usePoll(`tokens ${what} ${pages}`, (signal) => fetchTokens(asked, pages, signal));
  const [secret, setSecret] = useState<{ token: Token; secret: string } | null>(null);
  const [revoking, setRevoking] = useState<Token | 'owner' | 'found' | null>(null);
  const creating = query.get('new') === '1';
  const mayCreate = me.scopes.includes('tokens:write') && me.actor_kind !== 'break_glass' && !me.impersonator_id;
  const fresh = polled.dataKey.startsWith(`tokens ${what} `);
  const tokens = (fresh && polled.data?.tokens) || [];
  const next = fresh ? (polled.data?.next_cursor ?? null) : null;
  const nameOf = new Map(tokens.map((t) => [t.id, t.name]));
  const owners = [...new Set([...tokens.map((t) => t.actor_id), ...(owner && owner !== 'all' ? [owner] : [])])].filter((id) => id !== me.actor_id);
  useKeys({ r: polled.reload });
  const close = () => setQuery({ new: null, name: null, preset: null, scopes: null, expires_in: null, agent: null }, true);
  const done = () => {
    setRevoking(null);
    polled.reload();
  };

  return (
    <div class="page">
      <header class="page-head">
        <h1>
          Tokens{' '}
          {fresh && (
            <span class="head-count">
              ({tokens.length}
              {next && '+'})
            </span>
          )}
        </h1>
        <div class="page-tools">
          {admin && (
            <select aria-label="Whose tokens" value={owner} onChange={(e) => setQuery({ owner: e.currentTarget.value || null })}>
              <option value="">Mine</option>
              <option value="all">Everybody’s</option>
              {owners.map((id) => (
                <option key={id} value={id}>
                  {names.get(id) ?? id}
                </option>
              ))}
            </select>
          )}
          <select aria-label="Last use" value={unused} onChange={(e) => setQuery({ unused_since: e.currentTarget.value || null })}>
            <option value="">Used or not</option>
            {(unused && !UNUSED.some(([v]) => v === unused) ? [...UNUSED, [unused, unused] as [string, string]] : UNUSED).map(([value, label]) => (
              <option key={value} value={value}>
                Unused for {label}
              </option>
            ))}
          </select>
          <label class="check">
            <input type="checkbox" checked={ended} onChange={(e) => setQuery({ ended: e.currentTarget.checked ? '1' : null })} /> Ended ones too
          </label>
          {admin && (
            <button type="button" class="button" onClick={() => setRevoking('found')}>
              Revoke by secret
            </button>
          )}
          {admin && owner && owner !== 'all' && tokens.some((t) => isLive(t)) && (
            <button type="button" class="button danger-text" onClick={() => setRevoking('owner')}>
              Revoke all of {names.get(owner) ?? owner}
            </button>
          )}
          {mayCreate && (
            <button type="button" class="button primary" onClick={() => setQuery({ new: '1' })}>
              <icons.Plus /> New token
            </button>
          )}
        </div>
      </header>
      <p class="hint">
        {owner ? (
          'Personal access tokens of others. A revocation is recorded under your name.'
        ) : (
          <>
            Your personal access tokens, for <code>argusctl</code> and for programs. What is done with one is recorded under your name.
          </>
        )}
      </p>
      <StaleNotice polled={polled} what="The list" />
      {polled.error && !fresh ? (
        <Failure error={polled.error} scope={owner ? 'tokens:admin' : undefined} retry={polled.reload} />
      ) : !fresh ? (
        <Skeleton rows={4} />
      ) : tokens.length === 0 ? (
        <Empty title={owner || unused ? 'No such tokens' : 'You have no tokens'}>
          {owner || unused ? 'None matches what is chosen above.' : mayCreate ? 'Create one to use argusctl.' : 'Your credential may not create one.'}
        </Empty>
      ) : (
        <TableWrap>
          <table class="list">
            <thead>
              <tr>
                <th scope="col">Token</th>
                {owner && <th scope="col">Owner</th>}
                <th scope="col">Scopes</th>
                <th scope="col" class="num">
                  Last used
                </th>
                <th scope="col" class="num">
                  Expires
                </th>
                <th scope="col" class="actions">
                  Action
                </th>
              </tr>
            </thead>
            <tbody>
              {tokens.map((t) => (
                <tr key={t.id} class={isLive(t) ? '' : 'over'}>
                  <td>
                    <span class="cell-main">{t.name}</span>
                    {t.id === me.pat_id && <span class="tag">this one</span>}
                    {t.agent && (
                      <span
                        class={`tag ${t.agent_actions ? 'tone-warn' : ''}`}
                        title={t.agent_actions ? 'An agent’s, which may act' : 'An agent’s, which only reads'}
                      >
                        agent {t.agent}
                      </span>
                    )}
                    <span class="sub-line">
                      <span class="mono">…{t.last_four}</span>
                      {t.parent_id && (
                        <>
                          {' '}
                          made with <span title={t.parent_id}>{nameOf.get(t.parent_id) ?? <span class="mono">{t.parent_id}</span>}</span>
                        </>
                      )}
                      {t.audit_id && me.scopes.includes('logs:read') && (
                        <>
                          {' · '}
                          <a href={href('/settings/audit', { id: t.audit_id, since: '365d' })} aria-label={`The call that made ${t.name}`}>
                            creation
                          </a>
                        </>
                      )}
                    </span>
                  </td>
                  {owner && (
                    <td data-label="Owner">
                      <Actor id={t.actor_id} />
                    </td>
                  )}
                  <td>{t.preset ? <span class="tag">{t.preset}</span> : <span class="scopes mono">{t.scopes.join(' ')}</span>}</td>
                  <td class="num" data-label="Used">
                    <Ago time={t.last_used_at} />
                  </td>
                  <td class="num" data-label="Expires">
                    {t.revoked_at ? (
                      <span class="tone-bad">
                        revoked <Ago time={t.revoked_at} />
                        {t.revoked_by && t.revoked_by !== t.actor_id && (
                          <span class="sub-line">
                            by <Actor id={t.revoked_by} />
                          </span>
                        )}
                        {t.revoked_with && <span class="sub-line">with {nameOf.get(t.revoked_with) ?? 'its ancestor'}</span>}
                      </span>
                    ) : (
                      <Ago time={t.expires_at} />
                    )}
                  </td>
                  <td class="actions">
                    {me.scopes.includes('logs:read') && (
                      <a class="button small" aria-label={`Its calls: ${t.name}`} href={href('/settings/audit', { pat: t.id, since: '7d' })}>
                        Its calls
                      </a>
                    )}
                    {isLive(t) && (
                      <button type="button" class="button small danger-text" aria-label={`Revoke ${t.name}`} onClick={() => setRevoking(t)}>
                        Revoke
                      </button>
                    )}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </TableWrap>
      )}
      {next && (
        <p>
          <button type="button" class="button" disabled={polled.loading} onClick={() => setMore({ what, pages: pages + 1 })}>
            Show older ones
          </button>
        </p>
      )}
      {creating && mayCreate && (
        <CreateDialog
          me={me}
          query={query}
          onClose={close}
          onDone={(made) => {
            close();
            setSecret(made);
            polled.reload();
          }}
        />
      )}
      {creating && !mayCreate && (
        <Dialog title="New token" onClose={close}>
          <p>
            {me.actor_kind === 'break_glass' ? (
              'A break-glass token cannot create tokens.'
            ) : me.impersonator_id ? (
              'An impersonated session cannot create tokens.'
            ) : (
              <>
                This needs the scope <code>tokens:write</code>, which your credential lacks.
              </>
            )}
          </p>
          <div class="dialog-actions">
            <button type="button" class="button" onClick={close}>
              Close
            </button>
          </div>
        </Dialog>
      )}
      {secret && <SecretDialog made={secret} onClose={() => setSecret(null)} />}
      {revoking === 'owner' && <RevokeOwnerDialog owner={owner} onClose={() => setRevoking(null)} onDone={done} />}
      {revoking === 'found' && <FoundDialog onClose={() => setRevoking(null)} onDone={done} />}
      {revoking && typeof revoking === 'object' && (
        <RevokeDialog
          token={revoking}
          own={revoking.id === me.pat_id}
          others={revoking.actor_id !== me.actor_id}
          onClose={() => setRevoking(null)}
          onDone={done}
        />
      )}
    </div>
  );
}

function isLive(token: Token): boolean {
  return token.revoked_at === null && (parseTime(token.expires_at) ?? 0) > now();
}
