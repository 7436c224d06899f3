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
{{- if and $v.database.url $v.database.existingSecret.name }}
{{- fail "database: give url or existingSecret.name, not both" }}
{{- end }}
{{- if and $v.users.storage.existingClaim (ne $v.users.storage.type "shared") }}
{{- fail (printf "users.storage.existingClaim: is for type shared; the type is %s" $v.users.storage.type) }}
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
