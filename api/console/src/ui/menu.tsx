import type { ComponentChildren } from 'preact';
import { useLayoutEffect, useRef, useState } from 'preact/hooks';

/** A button that opens a panel below it. The panel closes by Esc, by a click elsewhere, or by close(). */
export function Popover({
  label,
  title,
  className = 'button',
  panelLabel,
  align = 'start',
  children,
}: {
  label: ComponentChildren;
  title?: string;
  className?: string;
  panelLabel: string;
  align?: 'start' | 'end';
  children: (close: () => void) => ComponentChildren;
}) {
  const [open, setOpen] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const panel = useRef<HTMLDivElement>(null);

  // A panel that would leave the window is moved into it.
  useLayoutEffect(() => {
    const box = panel.current?.getBoundingClientRect();
    if (!open || !box || !panel.current) return;
    const left = Math.max(8, Math.min(box.left, innerWidth - 8 - box.width));
    if (left !== box.left) panel.current.style.translate = `${left - box.left}px`;
  }, [open]);

  // It listens from the moment at which the panel is there: an effect that waits for the next frame would miss a quick Esc.
  useLayoutEffect(() => {
    if (!open) return;
    root.current?.querySelector<HTMLElement>('.popover [autofocus], .popover input, .popover button, .popover a')?.focus();
    const outside = (event: Event) => {
      if (!root.current?.contains(event.target as Node)) setOpen(false);
    };
    const onEscape = (event: KeyboardEvent) => {
      if (event.key !== 'Escape') return;
      event.preventDefault();
      event.stopPropagation();
      setOpen(false);
      button.current?.focus();
    };
    document.addEventListener('pointerdown', outside);
    document.addEventListener('focusin', outside);
    document.addEventListener('keydown', onEscape, true);
    return () => {
      document.removeEventListener('pointerdown', outside);
      document.removeEventListener('focusin', outside);
      document.removeEventListener('keydown', onEscape, true);
    };
  }, [open]);

  const move = (event: KeyboardEvent) => {
    if (event.key !== 'ArrowDown' && event.key !== 'ArrowUp') return;
    const items = [...root.current!.querySelectorAll<HTMLElement>('.popover .menu-item')];
    if (items.length === 0) return;
    event.preventDefault();
    const at = items.indexOf(document.activeElement as HTMLElement);
    items[(at + (event.key === 'ArrowDown' ? 1 : items.length - 1) + (at < 0 && event.key === 'ArrowUp' ? 1 : 0)) % items.length]?.focus();
  };

  return (
    <div class="popover-root" ref={root} onKeyDown={move}>
      <button ref={button} type="button" class={className} title={title} aria-haspopup="dialog" aria-expanded={open} onClick={() => setOpen(!open)}>
        {label}
      </button>
      {open && (
        <div ref={panel} class={`popover ${align}`} role="dialog" aria-label={panelLabel} tabIndex={-1}>
          {children(() => {
            setOpen(false);
            button.current?.focus();
          })}
        </div>
      )}
    </div>
  );
}
