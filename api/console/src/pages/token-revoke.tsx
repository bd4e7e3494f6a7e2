import { useEffect, useState } from 'preact/hooks';
import { useChange } from '../lib/change';
import { plural } from '../lib/format';
import { type ApiError, asApiError, call, isAbort } from '../lib/http';
import type { Token, TokenList } from '../lib/types';
import { Actor, Spinner } from '../ui/bits';
import { Dialog } from '../ui/dialog';
import { Field } from '../ui/fields';
import { FormError } from '../ui/notice';
import { toast } from '../ui/toast';
import { Form, SubmitRow } from './tenant-actions';

interface Revoked {
  token: Token | null;
  revoked: Token[];
}

/** Tokens that are about to end. */
function TokenNames({ tokens }: { tokens: Token[] }) {
  return (
    <ul class="token-names">
      {tokens.map((t) => (
        <li key={t.id}>
          <b>{t.name}</b> <span class="mono muted">…{t.last_four}</span>
        </li>
      ))}
    </ul>
  );
}

/** Asks once, when the dialog opens. */
function useOnce<T>(path: string, query: Record<string, string>): { answer: T | null; error: ApiError | null } {
  const [state, setState] = useState<{ answer: T | null; error: ApiError | null }>({ answer: null, error: null });
  useEffect(() => {
    const control = new AbortController();
    call<T>(path, { signal: control.signal, query }).then(
      (answer) => setState({ answer, error: null }),
      (cause) => isAbort(cause) || setState({ answer: null, error: asApiError(cause) }),
    );
    return () => control.abort();
  }, [path]);
  return state;
}

/** Revokes a token, and shows before what ends with it. */
export function RevokeDialog({
  token,
  own,
  others,
  onClose,
  onDone,
}: {
  token: Token;
  own: boolean;
  others: boolean;
  onClose: () => void;
  onDone: () => void;
}) {
  const changer = useChange();
  const path = `/v1/tokens/${encodeURIComponent(token.id)}`;
  const { answer, error } = useOnce<Token & { descendants: Token[] }>(path, {});
  const below = answer?.descendants ?? [];
  return (
    <Dialog title="Revoke a token" onClose={onClose}>
      <Form
        onSubmit={async () => {
          const revoked = await changer.run<Token>(path, undefined, 'DELETE');
          if (!revoked) return;
          toast(`“${token.name}” is revoked.`, changer.auditId());
          onDone();
        }}
      >
        <p>
          <b>{token.name}</b> <span class="mono muted">…{token.last_four}</span>
          {others && (
            <>
              {' '}
              of <Actor id={token.actor_id} />
            </>
          )}{' '}
          stops working at once, everywhere. This cannot be undone.
        </p>
        {own && <p class="form-error">You are signed in with this token.</p>}
        {!answer && !error && (
          <p class="muted">
            <Spinner label="Looking for what it made" /> Looking for what was made with it
          </p>
        )}
        {below.length > 0 && (
          <div>
            <p>It also ends {plural(below.length, 'token')} made with it:</p>
            <TokenNames tokens={below} />
          </div>
        )}
        {error && <FormError error={error} />}
        <SubmitRow
          changer={changer}
          ready={answer !== null || error !== null}
          label={below.length > 0 ? `Revoke all ${below.length + 1}` : 'Revoke'}
          danger
          onClose={onClose}
        />
      </Form>
    </Dialog>
  );
}

/** Revokes all tokens of one owner. */
export function RevokeOwnerDialog({ owner, onClose, onDone }: { owner: string; onClose: () => void; onDone: () => void }) {
  const changer = useChange();
  const { answer, error } = useOnce<TokenList>('/v1/tokens', { owner, state: 'live', limit: '1000' });
  const tokens = answer?.tokens ?? [];
  return (
    <Dialog title="Revoke all tokens of an operator" onClose={onClose}>
      <Form
        onSubmit={async () => {
          const done = await changer.run<Revoked>('/v1/tokens/revoke', { owner });
          if (!done) return;
          toast(`${plural(done.revoked.length, 'token')} revoked.`, changer.auditId());
          onDone();
        }}
      >
        <p>
          All tokens of <Actor id={owner} /> stop working at once, everywhere. This cannot be undone.
        </p>
        {!answer && !error && <Spinner label="Looking for the tokens" />}
        {answer && <TokenNames tokens={tokens} />}
        {error && <FormError error={error} />}
        <p class="hint">A person who can still sign in can make new tokens. To keep them out, end their access in Clerk first.</p>
        <SubmitRow changer={changer} ready={answer !== null} label={`Revoke ${plural(tokens.length, 'token')}`} danger onClose={onClose} />
      </Form>
    </Dialog>
  );
}

/** Revokes the token that a found secret belongs to. */
export function FoundDialog({ onClose, onDone }: { onClose: () => void; onDone: () => void }) {
  const changer = useChange();
  const [secret, setSecret] = useState('');
  const whole = /^argus_(pat|bg)_[0-9A-Za-z]{49}$/.test(secret.trim());
  return (
    <Dialog title="Revoke by secret" onClose={onClose}>
      <Form
        onSubmit={async () => {
          if (!whole) return;
          const done = await changer.run<Revoked>('/v1/tokens/revoke', { secret: secret.trim() });
          if (!done?.token) return;
          toast(
            done.revoked.length > 0 ? `“${done.token.name}” of ${done.token.actor_id} is revoked.` : `“${done.token.name}” had ended before.`,
            changer.auditId(),
          );
          onDone();
        }}
      >
        <p>Revokes the token with this secret at once, and all tokens made with it. Break-glass tokens too.</p>
        <Field label="Secret" hint="It is sent once, in the request’s body, and kept nowhere.">
          {(id, hint) => (
            <input
              id={id}
              aria-describedby={hint}
              class="mono"
              type="password"
              autofocus
              required
              autocomplete="off"
              spellcheck={false}
              value={secret}
              onInput={(e) => setSecret(e.currentTarget.value)}
            />
          )}
        </Field>
        {secret.trim() !== '' && !whole && <p class="form-error">A secret begins with argus_pat_ or argus_bg_ and has 49 characters behind that.</p>}
        <SubmitRow changer={changer} ready={whole} label="Revoke" danger onClose={onClose} />
      </Form>
    </Dialog>
  );
}
