// Every text that the page draws goes through here, and so do the attributes that are read out or shown as tips: no
// page has to think of it. What is typed, copied and sent stays as it is.
import { options, type VNode } from 'preact';
import { shown } from './text';

const READ = ['title', 'alt', 'placeholder', 'label', 'aria-label', 'aria-description', 'aria-valuetext', 'aria-roledescription'];

export function showTexts(): void {
  const before = options.vnode;
  options.vnode = (vnode: VNode) => {
    const node = vnode as unknown as { type: unknown; props: unknown };
    if (node.type === null && typeof node.props === 'string') node.props = shown(node.props);
    else if (typeof node.type === 'string') {
      const props = node.props as Record<string, unknown>;
      for (const name of READ) if (typeof props[name] === 'string') props[name] = shown(props[name]);
    }
    before?.(vnode);
  };
}
