import { activeTenant, setActiveTenant } from '../lib/active-tenant';
import { usePoll } from '../lib/poll';
import { consoleConfig, currentCredential, signOut } from '../lib/session';
import { useStore } from '../lib/store';
import { fetchTenants } from '../lib/tenants';
import { setTheme, type Theme, useTheme } from '../lib/theme';
import { type Operator, SCOPES } from '../lib/types';
import { Copyable, KIND_LABEL } from '../ui/bits';

export function ProfilePage({ me }: { me: Operator }) {
  const credential = currentCredential();
  const organization = credential?.organization?.() ?? null;
  const theme = useTheme();
  const tenant = useStore(activeTenant);
  const tenants = usePoll(me.scopes.includes('tenants:read') ? 'tenants' : null, fetchTenants, 60_000);
  const signedInBy = {
    token: 'kept in this tab’s memory',
    clerk: 'of Clerk',
    local: 'of the local issuer',
    oidc: `of ${credential?.issuer}`,
  }[credential?.kind ?? 'token'];
  return (
    <div class="page narrow">
      <header class="page-head">
        <h1>Profile</h1>
        <div class="page-tools">
          <button type="button" class="button" onClick={() => void signOut()}>
            Sign out
          </button>
        </div>
      </header>
      <section class="facts-section card">
        <h2 class="facts-head">Who</h2>
        <dl>
          <div class="fact">
            <dt>Name</dt>
            <dd>{me.name ?? '–'}</dd>
          </div>
          <div class="fact">
            <dt>E-mail</dt>
            <dd>{me.email ?? '–'}</dd>
          </div>
          <div class="fact">
            <dt>{me.actor_id.includes(':') ? 'Person' : 'Clerk user'}</dt>
            <dd>
              <Copyable text={me.actor_id} what="the user’s id" />
            </dd>
          </div>
          {organization && (
            <div class="fact">
              <dt>Organization</dt>
              <dd>{organization.name}</dd>
            </div>
          )}
          {organization?.role && (
            <div class="fact">
              <dt>Role</dt>
              <dd>{organization.role}</dd>
            </div>
          )}
          {me.impersonator_id && (
            <div class="fact">
              <dt>Impersonated by</dt>
              <dd class="mono">{me.impersonator_id}</dd>
            </div>
          )}
        </dl>
      </section>
      <section class="facts-section card">
        <h2 class="facts-head">Credential</h2>
        <dl>
          <div class="fact">
            <dt>Kind</dt>
            <dd>
              {KIND_LABEL[me.actor_kind] ?? me.actor_kind}, {signedInBy}
            </dd>
          </div>
          {me.pat_id && (
            <div class="fact">
              <dt>Token</dt>
              <dd>
                <Copyable text={me.pat_id} what="the token’s id" />
              </dd>
            </div>
          )}
          <div class="fact">
            <dt>Preset</dt>
            <dd>{me.preset ?? 'none: chosen scopes'}</dd>
          </div>
          <div class="fact">
            <dt>Scopes</dt>
            <dd>
              <ul class="scope-table">
                {SCOPES.map(([scope, what]) => (
                  <li key={scope} class={me.scopes.includes(scope) ? '' : 'off'}>
                    <code>{scope}</code> <span class="muted">{me.scopes.includes(scope) ? what : 'not yours'}</span>
                  </li>
                ))}
              </ul>
            </dd>
          </div>
        </dl>
      </section>
      <section class="facts-section card">
        <h2 class="facts-head">Console</h2>
        <dl>
          <div class="fact">
            <dt>
              <label for="active-tenant">Active tenant</label>
            </dt>
            <dd>
              {tenants.data ? (
                <select id="active-tenant" value={tenant ?? ''} onChange={(e) => setActiveTenant(e.currentTarget.value || null)}>
                  <option value="">none</option>
                  {tenants.data.tenants.map((t) => (
                    <option key={t.id} value={t.id}>
                      {t.id}
                    </option>
                  ))}
                </select>
              ) : (
                (tenant ?? 'none')
              )}
            </dd>
          </div>
          <div class="fact">
            <dt>
              <label for="theme">Colours</label>
            </dt>
            <dd>
              <select id="theme" value={theme} onChange={(e) => setTheme(e.currentTarget.value as Theme)}>
                <option value="system">as the system</option>
                <option value="light">light</option>
                <option value="dark">dark</option>
              </select>
            </dd>
          </div>
          <div class="fact">
            <dt>Backend</dt>
            <dd>
              <Copyable text={location.origin} what="the address" />
            </dd>
          </div>
          <div class="fact">
            <dt>Version</dt>
            <dd>
              {consoleConfig().version} ·{' '}
              <a href="/assets/licenses.md" target="_blank" rel="noopener">
                licences
              </a>
            </dd>
          </div>
        </dl>
      </section>
    </div>
  );
}
