{{- /* What the schema can't say: how values go together. Every refusal names the field and what to write. */}}
{{- define "mlmp.check" -}}
{{- $v := .Values }}
{{- if and (include "mlmp.trial" .) (not $v.login.exposeTrial) (or $v.ingress.enabled (ne $v.proxy.service.type "ClusterIP")) }}
{{- fail "login: everybody who knows the two passwords for trying out would get in from outside. Set hub.config.JupyterHub.authenticator_class (see docs/how-to/kubernetes.md), or login.exposeTrial: true." }}
{{- end }}
{{- if and $v.ingress.enabled (not $v.ingress.hosts) }}
{{- fail "ingress.hosts: name at least one host, such as mlmp.example.org" }}
{{- end }}
{{- if and $v.users.createNamespace (not $v.users.namespace) }}
{{- fail "users.createNamespace: users.namespace says which; it is empty" }}
{{- end }}
{{- if and $v.users.createNamespace (eq $v.users.namespace .Release.Namespace) }}
{{- fail (printf "users.createNamespace: %s is the release's own namespace, which is there already. Choose another for users' pods, or leave users.namespace empty" .Release.Namespace) }}
{{- end }}
{{- if and (eq $v.ssh.mode "sidecar") (eq $v.users.storage.type "none") }}
{{- fail "ssh.mode: sidecar shows people's files, and users.storage.type none keeps none. Choose another type, or ssh.mode: environment" }}
{{- end }}
{{- if and $v.database.url $v.database.existingSecret.name }}
{{- fail "database: give url or existingSecret.name, not both" }}
{{- end }}
{{- if and $v.database.url $v.secrets.existingSecret }}
{{- fail (printf "database.url: the Secret %s, of secrets.existingSecret, says which database by its key database-url. Write it there, or name a Secret in database.existingSecret" $v.secrets.existingSecret) }}
{{- end }}
{{- if and $v.users.storage.existingClaim (ne $v.users.storage.type "shared") }}
{{- fail (printf "users.storage.existingClaim: is for type shared; the type is %s" $v.users.storage.type) }}
{{- end }}
{{- $storage := $v.users.storage }}
{{- if and (eq $storage.type "nfs") (not (and $storage.nfs.server $storage.nfs.path)) }}
{{- fail "users.storage.nfs: server and path say where the homes are, such as {server: 192.0.2.10, path: /exports/homes}" }}
{{- end }}
{{- if and $storage.nfs.server (ne $storage.type "nfs") }}
{{- fail (printf "users.storage.nfs: is for type nfs; the type is %s" $storage.type) }}
{{- end }}
{{- if and $storage.shared.nfs.server (not $storage.shared.nfs.path) }}
{{- fail "users.storage.shared.nfs: path says what of the server, such as /exports/shared" }}
{{- end }}
{{- if and $storage.shared.nfs.server $storage.shared.existingClaim }}
{{- fail "users.storage.shared: give existingClaim or nfs, not both" }}
{{- end }}
{{- if and (include "mlmp.foldersBy" .) (eq $storage.shared.existingClaim (include "mlmp.homes" .)) (not $storage.shared.path) }}
{{- fail (printf "users.storage.shared.path: %s is the claim of all homes, which everybody would read. Say which folder of it is for everybody" $storage.shared.existingClaim) }}
{{- end }}
{{- if and $storage.nfs.server (eq (lower $storage.nfs.server) (lower $storage.shared.nfs.server)) }}
{{- $homes := printf "%s/" (clean $storage.nfs.path | trimSuffix "/") }}
{{- $data := printf "%s/" (clean (printf "%s/%s" $storage.shared.nfs.path $storage.shared.path) | trimSuffix "/") }}
{{- if or (hasPrefix $homes $data) (hasPrefix $data $homes) }}
{{- fail (printf "users.storage.shared: %s and the homes, %s, are one within the other on %s: everybody would read all homes, or a user have the shared data as home. Keep them apart" $data $homes $storage.nfs.server) }}
{{- end }}
{{- end }}
{{- if and (eq $storage.type "shared") $storage.scratch.size (eq $storage.scratch.type "claim") }}
{{- fail "users.storage.scratch.type: claim has the kubelet give all volumes of a server to one group, the claim of all homes too. Choose node" }}
{{- end }}
{{- if and $storage.folders.systemClaim (ne $storage.type "shared") }}
{{- fail (printf "users.storage.folders.systemClaim: is for type shared; the type is %s" $storage.type) }}
{{- end }}
{{- if and (eq $storage.type "shared") (eq (include "mlmp.foldersBy" .) "root") (ne (include "mlmp.users" .) .Release.Namespace) (not $storage.folders.systemClaim) }}
{{- fail (printf "users.storage.folders.systemClaim: root makes the folders in the namespace %s; name a claim there for the same volume, or set users.storage.folders.by: user" .Release.Namespace) }}
{{- end }}
{{- if and $v.jobs.enabled (eq $storage.type "none") }}
{{- fail "jobs.enabled: a job's code and results are in its owner's home, and users.storage.type none keeps none. Choose another type" }}
{{- end }}
{{- if and .Release.IsUpgrade (not $v.jobs.enabled) }}
{{- /* Without it the service may not even look at them: their units would be given to others while they run. */}}
{{- $run := list }}
{{- range (lookup "v1" "Pod" (include "mlmp.users" .) "").items }}
{{- if and (eq (dig "metadata" "labels" "mlmp.dev/kind" "" .) "job") (not (has (dig "status" "phase" "" .) (list "Succeeded" "Failed"))) }}
{{- $run = append $run .metadata.name }}
{{- end }}
{{- end }}
{{- with $run }}
{{- fail (printf "jobs.enabled: %d pods of jobs are still there, such as %s, and false would leave them to nobody. Let them end first: jobs.enabled: true with hub.config.MLMP.jobs: false; see docs/how-to/jobs-on-kubernetes.md" (len .) (first .)) }}
{{- end }}
{{- end }}
{{- if and $v.users.gidFrom (not $v.users.uidFrom) }}
{{- fail "users.gidFrom: needs users.uidFrom" }}
{{- end }}
{{- if and $v.users.guestUid (not $v.users.uidFrom) }}
{{- fail "users.guestUid: needs users.uidFrom; without it guests run as users.uid, like everybody" }}
{{- end }}
{{- range $where, $server := dict "nfs" $storage.nfs.server "shared.nfs" $storage.shared.nfs.server }}
{{- with $server }}
{{- if and (not (regexMatch "^[0-9.]+$" .)) $v.networkPolicies.enabled $v.networkPolicies.users.internet (not $v.networkPolicies.users.fileServers) }}
{{- fail (printf "users.storage.%s.server: %s is a name; users' servers reach public addresses and must not reach that one. Write its address instead, or add it to networkPolicies.users.fileServers, such as [192.0.2.10/32]" $where .) }}
{{- end }}
{{- end }}
{{- end }}
{{- if and $v.ssh.gateway.enabled (not $v.ssh.gateway.address) }}
{{- fail "ssh.gateway.address: how do people reach it? host:port, such as ssh.example.org:22" }}
{{- end }}
{{- if and $v.ssh.gateway.enabled (eq $v.ssh.mode "none") }}
{{- fail "ssh.gateway.enabled: with ssh.mode none it would lead nowhere" }}
{{- end }}
{{- if and $v.catalog.existingConfigMap (or $v.catalog.nodes $v.catalog.images $v.catalog.profiles $v.catalog.limits) }}
{{- fail "catalog: give existingConfigMap or nodes, images, profiles and limits, not both" }}
{{- end }}
{{- range $v.catalog.order }}
{{- if not (hasKey $v.catalog.profiles .) }}
{{- fail (printf "catalog.order: there is no profile %s; there are: %s" . (keys $v.catalog.profiles | sortAlpha | join ", ")) }}
{{- end }}
{{- end }}
{{- range $name, $profile := $v.catalog.profiles }}
{{- range $profile.images }}
{{- if not (hasKey $v.catalog.images .) }}
{{- fail (printf "catalog.profiles.%s.images: there is no image %s; there are: %s" $name . (keys $v.catalog.images | sortAlpha | join ", ")) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
