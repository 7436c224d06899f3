{{- /* Users' files: mlmp_spawner/rules/storage.py reads what "mlmp.files" writes. */}}

{{- /* Who makes users' folders: root, user, or nobody (empty). */}}
{{- define "mlmp.foldersBy" -}}
{{- $storage := .Values.users.storage }}
{{- if eq $storage.type "nfs" }}{{ $storage.folders.by | default "root" }}{{ end }}
{{- if eq $storage.type "shared" }}{{ $storage.folders.by | default "user" }}{{ end }}
{{- end }}

{{- /* In which namespace: the release's own, unless the only claim is the users'. */}}
{{- define "mlmp.foldersIn" -}}
{{- $storage := .Values.users.storage }}
{{- if eq $storage.type "nfs" }}{{ .Release.Namespace }}{{ end }}
{{- if eq $storage.type "shared" }}{{ ternary .Release.Namespace (include "mlmp.users" .) (ne $storage.folders.systemClaim "") }}{{ end }}
{{- end }}

{{- define "mlmp.foldersClaim" -}}
{{- if eq (include "mlmp.foldersIn" .) (include "mlmp.users" .) }}{{ include "mlmp.homes" . }}
{{- else if eq .Values.users.storage.type "nfs" }}{{ include "mlmp.name" (list . "homes-system") }}
{{- else }}{{ .Values.users.storage.folders.systemClaim }}
{{- end }}
{{- end }}

{{- define "mlmp.files" -}}
{{- $v := .Values }}
{{- $storage := $v.users.storage }}
{{- $files := dict "home" $storage.mountPath }}
{{- if include "mlmp.foldersBy" . }}
{{- $here := eq (include "mlmp.foldersIn" .) .Release.Namespace }}
{{- $_ := set $files "claim" (include "mlmp.homes" .) }}
{{- $_ := set $files "folders" (dict
  "namespace" (include "mlmp.foldersIn" .)
  "claim" (include "mlmp.foldersClaim" .)
  "image" (include "mlmp.image" .)
  "by" (include "mlmp.foldersBy" .)
  "fs_group" (ternary (int $v.users.gid) nil (and (eq $storage.type "shared") (not $storage.existingClaim)))
  "pull_policy" $v.image.pullPolicy
  "pull_secrets" (ternary $v.imagePullSecrets $v.users.imagePullSecrets $here)
  "node_selector" $v.hub.nodeSelector
  "tolerations" $v.hub.tolerations) }}
{{- end }}
{{- with $storage.shared }}
{{- if or .existingClaim .nfs.server }}
{{- $_ := set $files "shared" (dict "claim" (.existingClaim | default (include "mlmp.name" (list $ "shared"))) "path" .path) }}
{{- end }}
{{- end }}
{{- with $storage.scratch }}
{{- if .size }}
{{- $_ := set $files "scratch" (dict "size" .size "type" .type "storage_class" .storageClass) }}
{{- end }}
{{- end }}
{{- toYaml $files }}
{{- end }}

{{- /* A place on a file server, as a claim: "mlmp.nfsClaim" (list . "homes" NAMESPACE .Values.users.storage.nfs "ReadWriteMany").
The volume is for this claim alone, and both stay after an uninstall, as does what is on the server. */}}
{{- define "mlmp.nfsClaim" -}}
{{- $root := index . 0 }}{{ $part := index . 1 }}{{ $namespace := index . 2 }}{{ $nfs := index . 3 }}{{ $mode := index . 4 }}
{{- $name := include "mlmp.name" (list $root $part) }}
{{- $volume := printf "%s-%s" $root.Release.Namespace $name }}
apiVersion: v1
kind: PersistentVolume
metadata:
  name: {{ $volume }}
  labels:
    {{- include "mlmp.labels" (list $root $part) | nindent 4 }}
  annotations:
    helm.sh/resource-policy: keep
spec:
  capacity: {storage: 10Gi}  # Kubernetes wants one, which then can't become less; the file server asks for none
  accessModes: [{{ $mode }}]
  persistentVolumeReclaimPolicy: Retain
  storageClassName: ""
  volumeMode: Filesystem
  claimRef: {apiVersion: v1, kind: PersistentVolumeClaim, namespace: {{ $namespace }}, name: {{ $name }}}
  {{- with $nfs.mountOptions }}
  mountOptions:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  nfs:
    server: {{ $nfs.server | quote }}
    path: {{ $nfs.path | quote }}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {{ $name }}
  namespace: {{ $namespace }}
  labels:
    {{- include "mlmp.labels" (list $root $part) | nindent 4 }}
  annotations:
    helm.sh/resource-policy: keep
spec:
  accessModes: [{{ $mode }}]
  storageClassName: ""
  volumeName: {{ $volume }}
  resources:
    requests: {storage: 10Gi}
---
{{ end }}
