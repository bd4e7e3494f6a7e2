import type { ComponentChildren } from 'preact';
import { useEffect, useRef } from 'preact/hooks';

/** What holds a table. Where the table is wider, it scrolls sideways, and a shadow at the edge says that there is more. */
export function TableWrap({ pending = false, children }: { pending?: boolean; children: ComponentChildren }) {
  const inner = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const box = inner.current!;
    const wrap = box.parentElement;
    if (!wrap) return undefined; // the page went before it was looked at
    const look = () => {
      const left = box.scrollLeft > 1;
      const right = box.scrollLeft + box.clientWidth < box.scrollWidth - 1;
      wrap.classList.toggle('more-left', left);
      wrap.classList.toggle('more-right', right);
    };
    const sizes = new ResizeObserver(look);
    sizes.observe(box);
    for (const child of box.children) sizes.observe(child);
    box.addEventListener('scroll', look, { passive: true });
    return () => {
      sizes.disconnect();
      box.removeEventListener('scroll', look);
    };
  }, []);
  return (
    <div class={pending ? 'table-wrap pending' : 'table-wrap'} aria-busy={pending}>
      <div ref={inner} class="table-scroll">
        {children}
      </div>
    </div>
  );
}
