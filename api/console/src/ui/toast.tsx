import { Store, useStore } from '../lib/store';

interface Note {
  id: number;
  text: string;
  tone: 'plain' | 'bad';
}

const notes = new Store<Note[]>([]);
let last = 0;

/** Says something in the corner for a few seconds; screen readers read it out. */
export function toast(text: string, tone: Note['tone'] = 'plain'): void {
  const id = ++last;
  notes.set([...notes.get().slice(-2), { id, text, tone }]);
  setTimeout(() => notes.set(notes.get().filter((n) => n.id !== id)), tone === 'bad' ? 8000 : 3500);
}

export function Toasts() {
  return (
    <div class="toasts" role="status" aria-live="polite">
      {useStore(notes).map((n) => (
        <div key={n.id} class={`toast ${n.tone}`}>
          {n.text}
        </div>
      ))}
    </div>
  );
}
