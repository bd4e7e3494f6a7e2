import { useState } from 'preact/hooks';
import { activeTenant } from '../lib/active-tenant';
import { type Condition, FILTERS, type Filter, isFilterName, labelOf, valueProblem } from '../lib/filter';
import { formatShort, shortId } from '../lib/format';
import { useNames } from '../lib/names';
import { useStore } from '../lib/store';
import type { Facets } from '../lib/types';
import * as icons from '../ui/icons';
import { Popover } from '../ui/menu';

/** The conditions in force. Pressing the name turns one around, pressing the value edits it. */
export function Chips({ filter, onChange, onEdit }: { filter: Filter; onChange: (filter: Filter) => void; onEdit: (condition: Condition) => void }) {
  const names = useNames();
  if (filter.conditions.length === 0) return null;
  const groups = new Map<string, Condition[]>();
  for (const condition of filter.conditions) {
    const key = `${condition.not ? '-' : ''}${condition.name}`;
    groups.set(key, [...(groups.get(key) ?? []), condition]);
  }
  const without = (condition: Condition) => filter.conditions.filter((t) => t !== condition);
  return (
    <ul class="chips" aria-label="Filters">
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
            <span class="chip-body">
              <button
                type="button"
                class="chip-name"
                title={condition.not ? 'Require it instead' : 'Exclude it instead'}
                aria-label={`${label} ${verb} ${shown}: turn around`}
                onClick={() => onChange({ ...filter, conditions: filter.conditions.map((t) => (t === condition ? { ...t, not: !t.not } : t)) })}
              >
                {label} {verb}
              </button>
              <button
                type="button"
                class="chip-value"
                title={name ? `${condition.value}: edit` : 'Edit'}
                aria-label={`Edit ${label} ${shown}`}
                onClick={() => onEdit(condition)}
              >
                {name ?? shortId(shown, 28)}
              </button>
              <button
                type="button"
                class="chip-remove"
                aria-label={`Remove the filter ${label} ${shown}`}
                onClick={() => onChange({ ...filter, conditions: without(condition) })}
              >
                <icons.Close />
              </button>
            </span>
          </li>
        );
      })}
      <li>
        <button type="button" class="button quiet" onClick={() => onChange({ ...filter, conditions: [] })}>
          Clear
        </button>
      </li>
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
export function FilterMenu({
  facets,
  me,
  onWant,
  onAdd,
}: {
  facets: Facets | undefined;
  me: string;
  onWant: () => void;
  onAdd: (conditions: Condition[]) => void;
}) {
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
          facets={facets}
          me={me}
          onWant={onWant}
          onAdd={(conditions) => {
            onAdd(conditions);
            close();
          }}
        />
      )}
    </Popover>
  );
}

function FilterPanel({ facets, me, onWant, onAdd }: { facets: Facets | undefined; me: string; onWant: () => void; onAdd: (conditions: Condition[]) => void }) {
  const tenant = useStore(activeTenant);
  const [field, setField] = useState<(typeof FILTERS)[number] | null>(null);
  if (field) return <ValuePanel field={field} facets={facets} onBack={() => setField(null)} onAdd={onAdd} />;
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
          <button
            key={f.name}
            type="button"
            class="menu-item"
            onClick={() => {
              onWant();
              setField(f);
            }}
          >
            {f.label}
          </button>
        ))}
      </div>
    </div>
  );
}

function ValuePanel({
  field,
  facets,
  onBack,
  onAdd,
}: {
  field: (typeof FILTERS)[number];
  facets: Facets | undefined;
  onBack: () => void;
  onAdd: (conditions: Condition[]) => void;
}) {
  const [text, setText] = useState('');
  const [param, setParam] = useState('id');
  const [not, setNot] = useState(false);
  const name = field.name === 'param' ? `param.${param}` : field.name;
  const low = text.toLowerCase();
  const values = (facets?.fields[field.name] ?? []).filter((v) => v.value.toLowerCase().includes(low) || v.name?.toLowerCase().includes(low));
  const problem = text === '' ? null : !isFilterName(name) ? 'Name the parameter as in the route.' : valueProblem(name, text);
  return (
    <form
      class="value-panel"
      onSubmit={(event) => {
        event.preventDefault();
        if (text !== '' && problem === null) onAdd([{ name, not, value: field.name === 'method' ? text.toUpperCase() : text }]);
      }}
    >
      <p class="menu-title">
        <button type="button" class="button quiet" onClick={onBack}>
          ‹ Fields
        </button>
        {field.label}
      </p>
      <label class="check">
        <input type="checkbox" checked={not} onChange={(e) => setNot(e.currentTarget.checked)} /> Exclude
      </label>
      {field.name === 'param' && <input class="mono" aria-label="Name of the parameter" value={param} onInput={(e) => setParam(e.currentTarget.value)} />}
      <input autofocus class="mono" aria-label={field.label} placeholder={field.hint} value={text} onInput={(e) => setText(e.currentTarget.value)} />
      {field.facet && (
        <div class="menu values" role="group" aria-label="Values">
          {values.slice(0, 100).map((v) => (
            <button key={v.value} type="button" class="menu-item split" title={v.value} onClick={() => onAdd([{ name, not, value: v.value }])}>
              <span class="ellipsis">{v.name ?? (v.value === '' ? '(none)' : v.value)}</span>
              <span class="muted num">{formatShort(v.count)}</span>
            </button>
          ))}
          {values.length === 0 && <p class="muted pad">{facets ? 'No such value in this window.' : 'Loading…'}</p>}
        </div>
      )}
      <button type="submit" class="button" disabled={text === '' || problem !== null}>
        {problem && text !== '' ? `${problem[0]!.toUpperCase()}${problem.slice(1)}` : 'Add'}
      </button>
    </form>
  );
}
