// The dialogs of remote support.

import type { ComponentChildren } from 'preact';
import { useState } from 'preact/hooks';
import type { Changer } from '../lib/change';
import { useChange } from '../lib/change';
import type { SupportSession, Tenant } from '../lib/types';
import { When } from '../ui/bits';
import { Dialog } from '../ui/dialog';
import { Field, ReasonField, TypedField, validReason } from '../ui/fields';
import { FormError, useCountdown } from '../ui/notice';
import { toast } from '../ui/toast';

function path(tenantId: string, rest: string): string {
  return `/v1/tenants/${encodeURIComponent(tenantId)}/${rest}`;
}

/** The foot of a dialog that changes something: it waits out a 429. */
export function SubmitRow({
  changer,
  ready,
  label,
  danger,
  onClose,
}: {
  changer: Changer;
  ready: boolean;
  label: string;
  danger?: boolean;
  onClose: () => void;
}) {
  const wait = useCountdown(changer.error);
  return (
    <>
      <FormError error={changer.error} />
      <div class="dialog-actions">
        <button type="button" class="button" onClick={onClose}>
          Cancel
        </button>
        <button type="submit" class={`button primary ${danger ? 'danger' : ''}`} disabled={!ready || changer.busy || wait > 0}>
          {changer.busy ? 'Working…' : wait > 0 ? `Wait ${wait} s` : label}
        </button>
      </div>
    </>
  );
}

export function Form({ onSubmit, children }: { onSubmit: () => void; children: ComponentChildren }) {
  return (
    <form
      class="dialog-form"
      onSubmit={(event) => {
        event.preventDefault();
        onSubmit();
      }}
    >
      {children}
    </form>
  );
}

export function ArmDialog({ tenant, onClose, onDone }: { tenant: Tenant; onClose: () => void; onDone: (tenant: Tenant) => void }) {
  const changer = useChange();
  const [typed, setTyped] = useState('');
  const [reason, setReason] = useState('');
  const [sure, setSure] = useState(false);
  const { given, document_id, at, recorded_by } = tenant.consent;
  const ready = given && typed === tenant.id && validReason(reason) && sure;
  return (
    <Dialog title="Arm remote support" onClose={onClose}>
      <Form
        onSubmit={async () => {
          if (!ready) return;
          const armed = await changer.run<Tenant>(path(tenant.id, 'arm'), {
            reason: reason.trim(),
            consent_document_id: document_id, // as it is shown here: another one is denied
            confirm_tenant_id: typed,
          });
          if (!armed) return;
          toast(`${tenant.id} is armed.`, changer.auditId());
          onDone(armed);
        }}
      >
        <p class="muted">
          Support sessions with <b>{tenant.name}</b> can be started until it is disarmed.
        </p>
        <TypedField label="Type the tenant’s id" expected={tenant.id} value={typed} onInput={setTyped} />
        <ReasonField value={reason} onInput={setReason} />
        {given ? (
          <p>
            Consent: <span class="mono wrap-anywhere">{document_id}</span>
            <span class="sub-line">
              recorded by {recorded_by}, <When time={at} />
            </span>
          </p>
        ) : (
          <p class="form-error">
            No consent is on record, so this tenant cannot be armed. Record the signed document first, or have it recorded on the host:{' '}
            <code>argusd tenant consent record</code>
          </p>
        )}
        <label class="check">
          <input type="checkbox" checked={sure} onChange={(e) => setSure(e.currentTarget.checked)} />
          The tenant has consented, and I know that this is recorded under my name.
        </label>
        <SubmitRow changer={changer} ready={ready} label="Arm" danger onClose={onClose} />
      </Form>
    </Dialog>
  );
}

export function DisarmDialog({ tenant, onClose, onDone }: { tenant: Tenant; onClose: () => void; onDone: (tenant: Tenant) => void }) {
  const changer = useChange();
  const [reason, setReason] = useState('');
  const live = tenant.sessions?.length ?? 0;
  return (
    <Dialog title="Disarm remote support" onClose={onClose}>
      <Form
        onSubmit={async () => {
          if (!validReason(reason)) return;
          const disarmed = await changer.run<Tenant>(path(tenant.id, 'disarm'), { reason: reason.trim() });
          if (!disarmed) return;
          toast(`${tenant.id} is disarmed.`, changer.auditId());
          onDone(disarmed);
        }}
      >
        <p>
          No new session with <b class="mono">{tenant.id}</b> can be started. {live > 0 && <b>The live session ends at once.</b>}
        </p>
        <ReasonField value={reason} onInput={setReason} autofocus />
        <SubmitRow changer={changer} ready={validReason(reason)} label="Disarm" onClose={onClose} />
      </Form>
    </Dialog>
  );
}

export function StartSessionDialog({ tenant, onClose, onDone }: { tenant: Tenant; onClose: () => void; onDone: () => void }) {
  const changer = useChange();
  const [reason, setReason] = useState('');
  const [minutes, setMinutes] = useState('30');
  const n = Number(minutes);
  const ready = validReason(reason) && Number.isInteger(n) && n >= 1 && n <= 120;
  return (
    <Dialog title="Start a support session" onClose={onClose}>
      <Form
        onSubmit={async () => {
          if (!ready) return;
          const session = await changer.run<SupportSession>(path(tenant.id, 'sessions'), { reason: reason.trim(), minutes: n });
          if (!session) return;
          toast(`The session with ${tenant.id} is live for ${n} minutes.`, changer.auditId());
          onDone();
        }}
      >
        <p class="muted">
          With <b>{tenant.name}</b>. It ends by itself when its time is over.
        </p>
        <ReasonField value={reason} onInput={setReason} autofocus />
        <Field label="Minutes" hint="1 to 120">
          {(id, hint) => (
            <input id={id} aria-describedby={hint} type="number" min="1" max="120" value={minutes} onInput={(e) => setMinutes(e.currentTarget.value)} />
          )}
        </Field>
        <SubmitRow changer={changer} ready={ready} label="Start" onClose={onClose} />
      </Form>
    </Dialog>
  );
}

export function EndSessionDialog({ tenantId, session, onClose, onDone }: { tenantId: string; session: string; onClose: () => void; onDone: () => void }) {
  const changer = useChange();
  const [reason, setReason] = useState('');
  const ready = reason.trim() === '' || validReason(reason);
  return (
    <Dialog title="End the support session" onClose={onClose}>
      <Form
        onSubmit={async () => {
          if (!ready) return;
          const ended = await changer.run<SupportSession>(
            path(tenantId, `sessions/${encodeURIComponent(session)}/end`),
            reason.trim() === '' ? {} : { reason: reason.trim() },
          );
          if (!ended) return;
          toast(`The session with ${tenantId} has ended.`, changer.auditId());
          onDone();
        }}
      >
        <p>
          The session with <b class="mono">{tenantId}</b> ends at once.
        </p>
        <ReasonField value={reason} onInput={setReason} autofocus optional />
        <SubmitRow changer={changer} ready={ready} label="End it" onClose={onClose} />
      </Form>
    </Dialog>
  );
}
