import { useLayoutEffect, useRef } from 'preact/hooks';

type Keys = Record<string, (event: KeyboardEvent) => void | false>;

/** Who wants keys; the one that came last is asked first. */
const listeners: { readonly current: Keys }[] = [];
/** Until when a key is the second of a pair that g began, in milliseconds. Pressed in time is enough: a busy page hears of it late. */
let pairUntil = 0;

function typing(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));
}

function press(event: KeyboardEvent): void {
  if (event.altKey || event.defaultPrevented) return;
  // Ctrl-K and ⌘K go to the search from anywhere, also out of a field. Other chords are the browser's.
  const search = (event.ctrlKey || event.metaKey) && !event.shiftKey && event.key.toLowerCase() === 'k';
  if (!search && (event.ctrlKey || event.metaKey)) return;
  if ((!search && typing(event.target)) || document.querySelector('dialog[open]')) return;
  const pair = event.timeStamp < pairUntil;
  pairUntil = !pair && event.key === 'g' ? event.timeStamp + 1500 : 0;
  const name = search ? 'mod+k' : pair ? `g ${event.key}` : event.key;
  for (const keys of [...listeners].reverse()) {
    const handler = keys.current[name];
    if (!handler || handler(event) === false) continue;
    event.preventDefault();
    return;
  }
}

/** Gives the focus at the next frame, unless a field or a panel has got it by then: what is typed must not land elsewhere. */
export function focusNextFrame(focus: () => void): void {
  requestAnimationFrame(() => {
    const has = document.activeElement;
    if (!typing(has) && !has?.closest('dialog, .popover')) focus();
  });
}

/**
 * Single keys, and pairs such as "g t", while no field has the focus and no dialog is open. mod+k is Ctrl-K or ⌘K. A handler that
 * returns false lets go.
 */
export function useKeys(keys: Keys): void {
  const latest = useRef(keys);
  latest.current = keys;
  // Before the next frame, so that what is seen can be closed.
  useLayoutEffect(() => {
    if (listeners.length === 0) addEventListener('keydown', press);
    listeners.push(latest);
    return () => {
      listeners.splice(listeners.indexOf(latest), 1);
      if (listeners.length === 0) removeEventListener('keydown', press);
    };
  }, []);
}
