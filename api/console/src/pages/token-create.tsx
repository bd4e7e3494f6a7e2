import { useState } from 'preact/hooks';
import { useChange } from '../lib/change';
import { given as textGiven } from '../lib/text';
import { parseDuration } from '../lib/time';
import { forAgents, type Operator, PRESETS, SCOPES, type Token } from '../lib/types';
import { copyText, When } from '../ui/bits';
import { Dialog } from '../ui/dialog';
import { Field } from '../ui/fields';
import * as icons from '../ui/icons';
import { Form, SubmitRow } from './tenant-actions';

const EXPIRY: [string, string][] = [
  ['7d', '7 days'],
  ['30d', '30 days'],
  ['90d', '90 days'],
  ['180d', '180 days'],
  ['365d', '365 days'],
];

export function CreateDialog({
  me,
  query,
  onClose,
  onDone,
}: {
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
  // A token lives no longer than the one it is made with; a sign-in ends no token.
  const fits = (lifetime: string) => !me.pat_id || !me.expires_at || Date.now() + parseDuration(lifetime)! < Date.parse(me.expires_at);
  const [expires, setExpires] = useState(query.get('expires_in') ?? ['90d', '30d', '7d'].find(fits) ?? '1d');
  const [agent, setAgent] = useState(query.get('agent') ?? '');
  const [actions, setActions] = useState(false);
  const program = agent.trim() !== '';
  const allowed = (list: string[]) => (program ? forAgents(list, actions) : list);
  const chosen = allowed(preset ? PRESETS[preset]! : scopes);
  const beyond = chosen.filter((s) => !me.scopes.includes(s));
  const nameError = program && name.trim() === '' ? null : textGiven('name', name, 1, 100).error;
  const agentError = program ? textGiven('agent', agent, 1, 100).error : null;
  const ready = nameError === null && agentError === null && chosen.length > 0 && beyond.length === 0;
  const open = (scope: string) => me.scopes.includes(scope) && allowed([scope]).length > 0;
  const fitting = EXPIRY.filter(([v]) => fits(v));
  const choices = fitting.some(([v]) => v === expires) ? fitting : [...fitting, [expires, expires] as [string, string]];
  return (
    <Dialog title="New token" onClose={onClose} wide>
      <Form
        onSubmit={async () => {
          if (!ready) return;
          const made = await changer.run<{ token: Token; secret: string }>('/v1/tokens', {
            ...(name.trim() !== '' && { name: name.trim() }),
            ...(preset ? { preset } : { scopes: chosen }),
            ...(program && { agent: agent.trim(), agent_actions: actions }),
            expires_in: expires,
          });
          if (made) onDone(made);
        }}
      >
        <Field label="Name" hint={(name.trim() !== '' && nameError) || 'What you will use it for.'}>
          {(id, hint) => (
            <input
              id={id}
              aria-describedby={hint}
              autofocus
              required={!program}
              autocomplete="off"
              value={name}
              onInput={(e) => setName(e.currentTarget.value)}
            />
          )}
        </Field>
        <Field label="Agent" hint={agentError || 'A program that acts for you, such as claude-code. Its calls carry this name, and it only reads.'}>
          {(id, hint) => (
            <input
              id={id}
              aria-describedby={hint}
              autocomplete="off"
              placeholder="None: it is for you"
              value={agent}
              onInput={(e) => setAgent(e.currentTarget.value)}
            />
          )}
        </Field>
        {program && (
          <label class="check">
            <input type="checkbox" checked={actions} onChange={(e) => setActions(e.currentTarget.checked)} /> It may also act
          </label>
        )}
        <fieldset class="choice-list">
          <legend>May do</legend>
          {Object.keys(PRESETS).map((p) => (
            <label key={p} class="radio">
              <input type="radio" name="preset" checked={preset === p} onChange={() => setPreset(p)} />
              <span>
                <b class="mono">{p}</b>
                <span class="sub-line">
                  {p === 'admin-full' ? (program ? 'Everything that an agent may' : 'Everything') : 'Read the log, tenants and workers; change nothing'}
                </span>
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
                <label key={scope} class={`check ${open(scope) ? '' : 'off'}`}>
                  <input
                    type="checkbox"
                    disabled={!open(scope)}
                    checked={chosen.includes(scope)}
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

/** The secret, which is shown this once. */
export function SecretDialog({ made, onClose }: { made: { token: Token; secret: string }; onClose: () => void }) {
  const [copied, setCopied] = useState(false);
  return (
    <Dialog title={`Token “${made.token.name}”`} onClose={onClose}>
      <p>
        <b>Copy it now:</b> it is not shown again. It expires <When time={made.token.expires_at} />.
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
