import type { ComponentChildren } from 'preact';
import { useEffect, useLayoutEffect, useRef } from 'preact/hooks';
import { useKeys } from '../lib/keys';
import { Close } from './icons';

/** A panel at the right edge that leaves the page usable; Esc closes it. */
export function Drawer({
  label,
  head,
  onClose,
  children,
  focusKey,
}: {
  label: string;
  head: ComponentChildren;
  onClose: () => void;
  children: ComponentChildren;
  /** the panel takes the focus when it opens; null leaves the focus where it is */
  focusKey: string | null;
}) {
  const panel = useRef<HTMLElement>(null);
  useKeys({ Escape: onClose });
  // Before the next frame: later it would take the focus from what was opened meanwhile.
  useLayoutEffect(() => {
    const before = document.activeElement;
    if (focusKey !== null) panel.current?.focus({ preventScroll: true });
    return () => {
      if (before instanceof HTMLElement && before.isConnected && panel.current?.contains(document.activeElement)) before.focus({ preventScroll: true });
    };
  }, []);
  useEffect(() => {
    panel.current?.querySelector('.drawer-body')?.scrollTo(0, 0);
  }, [focusKey]);
  return (
    <aside class="drawer" aria-label={label} tabIndex={-1} ref={panel}>
      <div class="drawer-head">
        <h2 class="drawer-title">{head}</h2>
        <button type="button" class="icon-button" aria-label="Close" title="Close (Esc)" onClick={onClose}>
          <Close />
        </button>
      </div>
      <div class="drawer-body">{children}</div>
    </aside>
  );
}
