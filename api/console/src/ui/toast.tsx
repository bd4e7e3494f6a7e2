import { href } from '../lib/router';
import { session } from '../lib/session';
import { Store, useStore } from '../lib/store';

interface Note {
  id: number;
  text: string;
  /** the id of the call that the text is about */
  call: string | null;
}

const notes = new Store<Note[]>([]);
let last = 0;

/** Says something in the corner for a few seconds, with a link to the call it is about. Screen readers read it out. */
export function toast(text: string, call: string | null = null): void {
  const id = ++last;
  notes.set([...notes.get().slice(-2), { id, text, call }]);
  setTimeout(() => notes.set(notes.get().filter((n) => n.id !== id)), call ? 10_000 : 3500);
}

export function Toasts() {
  const state = useStore(session);
  const reads = state.step === 'signed-in' && state.me.scopes.includes('logs:read');
  return (
    <div class="toasts" role="status" aria-live="polite">
      {useStore(notes).map((n) => (
        <div key={n.id} class="toast">
          {n.text} {n.call && reads && <a href={href('/settings/audit', { row: n.call })}>Show the call</a>}
        </div>
      ))}
    </div>
  );
}
