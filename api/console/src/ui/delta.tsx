/** The change against the window before: in percent, or in points for rates. Noise is grey and says so. */
export function Delta({
  now,
  before,
  real,
  bad,
  points,
}: {
  now: number | null;
  before: number | null | undefined;
  /** the change is more than noise */
  real: boolean;
  /** the direction that is bad news */
  bad?: 'up';
  points?: boolean;
}) {
  if (now === null || before === null || before === undefined) return <span class="delta muted">&nbsp;</span>;
  const change = points ? (now - before) * 100 : before === 0 ? (now === 0 ? 0 : Infinity) : ((now - before) / before) * 100;
  const size = Math.abs(change);
  const small = points ? size < 0.005 : size < 0.5;
  const tone = !real || small ? 'muted' : bad ? (change > 0 ? 'tone-bad' : 'tone-ok') : 'strong';
  if (small)
    return (
      <span class="delta muted" title="As before">
        =
      </span>
    );
  const figure = points
    ? `${size < 1 ? size.toFixed(2) : size.toFixed(1)} pt`
    : !Number.isFinite(change)
      ? 'new'
      : size >= 1000
        ? `${(size / 100 + (change > 0 ? 1 : 0)).toFixed(0)}×`
        : `${size.toFixed(0)} %`;
  return (
    <span class={`delta ${tone}`} title={real ? 'Changed against the window before' : 'Within noise of the window before'}>
      <span aria-hidden="true">{change > 0 ? '▲' : '▼'}</span>
      <span class="offscreen">{change > 0 ? 'up' : 'down'}</span> {figure}
    </span>
  );
}
