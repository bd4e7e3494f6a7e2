import type { ComponentChildren, RefObject } from 'preact';
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import type { Problem } from './lib/filter';
import { plural } from './lib/format';
import { useKeys } from './lib/keys';
import {
  ACCESS_LINK,
  AUDIT_LINK,
  COMPUTE_LINK,
  type Link,
  linkProblems,
  NO_LINK,
  PERFORMANCE_LINK,
  ROUTE_LINK,
  SERVICES_LINK,
  SINKS_LINK,
  TENANTS_LINK,
  TOKENS_LINK,
} from './lib/link';
import { learnNames } from './lib/names';
import { cut } from './lib/quote';
import { go, href, usePlace } from './lib/router';
import { session } from './lib/session';
import { useStore } from './lib/store';
import { setTheme, useTheme } from './lib/theme';
import { now, setZone, zone, zoneName } from './lib/time';
import type { Operator } from './lib/types';
import { AuditPage } from './pages/audit';
import { ComputePage } from './pages/compute';
import { HealthPage } from './pages/health';
import { ProfilePage } from './pages/profile';
import { ServicesPage } from './pages/services';
import { SignIn } from './pages/sign-in';
import { SupportPage } from './pages/support';
import { TenantsPage } from './pages/tenants';
import { TokensPage } from './pages/tokens';
import { Spinner } from './ui/bits';
import { Boundary } from './ui/boundary';
import { Dialog } from './ui/dialog';
import * as icons from './ui/icons';
import { later } from './ui/later';
import { Notice } from './ui/notice';
import { OutageNotice } from './ui/outage';
import { Toasts } from './ui/toast';

interface Page {
  path: string;
  label: string;
  group: string;
  /** the scope without which the page has nothing to show; '' needs none */
  scope: string;
  icon: () => ComponentChildren;
  /** what its address may hold */
  link: Link;
  view: (props: { me: Operator; scroller: RefObject<HTMLElement | null> }) => ComponentChildren;
  /** pages that belong to this one have no place of their own in the rail */
  under?: string;
  key?: string;
}

const PAGES: Page[] = [
  { path: '/tenants', label: 'Tenants', group: 'Monitor', scope: 'tenants:read', icon: icons.Tenants, link: TENANTS_LINK, view: TenantsPage, key: 't' },
  { path: '/services', label: 'Services', group: 'Monitor', scope: '', icon: icons.Door, link: SERVICES_LINK, view: ServicesPage, key: 'v' },
  {
    path: '/performance',
    label: 'Performance',
    group: 'Monitor',
    scope: 'logs:read',
    icon: icons.Gauge,
    link: PERFORMANCE_LINK,
    view: later(() => import('./pages/performance').then((m) => m.PerformancePage)),
    key: 'p',
  },
  {
    path: '/performance/route',
    label: 'Performance',
    group: 'Monitor',
    scope: 'logs:read',
    icon: icons.Gauge,
    link: ROUTE_LINK,
    view: later(() => import('./pages/route').then((m) => m.RoutePage)),
    under: '/performance',
  },
  { path: '/compute', label: 'Compute', group: 'Compute', scope: 'compute:read', icon: icons.Server, link: COMPUTE_LINK, view: ComputePage, key: 'c' },
  { path: '/support', label: 'Live sessions', group: 'Remote support', scope: 'tenants:read', icon: icons.Headset, link: NO_LINK, view: SupportPage, key: 's' },
  { path: '/health', label: 'Health', group: 'Data & admin', scope: '', icon: icons.Heart, link: NO_LINK, view: HealthPage, key: 'h' },
  {
    path: '/sinks',
    label: 'Sinks',
    group: 'Data & admin',
    scope: 'logs:read',
    icon: icons.Out,
    link: SINKS_LINK,
    view: later(() => import('./pages/sinks').then((m) => m.SinksPage)),
    key: 'o',
  },
  { path: '/settings/audit', label: 'Audit log', group: 'Settings', scope: 'logs:read', icon: icons.Log, link: AUDIT_LINK, view: AuditPage, key: 'a' },
  { path: '/settings/tokens', label: 'Tokens', group: 'Settings', scope: '', icon: icons.Key, link: TOKENS_LINK, view: TokensPage, key: 'k' },
  {
    path: '/settings/access',
    label: 'Access review',
    group: 'Settings',
    scope: 'tokens:admin',
    icon: icons.Check,
    link: ACCESS_LINK,
    view: later(() => import('./pages/access').then((m) => m.AccessPage)),
    key: 'r',
  },
  { path: '/profile', label: 'Profile', group: 'Settings', scope: '', icon: icons.Person, link: NO_LINK, view: ProfilePage },
];

const GROUPS = ['Monitor', 'Compute', 'Remote support', 'Data & admin', 'Settings'];

export function App() {
  const state = useStore(session);
  // After a session ended, the page behind keeps what it shows, so that nothing is lost by signing in again.
  const last = useRef<Operator | undefined>(undefined);
  if (state.step === 'signed-in') last.current = state.me;
  if (state.step === 'signed-out' && !state.again) last.current = undefined;
  const me = last.current;
  useEffect(() => {
    if (me) learnNames({ [me.actor_id]: me.name });
  }, [me]);

  if (state.step === 'starting') return <Waiting text="Starting" />;
  if (state.step === 'failed') return <Waiting text={`${state.reason} Trying again…`} failed />;
  return (
    <>
      {me && <Shell me={me} />}
      {state.step === 'signed-out' && <SignIn reason={state.reason} over={me !== undefined} pasted={state.pasted === true} />}
      <Toasts />
    </>
  );
}

function Waiting({ text, failed }: { text: string; failed?: boolean }) {
  return (
    <main class="centred">
      <icons.Eye />
      <p class={failed ? '' : 'muted'} role={failed ? 'alert' : 'status'}>
        {text}
      </p>
      {failed ? <OutageNotice /> : <Spinner label="Starting" />}
    </main>
  );
}

function Shell({ me }: { me: Operator }) {
  const place = usePlace();
  const main = useRef<HTMLElement | null>(null);
  const [open, setOpen] = useState(false);
  const [help, setHelp] = useState(false);
  const [byKey, setByKey] = useState(false);
  const shownIn = useStore(zone); // another zone draws the page anew

  const visible = PAGES.filter((p) => p.scope === '' || me.scopes.includes(p.scope));
  const home = (visible.find((p) => !p.under) ?? PAGES[0]!).path;
  const empty = place.path === '/' || place.path === '';
  const page = PAGES.find((p) => p.path === place.path);
  const problems = useMemo(() => (page ? linkProblems(place.raw, page.link, now()) : []), [page, place.raw]);

  useEffect(() => {
    if (empty) go(href(home), true);
  }, [empty, home]);

  const toSearch = useRef(false); // the next page is opened for its search
  const before = useRef(place.path);
  useEffect(() => {
    document.title = page ? `${page.label} · ARGUS` : 'ARGUS';
    setOpen(false);
    if (before.current === place.path) return;
    before.current = place.path;
    main.current?.scrollTo(0, 0);
    const search = toSearch.current ? document.getElementById('search') : null;
    toSearch.current = false;
    (search ?? main.current)?.focus({ preventScroll: true });
  }, [place.path]);

  useKeys({
    '?': () => setHelp(true),
    'mod+k': () => {
      if (!me.scopes.includes('logs:read')) return false;
      toSearch.current = true;
      go(href('/settings/audit'));
      return undefined;
    },
    Escape: () => (open ? setOpen(false) : false),
    ...Object.fromEntries(visible.filter((p) => p.key).map((p) => [`g ${p.key}`, () => go(href(p.path))])),
  });

  return (
    <div class={`shell ${open ? 'rail-open' : ''}`}>
      <header class="shell-head">
        <a
          class="skip"
          href={location.hash}
          onClick={(e) => {
            e.preventDefault();
            main.current?.focus();
            setByKey(true);
          }}
        >
          Skip to the page
        </a>
        <div class="topbar">
          <button type="button" class="icon-button" aria-label="Menu" aria-expanded={open} onClick={() => setOpen(!open)}>
            <icons.Menu />
          </button>
          <a class="brand" href={href(home)}>
            <icons.Eye /> ARGUS
          </a>
        </div>
      </header>
      <div class="rail-shade" onClick={() => setOpen(false)} />
      <nav class="rail" aria-label="Pages">
        <a class="brand" href={href(home)}>
          <icons.Eye /> ARGUS
        </a>
        <div class="rail-groups">
          {GROUPS.map((group) => {
            const items = visible.filter((p) => p.group === group && !p.under);
            if (items.length === 0) return null;
            return (
              <section key={group} aria-label={group}>
                <h2>{group}</h2>
                {items.map((p) => {
                  const current = p.path === place.path || page?.under === p.path;
                  return (
                    <a key={p.path} href={href(p.path)} class={current ? 'current' : ''} aria-current={current ? 'page' : undefined}>
                      <p.icon /> {p.label}
                    </a>
                  );
                })}
              </section>
            );
          })}
        </div>
        <div class="rail-foot">
          <a class="who" href={href('/profile')} title={me.actor_id}>
            <span class="who-name">{me.name || me.email || me.actor_id}</span>
            <span class="muted">{me.preset ?? plural(me.scopes.length, 'scope')}</span>
          </a>
          <ZoneButton />
          <ThemeButton />
          <button type="button" class="icon-button" aria-label="Keyboard shortcuts" title="Keyboard shortcuts (?)" onClick={() => setHelp(true)}>
            <kbd aria-hidden="true">?</kbd>
          </button>
        </div>
      </nav>
      <main
        ref={main}
        class={`main ${byKey ? 'by-key' : ''}`}
        tabIndex={0}
        id="main"
        onKeyUp={(e) => e.key === 'Tab' && e.target === e.currentTarget && setByKey(true)}
        onBlur={(e) => e.target === e.currentTarget && setByKey(false)}
      >
        <OutageNotice />
        {me.actor_kind === 'break_glass' && (
          <Notice tone="bad">
            <b>You are using a break-glass token.</b> Every call is recorded beside the reason it was issued for.
          </Notice>
        )}
        {me.impersonator_id && (
          <Notice tone="warn">
            <b>Impersonated session:</b> {me.impersonator_id} acts as {me.name || me.actor_id}. Both are recorded.
          </Notice>
        )}
        {!page ? (
          !empty && <Unknown path={place.path} home={home} />
        ) : problems.length > 0 ? (
          <Unreadable page={page} raw={place.raw} problems={problems} />
        ) : (
          <Boundary key={`${page.path} ${shownIn}`}>
            <page.view me={me} scroller={main} />
          </Boundary>
        )}
      </main>
      {help && <Shortcuts onClose={() => setHelp(false)} />}
    </div>
  );
}

function Unknown({ path, home }: { path: string; home: string }) {
  return (
    <div class="failure">
      <p class="empty-title">There is no page here</p>
      <p class="muted mono wrap-anywhere">{path}</p>
      <a class="button" href={href(home)}>
        Go to the start
      </a>
    </div>
  );
}

/** In place of a page whose link it cannot read. */
function Unreadable({ page, raw, problems }: { page: Page; raw: string; problems: Problem[] }) {
  const bad = new Set(problems.map((p) => p.part.split('=')[0]));
  const rest = new URLSearchParams([...new URLSearchParams(raw)].filter(([name]) => !bad.has(name)));
  const readable = linkProblems(rest.toString(), page.link, now()).length === 0;
  return (
    <div class="page">
      <header class="page-head">
        <h1>{page.label}</h1>
      </header>
      <div class="failure unreadable" role="alert">
        <icons.Warn />
        <p class="empty-title">This link cannot be read</p>
        <dl>
          {problems.slice(0, 8).map((p, i) => (
            <div key={i}>
              <dt class="mono wrap-anywhere">{cut(p.part, 200)}</dt>
              <dd class="muted wrap-anywhere">{p.message}</dd>
            </div>
          ))}
        </dl>
        {problems.length > 8 && <p class="muted">And {problems.length - 8} more.</p>}
        <p class="muted">Nothing is shown, since the page would not be what the link asks for.</p>
        {readable ? (
          <a class="button" href={href(page.path, rest)}>
            Open it without {problems.length === 1 ? 'this part' : 'these parts'}
          </a>
        ) : (
          <a class="button" href={href(page.under ?? page.path)}>
            Open {page.label}
          </a>
        )}
      </div>
    </div>
  );
}

function ThemeButton() {
  const theme = useTheme();
  const next = { system: 'light', light: 'dark', dark: 'system' } as const;
  const label = { system: 'as the system', light: 'light', dark: 'dark' };
  const Icon = { system: icons.Half, light: icons.Sun, dark: icons.Moon }[theme];
  return (
    <button
      type="button"
      class="icon-button"
      aria-label={`Colours: ${label[theme]}. Change to ${label[next[theme]]}`}
      title={`Colours: ${label[theme]}`}
      onClick={() => setTheme(next[theme])}
    >
      <Icon />
    </button>
  );
}

function ZoneButton() {
  const shown = useStore(zone);
  const next = shown === 'utc' ? 'local' : 'utc';
  const name = zoneName(now(), shown);
  return (
    <button
      type="button"
      class="icon-button zone"
      aria-label={`Times in ${name}. Change to ${next === 'utc' ? 'UTC' : `local time, ${zoneName(now(), 'local')}`}`}
      title={`Times in ${name}`}
      onClick={() => setZone(next)}
    >
      {shown === 'utc' ? 'UTC' : 'Local'}
    </button>
  );
}

const KEYS: [string, string][] = [
  ['/', 'Search'],
  ['Ctrl-K', 'Search the audit log, from anywhere'],
  ['j  k', 'Next, previous row'],
  ['Enter', 'Open the row'],
  ['Esc', 'Close what is open'],
  ['← →', 'From point to point of a chart'],
  ['Shift ←', 'Choose a range of a chart; Enter takes it'],
  ['l', 'Live on or off'],
  ['r', 'Refresh'],
  ['g t', 'Tenants'],
  ['g v', 'Services'],
  ['g p', 'Performance'],
  ['g c', 'Compute'],
  ['g s', 'Live sessions'],
  ['g h', 'Health'],
  ['g a', 'Audit log'],
  ['g k', 'Tokens'],
  ['g r', 'Access review'],
];

function Shortcuts({ onClose }: { onClose: () => void }) {
  return (
    <Dialog title="Keyboard shortcuts" onClose={onClose}>
      <dl class="shortcuts">
        {KEYS.map(([keys, what]) => (
          <div key={keys}>
            <dt>
              {keys.split(/ +/).map((k) => (
                <kbd key={k}>{k}</kbd>
              ))}
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}
