import { useState } from 'preact/hooks';
import { useChange } from '../lib/change';
import { call } from '../lib/http';
import { usePoll } from '../lib/poll';
import { href, setQuery, usePlace } from '../lib/router';
import { now, parseTime } from '../lib/time';
import { useKeys } from '../lib/keys';
import { PRESETS, SCOPES, type Operator, type Token } from '../lib/types';
import { Ago, copyText, Empty, Skeleton, When } from '../ui/bits';
import { Dialog } from '../ui/dialog';
import { Field } from '../ui/fields';
import { Failure, StaleNotice } from '../ui/notice';
import { toast } from '../ui/toast';
import { Form, SubmitRow } from './tenant-actions';
import * as icons from '../ui/icons';
import { given as textGiven } from '../lib/text';

const EXPIRY: [string, string][] = [
  ['7d', '7 days'],
  ['30d', '30 days'],
  ['90d', '90 days'],
  ['180d', '180 days'],
  ['365d', '365 days'],
];

/**
 * The operator's own tokens. #/settings/tokens?new=1&name=ci&preset=support-readonly&expires_in=30d (or
 * scopes=logs:read,tenants:read) opens the form filled in.
 */
export function TokensPage({ me }: { me: Operator }) {
  const { query } = usePlace();
  const polled = usePoll('tokens', async (signal) => (await call<{ tokens: Token[] }>('/v1/tokens', { signal })).tokens ?? []);
  const [secret, setSecret] = useState<{ token: Token; secret: string } | null>(null);
  const [revoking, setRevoking] = useState<Token | null>(null);
  const [ended, setEnded] = useState(false);
  const creating = query.get('new') === '1';
  const mayCreate = me.scopes.includes('tokens:write') && me.actor_kind !== 'break_glass' && !me.impersonator_id;
  const tokens = polled.data ?? [];
  const live = tokens.filter((t) => isLive(t));
  const shown = ended ? tokens : live;
  useKeys({ r: polled.reload });
  const close = () => setQuery({ new: null, name: null, preset: null, scopes: null, expires_in: null }, true);

  return (
    <div class="page">
      <header class="page-head">
        <h1>
          Tokens {polled.data && <span class="head-count">({live.length})</span>}
        </h1>
        <div class="page-tools">
          {tokens.length > live.length && (
            <label class="check">
              <input type="checkbox" checked={ended} onChange={(e) => setEnded(e.currentTarget.checked)} /> Ended ones too
            </label>
          )}
          {mayCreate && (
            <button type="button" class="button primary" onClick={() => setQuery({ new: '1' })}>
              <icons.Plus /> New token
            </button>
          )}
        </div>
      </header>
      <p class="hint">
        Your personal access tokens, for <code>argusctl</code> and for programs. What is done with one is recorded under your name.
      </p>
      <StaleNotice polled={polled} what="The list" />
      {polled.error && !polled.data ? (
        <Failure error={polled.error} retry={polled.reload} />
      ) : !polled.data ? (
        <Skeleton rows={4} />
      ) : shown.length === 0 ? (
        <Empty title="You have no tokens">{mayCreate ? 'Create one to use argusctl.' : 'Your credential may not create one.'}</Empty>
      ) : (
        <div class="table-wrap">
          <table class="list">
            <thead>
              <tr>
                <th scope="col">Token</th>
                <th scope="col">Scopes</th>
                <th scope="col" class="num">Last used</th>
                <th scope="col" class="num">Expires</th>
                <th scope="col" class="actions">Action</th>
              </tr>
            </thead>
            <tbody>
              {shown.map((t) => (
                <tr key={t.id} class={isLive(t) ? '' : 'over'}>
                  <td>
                    <span class="cell-main">{t.name}</span>
                    {t.id === me.pat_id && <span class="tag">this one</span>}
                    <span class="sub-line mono">…{t.last_four}</span>
                  </td>
                  <td>
                    {t.preset ? <span class="tag">{t.preset}</span> : <span class="scopes mono">{t.scopes.join(' ')}</span>}
                  </td>
                  <td class="num" data-label="Used">
                    <Ago time={t.last_used_at} />
                  </td>
                  <td class="num" data-label="Expires">{t.revoked_at ? <span class="tone-bad">revoked <Ago time={t.revoked_at} /></span> : <Ago time={t.expires_at} />}</td>
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
        </div>
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
            {me.actor_kind === 'break_glass'
              ? 'A break-glass token cannot create tokens.'
              : me.impersonator_id
                ? 'An impersonated session cannot create tokens.'
                : <>This needs the scope <code>tokens:write</code>, which your credential lacks.</>}
          </p>
          <div class="dialog-actions">
            <button type="button" class="button" onClick={close}>
              Close
            </button>
          </div>
        </Dialog>
      )}
      {secret && <SecretDialog made={secret} onClose={() => setSecret(null)} />}
      {revoking && (
        <RevokeDialog
          token={revoking}
          own={revoking.id === me.pat_id}
          onClose={() => setRevoking(null)}
          onDone={() => {
            setRevoking(null);
            polled.reload();
          }}
        />
      )}
    </div>
  );
}

function isLive(token: Token): boolean {
  return token.revoked_at === null && (parseTime(token.expires_at) ?? 0) > now();
}

function CreateDialog({ me, query, onClose, onDone }: {
  me: Operator;
  query: URLSearchParams;
  onClose: () => void;
  onDone: (made: { token: Token; secret: string }) => void;
}) {
  const changer = useChange();
  const asked = (query.get('scopes') ?? '').split(',').filter((s) => SCOPES.some(([name]) => name === s));
  const given = query.get('preset') ?? '';
  const [name, setName] = useState(query.get('name') ?? '');
  const [preset, setPreset] = useState(asked.length > 0 ? '' : given in PRESETS ? given : 'support-readonly');
  const [scopes, setScopes] = useState<string[]>(asked);
  const [expires, setExpires] = useState(query.get('expires_in') ?? '90d');
  const chosen = preset ? PRESETS[preset]! : scopes;
  const beyond = chosen.filter((s) => !me.scopes.includes(s));
  const nameError = textGiven('name', name, 1, 100).error;
  const ready = nameError === null && chosen.length > 0 && beyond.length === 0;
  const choices = EXPIRY.some(([v]) => v === expires) ? EXPIRY : [...EXPIRY, [expires, expires] as [string, string]];
  return (
    <Dialog title="New token" onClose={onClose} wide>
      <Form
        onSubmit={async () => {
          if (!ready) return;
          const made = await changer.run<{ token: Token; secret: string }>('/v1/tokens', {
            name: name.trim(),
            ...(preset ? { preset } : { scopes }),
            expires_in: expires,
          });
          if (made) onDone(made);
        }}
      >
        <Field label="Name" hint={(name.trim() !== '' && nameError) || 'What it is for, so that you recognize it later.'}>
          {(id, hint) => <input id={id} aria-describedby={hint} autofocus required autocomplete="off" value={name} onInput={(e) => setName(e.currentTarget.value)} />}
        </Field>
        <fieldset class="choice-list">
          <legend>May do</legend>
          {Object.keys(PRESETS).map((p) => (
            <label key={p} class="radio">
              <input type="radio" name="preset" checked={preset === p} onChange={() => setPreset(p)} />
              <span>
                <b class="mono">{p}</b>
                <span class="sub-line">{p === 'admin-full' ? 'Everything' : 'Read the log, tenants and pods; change nothing'}</span>
              </span>
            </label>
          ))}
          <label class="radio">
            <input
              type="radio"
              name="preset"
              checked={preset === ''}
              onChange={() => {
                if (scopes.length === 0) setScopes(chosen.filter((s) => me.scopes.includes(s)));
                setPreset('');
              }}
            />
            <span>
              <b>Chosen scopes</b>
            </span>
          </label>
          {preset === '' && (
            <div class="scope-list">
              {SCOPES.map(([scope, what]) => (
                <label key={scope} class={`check ${me.scopes.includes(scope) ? '' : 'off'}`}>
                  <input
                    type="checkbox"
                    disabled={!me.scopes.includes(scope)}
                    checked={scopes.includes(scope)}
                    onChange={(e) => setScopes(e.currentTarget.checked ? [...scopes, scope] : scopes.filter((s) => s !== scope))}
                  />
                  <span>
                    <span class="mono">{scope}</span> <span class="muted">{what}</span>
                  </span>
                </label>
              ))}
            </div>
          )}
        </fieldset>
        {beyond.length > 0 && (
          <p class="form-error">
            A token may do no more than you: you lack <code>{beyond.join(', ')}</code>.
          </p>
        )}
        <Field label="Expires after">
          {(id) => (
            <select id={id} value={expires} onChange={(e) => setExpires(e.currentTarget.value)}>
              {choices.map(([value, label]) => (
                <option key={value} value={value}>
                  {label}
                </option>
              ))}
            </select>
          )}
        </Field>
        <SubmitRow changer={changer} ready={ready} label="Create" onClose={onClose} />
      </Form>
    </Dialog>
  );
}

function SecretDialog({ made, onClose }: { made: { token: Token; secret: string }; onClose: () => void }) {
  const [copied, setCopied] = useState(false);
  return (
    <Dialog title={`Token “${made.token.name}”`} onClose={onClose}>
      <p>
        <b>Copy it now:</b> it is shown this once and cannot be had again. It expires <When time={made.token.expires_at} />.
      </p>
      <output class="secret mono">{made.secret}</output>
      <div class="dialog-actions">
        <button
          type="button"
          class="button primary"
          autofocus
          onClick={() => {
            void copyText(made.secret, 'the token').then(() => setCopied(true));
          }}
        >
          {copied ? <icons.Check /> : <icons.Copy />} {copied ? 'Copied' : 'Copy'}
        </button>
        <button type="button" class="button" onClick={onClose}>
          Done
        </button>
      </div>
    </Dialog>
  );
}

function RevokeDialog({ token, own, onClose, onDone }: { token: Token; own: boolean; onClose: () => void; onDone: () => void }) {
  const changer = useChange();
  return (
    <Dialog title="Revoke a token" onClose={onClose}>
      <Form
        onSubmit={async () => {
          const revoked = await changer.run<Token>(`/v1/tokens/${encodeURIComponent(token.id)}`, undefined, 'DELETE');
          if (!revoked) return;
          toast(`“${token.name}” is revoked.`);
          onDone();
        }}
      >
        <p>
          <b>{token.name}</b> <span class="mono muted">…{token.last_four}</span> stops working at once, everywhere. This cannot be undone.
        </p>
        {own && <p class="form-error">It is the token you are signed in with here.</p>}
        <SubmitRow changer={changer} ready label="Revoke" danger onClose={onClose} />
      </Form>
    </Dialog>
  );
}
