// The dialogs that keep tenants: add or change, record a consent, retire.

import { useState } from 'preact/hooks';
import { useChange } from '../lib/change';
import { given } from '../lib/text';
import type { Tenant } from '../lib/types';
import { Dialog } from '../ui/dialog';
import { Field, ReasonField, TypedField, validReason } from '../ui/fields';
import { toast } from '../ui/toast';
import { Form, SubmitRow } from './tenant-actions';

const ID = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$/;

/** Adds a tenant, or changes the one that is given. A retired one comes back by it. */
export function TenantDialog({ tenant, onClose, onDone }: { tenant?: Tenant; onClose: () => void; onDone: (tenant: Tenant) => void }) {
  const changer = useChange();
  const [id, setId] = useState(tenant?.id ?? '');
  const [name, setName] = useState(tenant?.name ?? '');
  const [agents, setAgents] = useState(String(tenant?.agents ?? 0));
  const [reason, setReason] = useState('');
  const n = Number(agents);
  const ready = ID.test(id) && given('name', name, 1, 200).error === null && /^\d+$/.test(agents) && n <= 1_000_000 && validReason(reason);
  const title = !tenant ? 'Add a tenant' : tenant.retired ? 'Bring the tenant back' : 'Change the tenant';
  return (
    <Dialog title={title} onClose={onClose}>
      <Form
        onSubmit={async () => {
          if (!ready) return;
          const body = { name: name.trim(), agents: n, reason: reason.trim(), ...(tenant?.retired && { reinstate: true }) };
          const kept = await changer.run<Tenant>(`/v1/tenants/${encodeURIComponent(id)}`, body, 'PUT');
          if (!kept) return;
          toast(tenant ? `${kept.id} is changed.` : `${kept.id} is added.`, changer.auditId());
          onDone(kept);
        }}
      >
        <Field label="Id" hint="Letters, digits, _ . and -. It stays as it is.">
          {(field, hint) => (
            <input
              id={field}
              aria-describedby={hint}
              class="mono"
              value={id}
              disabled={tenant !== undefined}
              autofocus={!tenant}
              autocomplete="off"
              maxLength={100}
              onInput={(e) => setId(e.currentTarget.value)}
            />
          )}
        </Field>
        <Field label="Name">
          {(field) => <input id={field} value={name} autofocus={tenant !== undefined} autocomplete="off" onInput={(e) => setName(e.currentTarget.value)} />}
        </Field>
        <Field label="Agents">
          {(field) => <input id={field} type="number" min="0" max="1000000" value={agents} onInput={(e) => setAgents(e.currentTarget.value)} />}
        </Field>
        <ReasonField value={reason} onInput={setReason} />
        <SubmitRow changer={changer} ready={ready} label={!tenant ? 'Add' : tenant.retired ? 'Bring back' : 'Change'} onClose={onClose} />
      </Form>
    </Dialog>
  );
}

export function ConsentDialog({ tenant, onClose, onDone }: { tenant: Tenant; onClose: () => void; onDone: (tenant: Tenant) => void }) {
  const changer = useChange();
  const [document, setDocument] = useState('');
  const [reason, setReason] = useState('');
  const ready = given('consent_document_id', document, 1, 200).error === null && validReason(reason);
  return (
    <Dialog title="Record the tenant’s consent" onClose={onClose}>
      <Form
        onSubmit={async () => {
          if (!ready) return;
          const kept = await changer.run<Tenant>(
            `/v1/tenants/${encodeURIComponent(tenant.id)}/consent`,
            { document_id: document.trim(), reason: reason.trim() },
            'PUT',
          );
          if (!kept) return;
          toast(`The consent of ${kept.id} is recorded.`, changer.auditId());
          onDone(kept);
        }}
      >
        <p class="muted">
          The document that <b>{tenant.name}</b> signed becomes its consent to remote support
          {tenant.consent.document_id && <>, in place of {tenant.consent.document_id}</>}. Another person than you arms the tenant on it.
        </p>
        <Field label="Document" hint="Its id counts once.">
          {(field, hint) => (
            <input
              id={field}
              aria-describedby={hint}
              class="mono"
              value={document}
              autofocus
              autocomplete="off"
              onInput={(e) => setDocument(e.currentTarget.value)}
            />
          )}
        </Field>
        <ReasonField value={reason} onInput={setReason} />
        <SubmitRow changer={changer} ready={ready} label="Record" onClose={onClose} />
      </Form>
    </Dialog>
  );
}

export function RetireDialog({ tenant, onClose, onDone }: { tenant: Tenant; onClose: () => void; onDone: (tenant: Tenant) => void }) {
  const changer = useChange();
  const [typed, setTyped] = useState('');
  const [reason, setReason] = useState('');
  const ready = typed === tenant.id && validReason(reason);
  return (
    <Dialog title="Retire the tenant" onClose={onClose}>
      <Form
        onSubmit={async () => {
          if (!ready) return;
          const kept = await changer.run<Tenant>(`/v1/tenants/${encodeURIComponent(tenant.id)}`, { reason: reason.trim() }, 'DELETE');
          if (!kept) return;
          toast(`${kept.id} is retired.`, changer.auditId());
          onDone(kept);
        }}
      >
        <p>
          <b>{tenant.name}</b> cannot be armed any more, and leaves the list. Nothing about it is deleted.
        </p>
        <TypedField label="Type the tenant’s id" expected={tenant.id} value={typed} onInput={setTyped} />
        <ReasonField value={reason} onInput={setReason} />
        <SubmitRow changer={changer} ready={ready} label="Retire" danger onClose={onClose} />
      </Form>
    </Dialog>
  );
}
