import type { ComponentChildren } from 'preact';
import { useId, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { activeTenant } from '../lib/active-tenant';
import { type Condition, FILTERS, type Filter, isFilterName, labelOf, valueProblem } from '../lib/filter';
import { formatShort, shortId } from '../lib/format';
import { focusNextFrame } from '../lib/keys';
import { useNames } from '../lib/names';
import { useStore } from '../lib/store';
import type { Facets } from '../lib/types';
import * as icons from '../ui/icons';
import { Popover } from '../ui/menu';

/** What values may be: those of the window, once they are asked for. */
export interface Offered {
  facets: Facets | undefined;
  /** values will be needed */
  onWant: () => void;
}

/**
 * The conditions in force. Pressing one opens its menu, in which it is edited, negated or removed. Delete removes it at once.
 * children are chips of the page's own.
 */
export function Chips({
  filter,
  onChange,
  offered,
  children,
}: {
  filter: Filter;
  onChange: (filter: Filter) => void;
  offered?: Offered;
  children?: ComponentChildren;
}) {
  const names = useNames();
  const root = useRef<HTMLUListElement>(null);
  if (filter.conditions.length === 0 && !children) return null;
  const groups = new Map<string, Condition[]>();
  for (const condition of filter.conditions) {
    const key = `${condition.not ? '-' : ''}${condition.name}`;
    groups.set(key, [...(groups.get(key) ?? []), condition]);
  }
  /** Puts another condition in the place of one; null leaves it out. */
  const put = (old: Condition, next: Condition | null) => {
    const rest = filter.conditions.filter((t) => t === old || !next || t.name !== next.name || t.value !== next.value);
    onChange({ ...filter, conditions: rest.flatMap((t) => (t !== old ? [t] : next ? [next] : [])) });
    // The chip is another one now, or none: the focus stays among the chips.
    const at = [...groups.values()].flat().indexOf(old);
    focusNextFrame(() => {
      const chips = root.current?.querySelectorAll<HTMLElement>('.chip-open');
      (chips?.[Math.min(at, chips.length - 1)] ?? document.getElementById('search'))?.focus();
    });
  };
  return (
    <ul class="chips" aria-label="Filters" ref={root}>
      {[...groups.values()].flat().map((condition, i, all) => {
        const before = all[i - 1];
        const alternative = before !== undefined && before.name === condition.name && before.not === condition.not;
        const label = labelOf(condition.name);
        const name = names.get(condition.value);
        const shown = name ?? (condition.value === '' ? '(none)' : condition.value);
        const part = condition.name === 'reason' || condition.name === 'user_agent';
        const verb = condition.not ? (part ? 'lacks' : 'is not') : part ? 'has' : 'is';
        return (
          <li key={`${condition.not}${condition.name}${condition.value}`} class={`chip ${condition.not ? 'not' : ''}`}>
            {alternative && <span class="chip-or">{condition.not ? 'nor' : 'or'}</span>}
            <span
              class="chip-body"
              onKeyDown={(event) => {
                if ((event.key !== 'Delete' && event.key !== 'Backspace') || !(event.target as HTMLElement).closest('.chip-open')) return;
                event.preventDefault();
                put(condition, null);
              }}
            >
              <Popover
                className="chip-open"
                title={name ? `${condition.value}: change` : 'Change'}
                panelLabel={`Change ${label} ${shown}`}
                label={
                  <>
                    <span class="chip-name">
                      {label} {verb}{' '}
                    </span>
                    <span class="chip-value">{name ?? shortId(shown, 28)}</span>
                  </>
                }
              >
                {(close) => (
                  <ValuePanel
                    name={condition.name}
                    start={condition}
                    offered={offered}
                    onDone={(next) => {
                      close();
                      put(condition, next);
                    }}
                  />
                )}
              </Popover>
              <button type="button" class="chip-remove" aria-label={`Remove the filter ${label} ${shown}`} onClick={() => put(condition, null)}>
                <icons.Close />
              </button>
            </span>
          </li>
        );
      })}
      {children}
      {filter.conditions.length > 0 && (
        <li>
          <button type="button" class="button quiet" onClick={() => onChange({ ...filter, conditions: [] })}>
            Clear
          </button>
        </li>
      )}
    </ul>
  );
}

const QUICK: [string, Condition[]][] = [
  ['Server errors', [{ name: 'status', not: false, value: '5xx' }]],
  ['Client errors (4xx)', [{ name: 'status', not: false, value: '4xx' }]],
  ['Changes only', [{ name: 'method', not: true, value: 'GET' }]],
  ['From argusctl', [{ name: 'client', not: false, value: 'argusctl' }]],
  ['Slower than 1 s', [{ name: 'latency_min', not: false, value: '1s' }]],
  ['Interrupted by a crash', [{ name: 'outcome', not: false, value: 'interrupted' }]],
  ['Break-glass', [{ name: 'actor_kind', not: false, value: 'break_glass' }]],
];

/** Adds a filter without typing: the usual ones, or a field and one of its values. */
export function FilterMenu({ offered, me, onAdd }: { offered: Offered; me: string; onAdd: (conditions: Condition[]) => void }) {
  return (
    <Popover
      label={
        <>
          <icons.Plus />
          <span>Filter</span>
        </>
      }
      panelLabel="Add a filter"
      align="end"
    >
      {(close) => (
        <FilterPanel
          offered={offered}
          me={me}
          onAdd={(conditions) => {
            onAdd(conditions);
            close();
          }}
        />
      )}
    </Popover>
  );
}

function FilterPanel({ offered, me, onAdd }: { offered: Offered; me: string; onAdd: (conditions: Condition[]) => void }) {
  const tenant = useStore(activeTenant);
  const [field, setField] = useState<string | null>(null);
  if (field !== null) return <ValuePanel name={field} offered={offered} onBack={() => setField(null)} onDone={(t) => t && onAdd([t])} />;
  return (
    <div class="filter-panel">
      <div class="menu" role="group" aria-label="Usual filters">
        <p class="menu-title">Usual</p>
        <button type="button" class="menu-item" onClick={() => onAdd([{ name: 'actor', not: false, value: me }])}>
          My calls
        </button>
        {tenant && (
          <button type="button" class="menu-item" title={`The active tenant, ${tenant}`} onClick={() => onAdd([{ name: 'tenant', not: false, value: tenant }])}>
            {tenant}
          </button>
        )}
        {QUICK.map(([label, conditions]) => (
          <button key={label} type="button" class="menu-item" onClick={() => onAdd(conditions)}>
            {label}
          </button>
        ))}
      </div>
      <div class="menu fields" role="group" aria-label="Fields">
        <p class="menu-title">By field</p>
        {FILTERS.map((f) => (
          <button key={f.name} type="button" class="menu-item" onClick={() => setField(f.name)}>
            {f.label}
          </button>
        ))}
      </div>
    </div>
  );
}

/** Makes a condition on a field, or another one of the one there is: by writing its value, or by taking one of the window's. */
function ValuePanel({
  name: field,
  start,
  offered,
  onBack,
  onDone,
}: {
  /** of FILTERS, or param.<name> */
  name: string;
  start?: Condition;
  offered?: Offered | undefined;
  onBack?: () => void;
  /** null: the condition is to go */
  onDone: (condition: Condition | null) => void;
}) {
  const of = FILTERS.find((f) => f.name === field.replace(/^param\..*/s, 'param'))!;
  const [text, setText] = useState(start?.value ?? '');
  const [param, setParam] = useState(field.startsWith('param.') ? field.slice(6) : 'id');
  const [not, setNot] = useState(start?.not ?? false);
  const input = useRef<HTMLInputElement>(null);
  // Before the next frame, so that what is typed at once is not selected, and typed over.
  useLayoutEffect(() => {
    if (of.facet) offered?.onWant();
    input.current?.focus();
    input.current?.select();
  }, []);
  const name = of.name === 'param' ? `param.${param}` : of.name;
  const low = text === start?.value ? '' : text.toLowerCase();
  const facets = offered?.facets;
  const values = (facets?.fields[of.name] ?? []).filter((v) => v.value.toLowerCase().includes(low) || v.name?.toLowerCase().includes(low));
  const problem = !isFilterName(name) ? 'Name the parameter as in the route.' : valueProblem(name, text);
  const sentence = problem && text !== '' ? `${problem[0]!.toUpperCase()}${problem.slice(1)}` : '';
  const id = useId();
  return (
    <form
      class="value-panel"
      onSubmit={(event) => {
        event.preventDefault();
        if (problem === null) onDone({ name, not, value: of.name === 'method' ? text.toUpperCase() : text });
      }}
    >
      <p class="menu-title">
        {onBack && (
          <button type="button" class="button quiet" onClick={onBack}>
            ‹ Fields
          </button>
        )}
        {of.label}
      </p>
      {!start && (
        <label class="check">
          <input type="checkbox" checked={not} onChange={(e) => setNot(e.currentTarget.checked)} /> Exclude
        </label>
      )}
      {of.name === 'param' && <input class="mono" aria-label="Name of the parameter" value={param} onInput={(e) => setParam(e.currentTarget.value)} />}
      <input
        ref={input}
        autofocus
        class="mono"
        aria-label={of.label}
        aria-invalid={sentence !== ''}
        aria-describedby={sentence ? id : undefined}
        placeholder={of.hint}
        value={text}
        onInput={(e) => setText(e.currentTarget.value)}
      />
      {sentence && (
        <p class="form-error" id={id} role="alert">
          {sentence}
        </p>
      )}
      {of.facet && offered && (
        <div class="menu values" role="group" aria-label="Values">
          {values.slice(0, 100).map((v) => (
            <button key={v.value} type="button" class="menu-item split" title={v.value} onClick={() => onDone({ name, not, value: v.value })}>
              <span class="ellipsis">{v.name ?? (v.value === '' ? '(none)' : v.value)}</span>
              <span class="muted num">{formatShort(v.count)}</span>
            </button>
          ))}
          {values.length === 0 && <p class="muted pad">{facets ? 'No such value in this window.' : 'Loading…'}</p>}
        </div>
      )}
      <button type="submit" class="button" disabled={problem !== null}>
        {start ? 'Change' : 'Add'}
      </button>
      {start && (
        <div class="menu chip-deeds" role="group" aria-label="The filter">
          <button type="button" class="menu-item" onClick={() => onDone({ ...start, not: !start.not })}>
            {start.not ? 'Require it instead' : 'Exclude it instead'}
          </button>
          <button type="button" class="menu-item" onClick={() => onDone(null)}>
            Remove it
          </button>
        </div>
      )}
    </form>
  );
}
