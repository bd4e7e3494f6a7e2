import { useState } from 'preact/hooks';
import { useChange } from '../lib/change';
import { type Filter, readFilter, withFilter } from '../lib/filter';
import { plural } from '../lib/format';
import { call } from '../lib/http';
import { learnNames, useNames } from '../lib/names';
import { usePoll } from '../lib/poll';
import { now, timeText } from '../lib/time';
import type { SavedView } from '../lib/types';
import { Empty, Spinner } from '../ui/bits';
import * as icons from '../ui/icons';
import { Popover } from '../ui/menu';
import { Failure, FormError } from '../ui/notice';
import { toast } from '../ui/toast';

const MAX_NAME = 60;

/** A filter as a view keeps it. */
export function viewQuery(filter: Filter): string {
  return withFilter(new URLSearchParams(), filter).toString();
}

/** Whether two queries ask the same, in any order. */
function sameQuery(a: string, b: string): boolean {
  const parts = (query: string) => [...new URLSearchParams(query)].map((part) => part.join('=')).sort();
  return parts(a).join('&') === parts(b).join('&');
}

/** The views of the log that the team shares: opens one, and, for who may, saves, renames, changes and deletes. */
export function SavedViews({ filter, mayChange, onOpen }: { filter: Filter; mayChange: boolean; onOpen: (filter: Filter) => void }) {
  return (
    <Popover
      label={
        <>
          <icons.Bookmark />
          <span>Saved views</span>
          <icons.Down />
        </>
      }
      panelLabel="Saved views"
      className="button small"
    >
      {(close) => (
        <ViewsPanel
          filter={filter}
          mayChange={mayChange}
          onOpen={(f) => {
            close();
            onOpen(f);
          }}
        />
      )}
    </Popover>
  );
}

function ViewsPanel({ filter, mayChange, onOpen }: { filter: Filter; mayChange: boolean; onOpen: (filter: Filter) => void }) {
  const polled = usePoll('views', async (signal) => {
    const found = await call<{ views: SavedView[]; actors: Record<string, string> }>('/v1/views', { signal });
    learnNames(found.actors);
    return found.views;
  });
  const [editing, setEditing] = useState<string | null>(null);
  const views = polled.data;
  const here = viewQuery(filter);
  if (polled.error && !views) return <Failure error={polled.error} scope="logs:read" retry={polled.reload} />;
  if (!views) return <Spinner label="Loading the views" />;
  const put = (changed: SavedView[]) => {
    setEditing(null);
    polled.put(changed.sort((a, b) => (a.name.toLowerCase() < b.name.toLowerCase() ? -1 : 1)));
  };
  return (
    <div class="views-panel">
      {views.length === 0 && <Empty title="No view is saved yet" />}
      <ul class="saved-views" aria-label={plural(views.length, 'saved view')}>
        {views.map((view) =>
          editing === view.id ? (
            <li key={view.id}>
              <EditView
                view={view}
                here={here}
                onCancel={() => setEditing(null)}
                onDone={(changed) => put(views.flatMap((v) => (v !== view ? [v] : changed ? [changed] : [])))}
              />
            </li>
          ) : (
            <li key={view.id}>
              <ViewButton view={view} on={sameQuery(view.filter, here)} onOpen={onOpen} />
              {mayChange && (
                <button
                  type="button"
                  class="icon-button small"
                  aria-label={`Change ${view.name}`}
                  title="Rename, change or delete"
                  onClick={() => setEditing(view.id)}
                >
                  <icons.Edit />
                </button>
              )}
            </li>
          ),
        )}
      </ul>
      {mayChange ? (
        <SaveView here={here} onDone={(made) => put([...views, made])} />
      ) : (
        <p class="muted pad">
          To save views you need the scope <code>views:write</code>.
        </p>
      )}
    </div>
  );
}

function ViewButton({ view, on, onOpen }: { view: SavedView; on: boolean; onOpen: (filter: Filter) => void }) {
  const names = useNames();
  const { filter, problems } = readFilter(new URLSearchParams(view.filter), now());
  const problem = view.problem ?? problems[0]?.message ?? null;
  return (
    <button
      type="button"
      class={`menu-item ${on ? 'on' : ''}`}
      aria-pressed={on}
      disabled={problem !== null}
      title={`${view.filter}\nSaved by ${names.get(view.saved_by) ?? view.saved_by}, ${timeText(view.saved_at)}`}
      onClick={() => onOpen(filter)}
    >
      <span class="ellipsis">{view.name}</span>
      {problem !== null && <span class="sub-line tone-bad">{problem}</span>}
    </button>
  );
}

function NameInput({ value, onInput, label }: { value: string; onInput: (name: string) => void; label: string }) {
  return (
    <input
      aria-label={label}
      placeholder="Refused yesterday"
      autocomplete="off"
      maxLength={4 * MAX_NAME}
      value={value}
      onInput={(e) => onInput(e.currentTarget.value)}
    />
  );
}

/** Saves the filter in force under a name. */
function SaveView({ here, onDone }: { here: string; onDone: (view: SavedView) => void }) {
  const [name, setName] = useState('');
  const { busy, error, run, auditId } = useChange();
  return (
    <form
      class="view-form"
      onSubmit={(event) => {
        event.preventDefault();
        void run<SavedView>('/v1/views', { name, filter: here }).then((made) => {
          if (!made) return;
          toast(`Saved the view ${made.name}.`, auditId());
          setName('');
          onDone(made);
        });
      }}
    >
      <p class="menu-title">Save this filter for the team</p>
      <NameInput label="Name of the view" value={name} onInput={setName} />
      <FormError error={error} />
      <button type="submit" class="button" disabled={busy || name.trim() === '' || here === ''}>
        Save
      </button>
      {here === '' && <p class="muted pad">There is no filter and no window to save.</p>}
    </form>
  );
}

/** Renames a view, gives it the filter in force, or deletes it. */
function EditView({ view, here, onCancel, onDone }: { view: SavedView; here: string; onCancel: () => void; onDone: (view: SavedView | null) => void }) {
  const [name, setName] = useState(view.name);
  const [sure, setSure] = useState(false);
  const { busy, error, run, auditId } = useChange();
  const path = `/v1/views/${view.id}`;
  const change = (body: { name?: string; filter?: string }) =>
    run<SavedView>(path, body, 'PATCH').then((changed) => {
      if (!changed) return;
      toast(`Changed the view ${changed.name}.`, auditId());
      onDone(changed);
    });
  return (
    <form
      class="view-form"
      onSubmit={(event) => {
        event.preventDefault();
        void change({ name });
      }}
    >
      <NameInput label={`New name of ${view.name}`} value={name} onInput={setName} />
      <FormError error={error} />
      <div class="view-deeds">
        <button type="submit" class="button small" disabled={busy || name.trim() === '' || name === view.name}>
          Rename
        </button>
        <button type="button" class="button small" disabled={busy || here === '' || sameQuery(here, view.filter)} onClick={() => void change({ filter: here })}>
          Use this filter
        </button>
        <button
          type="button"
          class="button small danger"
          disabled={busy}
          onClick={() => {
            if (!sure) {
              setSure(true);
              return;
            }
            void run<SavedView>(path, undefined, 'DELETE').then((gone) => {
              if (!gone) return;
              toast(`Deleted the view ${gone.name}.`, auditId());
              onDone(null);
            });
          }}
        >
          {sure ? 'Delete for everyone' : 'Delete'}
        </button>
        <button type="button" class="button small quiet" onClick={onCancel}>
          Cancel
        </button>
      </div>
    </form>
  );
}
