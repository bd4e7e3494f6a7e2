{{- define "argus.name" -}}
{{- if contains "argus" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-argus" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end -}}
{{- end }}

{{/* Call with (list . "component"). */}}
{{- define "argus.selector" -}}
app.kubernetes.io/name: argus
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Of a replicator, where ARGUS_CLICKHOUSE_URL names several servers: which it copies to. */}}
{{- define "argus.copy" -}}
{{- with . }}
argus/copy: {{ . }}
{{- end }}
{{- end }}

{{- define "argus.copyEnv" -}}
{{- with . }}
- {name: ARGUS_COPY, value: {{ . | quote }}}
{{- end }}
{{- end }}

{{- define "argus.labels" -}}
{{ include "argus.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ printf "%s-%s" (index . 0).Chart.Name (index . 0).Chart.Version }}
{{- end }}

{{/* What every pod has: nothing of the cluster, no root, no writable disk. */}}
{{- define "argus.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532   # reads the mounted Secret
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "argus.container" -}}
image: {{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* Replicas apart: over zones and nodes, as far as there are any. */}}
{{- define "argus.spread" -}}
topologySpreadConstraints:
  {{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ $key }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{ include "argus.selector" $ | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- end }}

{{/* Secrets are files under the variables' names: no environment, and so no child and no dump, holds them. */}}
{{- define "argus.secretEnv" -}}
- {name: CREDENTIALS_DIRECTORY, value: /run/secrets/argus}
{{- end }}

{{- define "argus.secretMounts" -}}
volumeMounts:
  - {name: secrets, mountPath: /run/secrets/argus, readOnly: true}
{{- end }}

{{/* Call with the Secret's name. */}}
{{- define "argus.secretVolume" -}}
volumes:
  - name: secrets
    secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}

{{- define "argus.logEnv" -}}
- {name: ARGUS_LOG_LEVEL, value: {{ .Values.log.level | quote }}}
- {name: ARGUS_LOG_FORMAT, value: {{ .Values.log.format | quote }}}
{{- end }}

{{- define "argus.apiEnv" -}}
{{ include "argus.logEnv" . }}
- {name: ARGUS_LISTEN, value: ":8420"}
- {name: ARGUS_METRICS_LISTEN, value: ":9420"}
- {name: ARGUS_TRUSTED_PROXIES, value: {{ join "," .Values.api.trustedProxies | quote }}}
- {name: ARGUS_CLERK_ISSUER, value: {{ .Values.clerk.issuer | quote }}}
- {name: ARGUS_CLERK_PUBLISHABLE_KEY, value: {{ .Values.clerk.publishableKey | quote }}}
- {name: ARGUS_CLERK_ORGANIZATION, value: {{ .Values.clerk.organization | quote }}}
- {name: ARGUS_CLERK_AUTHORIZED_PARTIES, value: {{ join "," .Values.clerk.authorizedParties | quote }}}
- {name: ARGUS_CLERK_ROLE_SCOPES, value: {{ .Values.clerk.roleScopes | quote }}}
- {name: ARGUS_CLERK_API_URL, value: {{ .Values.clerk.apiURL | quote }}}
{{- if .Values.identity }}
- {name: ARGUS_IDENTITY_FILE, value: /etc/argus/identity.yaml}
{{- end }}
{{- if .Values.services.files }}
- {name: ARGUS_SERVICES_FILE, value: /etc/argus/services/services.yaml}
- {name: ARGUS_PUBLIC_URL, value: {{ .Values.services.publicURL | quote }}}
{{- end }}
{{ include "argus.secretEnv" . }}
{{- end }}

{{- define "argus.replicatorEnv" -}}
{{ include "argus.logEnv" . }}
- {name: ARGUS_METRICS_LISTEN, value: ":9421"}
- {name: ARGUS_REPLICATION_SLOT, value: {{ .Values.replicator.slot | quote }}}
{{ include "argus.secretEnv" . }}
{{- end }}

{{- define "argus.shipEnv" -}}
{{ include "argus.logEnv" . }}
- {name: ARGUS_METRICS_LISTEN, value: ":9423"}
- {name: ARGUS_SINKS_FILE, value: /run/secrets/argus/sinks.yaml}
- {name: ARGUS_RETENTION_DAYS, value: {{ .Values.ship.retentionDays | quote }}}
{{ include "argus.secretEnv" . }}
{{- end }}

{{- define "argus.maintainEnv" -}}
{{ include "argus.logEnv" . }}
{{ include "argus.secretEnv" . }}
{{- end }}
