import type { ComponentChildren } from 'preact';
import { useId } from 'preact/hooks';
import { given } from '../lib/text';

/** A labelled field with a hint below it. */
export function Field({
  label,
  hint,
  children,
}: {
  label: ComponentChildren;
  hint?: ComponentChildren;
  children: (id: string, hintId: string | undefined) => ComponentChildren;
}) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{label}</label>
      {children(id, hint ? `${id}-hint` : undefined)}
      {hint && (
        <p class="hint" id={`${id}-hint`}>
          {hint}
        </p>
      )}
    </div>
  );
}

/** Why a change is made: 3 to 500 characters, kept in the domain audit table. */
export function ReasonField({
  value,
  onInput,
  autofocus,
  optional,
}: {
  value: string;
  onInput: (value: string) => void;
  autofocus?: boolean;
  optional?: boolean;
}) {
  const { error } = given('reason', value, 3, 500);
  const hint = error && value.trim().length > 2 ? error : 'Kept in the audit log. At least 3 characters.';
  return (
    <Field label={optional ? 'Reason (optional)' : 'Reason'} hint={hint}>
      {(id, hint) => (
        <input
          id={id}
          aria-describedby={hint}
          autofocus={autofocus}
          required={!optional}
          minLength={3}
          value={value}
          autocomplete="off"
          onInput={(e) => onInput(e.currentTarget.value)}
        />
      )}
    </Field>
  );
}

export function validReason(reason: string): boolean {
  return given('reason', reason, 3, 500).error === null;
}

/** The step-up: the name of the thing, typed. */
export function TypedField({ expected, label, value, onInput }: { expected: string; label: string; value: string; onInput: (value: string) => void }) {
  return (
    <Field
      label={
        <>
          {label} <code>{expected}</code>
        </>
      }
    >
      {(id) => (
        <input
          id={id}
          class="mono"
          value={value}
          autofocus
          autocomplete="off"
          autocapitalize="off"
          spellcheck={false}
          required
          onInput={(e) => onInput(e.currentTarget.value)}
        />
      )}
    </Field>
  );
}
