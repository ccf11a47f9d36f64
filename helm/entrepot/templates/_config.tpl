{{/* entrepot.yaml: `config`, what the chart sets, and the files with secrets. */}}

{{/* Nine tenths of a size such as 20Gi, as Entrepot writes sizes. */}}
{{- define "entrepot.diskBytes" -}}
{{- $size := ternary .Values.persistence.size .Values.ephemeral.size .Values.persistence.enabled -}}
{{- $number := regexFind "^[0-9]+" $size | int64 -}}
{{- $mebibytes := mul $number (get (dict "Mi" 1 "Gi" 1024 "Ti" 1048576) (regexFind "[MGT]i$" $size)) -}}
{{- printf "%dMiB" (div (mul $mebibytes 9) 10) -}}
{{- end -}}

{{- define "entrepot.config" -}}
{{- include "entrepot.demands" . -}}
{{- $all := ternary "[::]" "0.0.0.0" .Values.ipv6 -}}
{{- $own := dict
  "version" 1
  "listen" (printf "%s:5000" $all)
  "admin_listen" (printf "%s:5001" $all)
  "data_dir" "/var/lib/entrepot"
  "drain_delay_s" .Values.drain.delaySeconds
  "drain_s" .Values.drain.seconds
-}}
{{- if include "entrepot.fleet" . }}
{{- $_ := set $own "peer_listen" (printf "%s:5002" $all) }}
{{- end }}
{{- $config := deepCopy .Values.config -}}
{{- if not (hasKey $config "disk_bytes_max") }}
{{- $_ := set $config "disk_bytes_max" (include "entrepot.diskBytes" .) }}
{{- end }}
{{- /* An upstream without settings of its own is written as null. */ -}}
{{- range $name, $fields := $config.upstreams }}
{{- if not $fields }}{{ $_ := set $config.upstreams $name dict }}{{ end }}
{{- end }}
{{- mergeOverwrite $config $own (include "entrepot.secretSettings" . | fromYaml) | toYaml }}
{{- end -}}

{{/* Ports of `config.listeners`, as a YAML list. */}}
{{- define "entrepot.furtherPorts" -}}
{{- $ports := list -}}
{{- range .Values.config.listeners }}
{{- $ports = append $ports (regexFind "[0-9]+$" .listen | int) }}
{{- end }}
{{- toYaml $ports }}
{{- end -}}

{{/* What a schema can't say, as sentences. */}}
{{- define "entrepot.demands" -}}
{{- $config := .Values.config -}}
{{- if include "entrepot.fleet" . }}
{{- if not $config.redis }}
{{- fail "config.redis is missing: replicas find each other through Redis. For one replica that needs neither Redis nor S3, set mode=single." }}
{{- end }}
{{- if not (dig "s3" "bucket" "" ($config.storage | default dict)) }}
{{- fail "config.storage.s3 with a bucket is missing: replicas share content through it. For one replica that needs neither Redis nor S3, set mode=single." }}
{{- end }}
{{- else }}
{{- if .Values.autoscaling.enabled }}
{{- fail "autoscaling needs mode=fleet: replicas that share nothing would each fetch everything." }}
{{- end }}
{{- end }}
{{- if and .Values.metrics.serviceMonitor.enabled .Values.metrics.podMonitor.enabled }}
{{- fail "metrics.serviceMonitor and metrics.podMonitor: enable one, or each replica is scraped twice." }}
{{- end }}
{{- range include "entrepot.furtherPorts" . | fromYamlArray }}
{{- if has (int .) (list 0 5000 5001 5002) }}
{{- fail "config.listeners needs ports other than 5000, 5001 and 5002, which the chart itself uses." }}
{{- end }}
{{- end }}
{{- if and .Values.tls.clientCa (not .Values.tls.existingSecret) }}
{{- fail "tls.clientCa needs tls.existingSecret." }}
{{- end }}
{{- if and .Values.tls.clientCa .Values.nodeConfigurator.enabled }}
{{- fail "nodeConfigurator can't be together with tls.clientCa: nodes would need certificates that it does not have." }}
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) }}
{{- fail "ingress.hosts is empty." }}
{{- end }}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) }}
{{- fail "autoscaling.minReplicas is above autoscaling.maxReplicas." }}
{{- end }}
{{- end -}}
