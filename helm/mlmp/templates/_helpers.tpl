{{- /* Of one part: "mlmp.name" (list . "hub") */}}
{{- define "mlmp.name" -}}
{{ printf "%s-%s" (index . 0).Release.Name (index . 1) | trunc 63 }}
{{- end }}

{{- define "mlmp.selector" -}}
app.kubernetes.io/name: mlmp
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "mlmp.labels" -}}
{{ include "mlmp.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ printf "%s-%s" (index . 0).Chart.Name (index . 0).Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "mlmp.image" -}}
{{ .Values.image.name }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "mlmp.users" -}}
{{ .Values.users.namespace | default .Release.Namespace }}
{{- end }}

{{- define "mlmp.secret" -}}
{{ .Values.secrets.existingSecret | default (include "mlmp.name" (list . "secrets")) }}
{{- end }}

{{- define "mlmp.homes" -}}
{{ .Values.users.storage.existingClaim | default (include "mlmp.name" (list . "homes")) }}
{{- end }}

{{- define "mlmp.jobFiles" -}}
{{ .Values.jobs.files.existingClaim | default (include "mlmp.name" (list . "jobs")) }}
{{- end }}

{{- define "mlmp.catalog" -}}
{{ .Values.catalog.existingConfigMap | default (include "mlmp.name" (list . "catalog")) }}
{{- end }}

{{- /* Whether anything can be booked yet; empty is no. */}}
{{- define "mlmp.hasCatalog" -}}
{{- if or .Values.catalog.existingConfigMap (and .Values.catalog.nodes .Values.catalog.profiles) }}yes{{ end }}
{{- end }}

{{- /* Whether the database is the one in the chart. */}}
{{- define "mlmp.ownDatabase" -}}
{{- if not (or .Values.database.url .Values.database.existingSecret.name) }}yes{{ end }}
{{- end }}

{{- /* Which database it is: what is read from a Secret at the start does not restart anything by itself. */}}
{{- define "mlmp.database" -}}
{{ list .Values.database.url .Values.database.existingSecret (include "mlmp.secret" .) | toJson }}
{{- end }}

{{- /* Whether the login is the one for trying out. */}}
{{- define "mlmp.trial" -}}
{{- if not (dig "JupyterHub" "authenticator_class" "" .Values.hub.config) }}yes{{ end }}
{{- end }}

{{- /* For the account with this number. */}}
{{- define "mlmp.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "mlmp.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- /* What all our pods have: "mlmp.pod" (list . "hub" .Values.hub) */}}
{{- define "mlmp.pod" -}}
{{- $root := index . 0 }}{{ $part := index . 2 -}}
enableServiceLinks: false
securityContext:
  {{- include "mlmp.podSecurity" (ternary 999 1000 (eq (index . 1) "postgresql")) | nindent 2 }}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with $part.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $part.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* One of the secrets: "mlmp.fromSecret" (list . "service-token") */}}
{{- define "mlmp.fromSecret" -}}
valueFrom: {secretKeyRef: {name: {{ include "mlmp.secret" (index . 0) }}, key: {{ index . 1 }}}}
{{- end }}

{{- define "mlmp.databaseEnv" -}}
- name: MLMP_DB_URL
{{- with .Values.database.existingSecret }}
{{- if .name }}
  valueFrom: {secretKeyRef: {name: {{ .name }}, key: {{ .key }}}}
{{- else }}
  {{- include "mlmp.fromSecret" (list $ "database-url") | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Of hub and service. */}}
{{- define "mlmp.env" -}}
{{ include "mlmp.databaseEnv" . }}
- name: MLMP_SERVICE_TOKEN
  {{- include "mlmp.fromSecret" (list . "service-token") | nindent 2 }}
- name: CONFIGPROXY_AUTH_TOKEN
  {{- include "mlmp.fromSecret" (list . "proxy-token") | nindent 2 }}
- {name: HOME, value: /tmp}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
{{- end }}

{{- define "mlmp.extraEnv" -}}
{{- with .Values.hub.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "mlmp.mounts" -}}
- {name: values, mountPath: /etc/mlmp/values, readOnly: true}
- {name: catalog, mountPath: /etc/mlmp/catalog, readOnly: true}
- {name: tmp, mountPath: /tmp}
{{- end }}

{{- define "mlmp.volumes" -}}
- name: values
  secret: {secretName: {{ include "mlmp.name" (list . "config") }}}
- name: catalog
  configMap: {name: {{ include "mlmp.catalog" . }}}
- name: tmp
  emptyDir: {}
{{- end }}

{{- /* Brings the database's tables up to date; several may start at once. It ends with 3 while the database does not
answer, and with 2 where the hub's own tables are of another JupyterHub: (list . "command") then upgrades those. */}}
{{- define "mlmp.migrate" -}}
- name: database
  image: {{ include "mlmp.image" (index . 0) }}
  imagePullPolicy: {{ (index . 0).Values.image.pullPolicy }}
  command:
    - sh
    - -c
    - |
      tried=
      while :; do
        mlmp db upgrade --db-url "$MLMP_DB_URL" && exit 0
        status=$?
        {{- with index . 1 }}
        if [ "$status" = 2 ] && [ -z "$tried" ]; then
          tried=yes
          {{ . }} && continue
        fi
        {{- end }}
        [ "$status" = 3 ] || exit "$status"
        sleep 1
      done
  env:
    {{- include "mlmp.env" (index . 0) | nindent 4 }}
    {{- include "mlmp.extraEnv" (index . 0) | nindent 4 }}
  {{- with (index . 0).Values.hub.envFrom }}
  envFrom:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  resources:
    requests: {cpu: 50m, memory: 128Mi}
    limits: {memory: 512Mi}
  securityContext:
    {{- include "mlmp.containerSecurity" (index . 0) | nindent 4 }}
  volumeMounts:
    {{- include "mlmp.mounts" (index . 0) | nindent 4 }}
{{- end }}
