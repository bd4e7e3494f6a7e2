import { useEffect, useRef } from 'preact/hooks';

function typing(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));
}

/** Until when a key is the second of a pair that g began, in milliseconds. */
let pairUntil = 0;

/**
 * Single keys, and pairs such as "g t", while no field has the focus and no dialog is open. A handler that
 * returns false lets go.
 */
export function useKeys(keys: Record<string, (event: KeyboardEvent) => void | false>): void {
  const latest = useRef(keys);
  latest.current = keys;
  useEffect(() => {
    const press = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
      if (typing(event.target) || document.querySelector('dialog[open]')) return;
      const pair = Date.now() < pairUntil;
      if (pair) queueMicrotask(() => (pairUntil = 0));
      else if (event.key === 'g') pairUntil = Date.now() + 1500;
      const handler = latest.current[pair ? `g ${event.key}` : event.key];
      if (handler && handler(event) !== false) event.preventDefault();
    };
    addEventListener('keydown', press);
    return () => removeEventListener('keydown', press);
  }, []);
}
