import { useStore } from '../lib/store';
import { Notice } from '../ui/notice';
import type { Feed } from './feed';

/** Follows the log as it is written. */
export function LiveToggle({ feed, on, onToggle }: { feed: Feed; on: boolean; onToggle: () => void }) {
  useStore(feed.version);
  const step = feed.live === 'off' ? 'off' : feed.live.step;
  const text = !on ? 'Live' : step === 'open' ? 'Live' : step === 'stopped' ? 'Stopped' : 'Connecting';
  return (
    <button
      type="button"
      class={`button live ${on ? `on ${step}` : ''}`}
      aria-pressed={on}
      onClick={onToggle}
      title="Follow new calls as they are recorded (l)"
    >
      <span class="live-dot" aria-hidden="true" />
      {text}
    </button>
  );
}

export function LiveNotice({ feed }: { feed: Feed }) {
  useStore(feed.version);
  if (feed.live === 'off') return null;
  if (feed.live.step === 'stopped') {
    return (
      <Notice tone="bad">
        <b>The live tail was stopped.</b> {feed.live.error.message}
      </Notice>
    );
  }
  if (feed.live.step === 'waiting' && feed.live.error.code !== 'closed') {
    return (
      <Notice tone="warn">
        <b>The live tail was cut off</b> and goes on where it stopped, without a gap, as soon as the server can be reached again.
      </Notice>
    );
  }
  return null;
}
