import { useEffect, useRef, useState } from 'preact/hooks';
import { consoleConfig, signIn, useToken } from '../lib/session';
import { Field } from '../ui/fields';
import * as icons from '../ui/icons';
import { OutageNotice } from '../ui/outage';

/** The way in. */
export function SignIn({ reason, over, pasted }: { reason: string; over: boolean; pasted: boolean }) {
  if (!over) {
    return (
      <main class="sign-in">
        <SignInCard reason={reason} pasted={pasted} />
      </main>
    );
  }
  return <SignInOver reason={reason} pasted={pasted} />;
}

/** Over a page that was in use, its dialogs included, it covers it and gives it back unchanged. */
function SignInOver({ reason, pasted }: { reason: string; pasted: boolean }) {
  const element = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const dialog = element.current!;
    dialog.showModal();
    return () => dialog.close();
  }, []);
  return (
    <dialog ref={element} class="sign-in over" aria-label="Sign in" onCancel={(event) => event.preventDefault()}>
      <SignInCard reason={reason} pasted={pasted} />
    </dialog>
  );
}

function SignInCard({ reason, pasted }: { reason: string; pasted: boolean }) {
  const config = consoleConfig();
  const [token, setToken] = useState('');
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState('');
  const first = config.auth === 'clerk' ? config.clerk_publishable_key !== null : config.local_sign_in_url !== null;
  const possible = first || config.issuers.length > 0;
  return (
    <div class="sign-in-card">
      <p class="brand">
        <icons.Eye /> ARGUS
      </p>
      <h1>Operations console</h1>
      <OutageNotice />
      {reason && (
        <p class="sign-in-reason" role="alert">
          {reason}
        </p>
      )}
      {first && (
        <button type="button" class="button primary wide" autofocus={!pasted} onClick={() => void signIn()}>
          {config.auth === 'clerk' ? 'Sign in' : 'Sign in at the local issuer'}
        </button>
      )}
      {config.issuers.map((issuer, n) => (
        <button
          key={issuer.name}
          type="button"
          class={first || n > 0 ? 'button wide' : 'button primary wide'}
          autofocus={!first && n === 0 && !pasted}
          disabled={issuer.authorization_endpoint === null}
          title={issuer.authorization_endpoint === null ? 'The server has not reached it. Reload the page later.' : issuer.issuer}
          onClick={() => void signIn(issuer)}
        >
          Sign in at {issuer.name}
        </button>
      ))}
      <details class="paste" open={!possible || pasted || undefined}>
        <summary>Use a token</summary>
        <form
          onSubmit={(event) => {
            event.preventDefault();
            setBusy(true);
            setProblem('');
            void useToken(token).then((wrong) => {
              setBusy(false);
              if (wrong) setProblem(wrong.replace(/^401: t/, 'T'));
              else setToken('');
            });
          }}
        >
          <Field label="Personal access token or break-glass token" hint="It stays in this tab’s memory and is gone when the tab is closed or reloaded.">
            {(id, hint) => (
              <input
                id={id}
                class="mono"
                type="password"
                aria-describedby={hint}
                autocomplete="off"
                spellcheck={false}
                placeholder="argus_pat_…"
                value={token}
                onInput={(e) => setToken(e.currentTarget.value)}
              />
            )}
          </Field>
          {problem && (
            <p class="form-error" role="alert">
              {problem}
            </p>
          )}
          <button type="submit" class="button wide" disabled={busy || token.trim() === ''}>
            {busy ? 'Checking…' : 'Use this token'}
          </button>
        </form>
      </details>
      <p class="faint small">{config.version}</p>
    </div>
  );
}
