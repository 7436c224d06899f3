{{- /* What hub and service read: mlmp_spawner/spawners/cluster_hub.py. */}}
{{- define "mlmp.values" -}}
{{- $v := .Values }}
{{- $here := .Release.Namespace }}
{{- $storage := $v.users.storage }}
{{- $users := dict
  "namespace" (include "mlmp.users" .)
  "storage" $storage.type
  "files" (include "mlmp.files" . | fromYaml)
  "size" $storage.size
  "storage_class" $storage.storageClass
  "access_modes" $storage.accessModes
  "uid" (int $v.users.uid)
  "gid" (int $v.users.gid)
  "uid_from" $v.users.uidFrom
  "gid_from" $v.users.gidFrom
  "guest_uid" (int $v.users.guestUid)
  "image_pull_secrets" $v.users.imagePullSecrets
  "priority_class" (ternary (include "mlmp.name" (list . "users")) "" $v.priorityClasses.create)
  "node_selector" $v.users.nodeSelector
  "tolerations" $v.users.tolerations
  "runtime_class" $v.users.runtimeClass
  "ssh_mode" $v.ssh.mode
  "ssh_image" (printf "%s:%s" $v.ssh.image.name ($v.ssh.image.tag | default .Chart.AppVersion)) }}
{{- dict
  "hub_url" (printf "http://%s.%s:8081" (include "mlmp.name" (list . "hub")) $here)
  "proxy_url" (printf "http://%s.%s:%d" (include "mlmp.name" (list . "proxy")) $here (int $v.proxy.service.port))
  "proxy_api_url" (printf "http://%s.%s:8001" (include "mlmp.name" (list . "proxy-api")) $here)
  "service_url" (printf "http://%s.%s:8090" (include "mlmp.name" (list . "service")) $here)
  "base_url" $v.baseUrl
  "public_url" $v.publicUrl
  "ssh_gateway" (ternary $v.ssh.gateway.address "" $v.ssh.gateway.enabled)
  "see_all_pods" $v.service.seeAllPods
  "preload_priority_class" (ternary (include "mlmp.name" (list . "preload")) "" $v.priorityClasses.create)
  "jobs" (dict
    "enabled" $v.jobs.enabled
    "image" (include "mlmp.image" .)
    "network_closed" $v.networkPolicies.enabled
    "declare_units" $v.jobs.declareUnits
    "pull_secrets" (concat $v.users.imagePullSecrets $v.imagePullSecrets | uniq))
  "users" $users
  "config" $v.hub.config
  "extra_config" $v.hub.extraConfig | toYaml }}
{{- end }}
