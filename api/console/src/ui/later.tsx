import type { ComponentChildren, FunctionComponent } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { Skeleton } from './bits';
import { Notice } from './notice';

/** A page whose script is fetched when the page is first shown. */
export function later<P extends object>(load: () => Promise<FunctionComponent<P>>): (props: P) => ComponentChildren {
  let Page: FunctionComponent<P> | null = null;
  return (props: P) => {
    const [, drawn] = useState(0);
    const [failed, setFailed] = useState(false);
    useEffect(() => {
      if (Page) return;
      load().then(
        (found) => {
          Page = found;
          drawn(1);
        },
        () => setFailed(true),
      );
    }, []);
    if (Page) return <Page {...props} />;
    if (!failed) return <Skeleton rows={10} />;
    // Either the network is away, or a release has replaced the script.
    return (
      <Notice tone="bad">
        <b>This page could not be loaded.</b>{' '}
        <button type="button" class="link" onClick={() => location.reload()}>
          Load ARGUS again
        </button>
      </Notice>
    );
  };
}
