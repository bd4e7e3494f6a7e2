import type { ComponentChildren } from 'preact';
import { useCallback, useState } from 'preact/hooks';
import { addCondition, type Filter, withFilter } from '../lib/filter';
import { call } from '../lib/http';
import { usePoll } from '../lib/poll';
import type { Facets, Operator } from '../lib/types';
import { type Found, SearchBox } from '../ui/searchbox';
import { Chips, FilterMenu } from './chips';

/** The filter of a page: the search box with completion, the menu of filters, and a chip for each condition in force. */
export function FilterBar({
  filter,
  since,
  me,
  placeholder,
  onChange,
  onSearch,
  children,
}: {
  filter: Filter;
  /** the beginning of the window, the page's default included */
  since: string;
  me: Operator;
  placeholder: string;
  onChange: (filter: Filter) => void;
  /** does what a search means on this page; false when it just narrows the filter */
  onSearch?: (found: Found) => boolean;
  /** chips of the page's own */
  children?: ComponentChildren;
}) {
  // What completion offers: the values of the whole window, without the filter, asked for when first needed.
  const [wanted, setWanted] = useState(false);
  const windowQuery = withFilter(new URLSearchParams(), { conditions: [], since, until: filter.until });
  const choices = usePoll<Facets>(
    wanted ? windowQuery.toString() : null,
    (signal) => call<Facets>('/v1/audit-log/facets', { query: windowQuery, signal }),
    5 * 60_000,
  );
  const want = useCallback(() => setWanted(true), []);
  const offered = { facets: choices.data, onWant: want };
  const search = (found: Found) => {
    if (onSearch?.(found)) return;
    const next = found.conditions.reduce(addCondition, filter);
    onChange({ conditions: next.conditions, since: found.since ?? filter.since, until: found.until ?? (found.since ? '' : filter.until) });
  };
  return (
    <>
      <div class="search-row">
        <SearchBox facets={choices.data} onWant={want} placeholder={placeholder} onSearch={search} />
        <FilterMenu offered={offered} me={me.actor_id} onAdd={(conditions) => onChange(conditions.reduce(addCondition, filter))} />
      </div>
      <Chips filter={filter} onChange={onChange} offered={offered}>
        {children}
      </Chips>
    </>
  );
}
