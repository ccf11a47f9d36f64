{{/*
Files below /run/secrets/entrepot: one projected volume of all that is referred to
by name, and the settings that name those files. Both are made here, from the same
loops, so that neither can be forgotten.
*/}}

{{- define "entrepot.secretsFolder" -}}/run/secrets/entrepot{{- end -}}

{{/* One source of a projected volume; call with (dict "from" <reference> "items" <path: key>). */}}
{{- define "entrepot.source" -}}
{{- $configMap := .from.existingConfigMap -}}
- {{ ternary "configMap" "secret" (not (empty $configMap)) }}:
    name: {{ $configMap | default .from.existingSecret }}
    items:
      {{- range $path, $key := .items }}
      - key: {{ $key | quote }}
        path: {{ $path | quote }}
      {{- end }}
{{- end -}}

{{- define "entrepot.sources" -}}
{{- $credentials := .Values.credentials -}}
{{- if include "entrepot.fleet" . }}
{{ include "entrepot.source" (dict "from" (dict "existingSecret" (include "entrepot.peerSecretName" .)) "items" (dict "peers" (ternary $credentials.peers.key "peer-secret" (not (empty $credentials.peers.existingSecret))))) }}
{{- end }}
{{- range $name, $one := $credentials.upstreams }}
{{- $folder := printf "upstreams/%s" $name }}
{{- $items := dict (printf "%s/username" $folder) ($one.usernameKey | default "username") (printf "%s/password" $folder) ($one.passwordKey | default "password") }}
{{- if $one.proxyKey }}
{{- $_ := set $items (printf "%s/proxy" $folder) $one.proxyKey }}
{{- end }}
{{ include "entrepot.source" (dict "from" $one "items" $items) }}
{{- end }}
{{- with $credentials.s3 }}
{{- if .existingSecret }}
{{- $items := dict "s3/access-key" .accessKeyKey "s3/secret-key" .secretKeyKey }}
{{- if .sessionTokenKey }}
{{- $_ := set $items "s3/session-token" .sessionTokenKey }}
{{- end }}
{{ include "entrepot.source" (dict "from" . "items" $items) }}
{{- end }}
{{- end }}
{{- with $credentials.redis }}
{{- if .existingSecret }}
{{- $items := dict "redis/password" .passwordKey }}
{{- if .usernameKey }}
{{- $_ := set $items "redis/username" .usernameKey }}
{{- end }}
{{ include "entrepot.source" (dict "from" (dict "existingSecret" .existingSecret) "items" $items) }}
{{- end }}
{{- if .certificateSecret }}
{{ include "entrepot.source" (dict "from" (dict "existingSecret" .certificateSecret) "items" (dict "redis/tls.crt" "tls.crt" "redis/tls.key" "tls.key")) }}
{{- end }}
{{- end }}
{{- with $credentials.dockerConfig }}
{{- if .existingSecret }}
{{ include "entrepot.source" (dict "from" . "items" (dict "docker/config.json" .key)) }}
{{- end }}
{{- end }}
{{- range $name, $one := .Values.trust.upstreams }}
{{ include "entrepot.source" (dict "from" $one "items" (dict (printf "upstreams/%s/ca.crt" $name) ($one.key | default "ca.crt"))) }}
{{- end }}
{{- range $name := list "s3" "redis" }}
{{- with index $.Values.trust $name }}
{{ include "entrepot.source" (dict "from" . "items" (dict (printf "%s/ca.crt" $name) (.key | default "ca.crt"))) }}
{{- end }}
{{- end }}
{{- range $number, $one := .Values.trust.bundles }}
{{ include "entrepot.source" (dict "from" $one "items" (dict (printf "bundles/%d.pub" $number) ($one.key | default "bundle.pub"))) }}
{{- end }}
{{- with .Values.tls.existingSecret }}
{{ include "entrepot.source" (dict "from" (dict "existingSecret" .) "items" (dict "tls/tls.crt" "tls.crt" "tls/tls.key" "tls.key")) }}
{{- end }}
{{- with .Values.tls.clientCa }}
{{ include "entrepot.source" (dict "from" . "items" (dict "tls/client-ca.crt" (.key | default "ca.crt"))) }}
{{- end }}
{{- end -}}

{{/* As YAML to lay over `config`: which file holds what. */}}
{{- define "entrepot.secretSettings" -}}
{{- $folder := include "entrepot.secretsFolder" . -}}
{{- $credentials := .Values.credentials -}}
{{- $upstreams := dict -}}
{{- range $name, $one := $credentials.upstreams }}
{{- $of := printf "%s/upstreams/%s" $folder $name }}
{{- $fields := dict "username_file" (printf "%s/username" $of) "password_file" (printf "%s/password" $of) }}
{{- if $one.proxyKey }}
{{- $_ := set $fields "proxy_file" (printf "%s/proxy" $of) }}
{{- end }}
{{- $_ := set $upstreams $name $fields }}
{{- end }}
{{- range $name, $one := .Values.trust.upstreams }}
{{- $fields := get $upstreams $name | default dict }}
{{- $_ := set $upstreams $name (merge (dict "ca_file" (printf "%s/upstreams/%s/ca.crt" $folder $name)) $fields) }}
{{- end }}
{{- $s3 := dict }}
{{- if $credentials.s3.existingSecret }}
{{- $s3 = dict "access_key_file" (printf "%s/s3/access-key" $folder) "secret_key_file" (printf "%s/s3/secret-key" $folder) }}
{{- if $credentials.s3.sessionTokenKey }}
{{- $_ := set $s3 "session_token_file" (printf "%s/s3/session-token" $folder) }}
{{- end }}
{{- end }}
{{- if .Values.trust.s3 }}
{{- $_ := set $s3 "ca_file" (printf "%s/s3/ca.crt" $folder) }}
{{- end }}
{{- $redis := dict }}
{{- if $credentials.redis.existingSecret }}
{{- $_ := set $redis "password_file" (printf "%s/redis/password" $folder) }}
{{- if $credentials.redis.usernameKey }}
{{- $_ := set $redis "username_file" (printf "%s/redis/username" $folder) }}
{{- end }}
{{- end }}
{{- if $credentials.redis.certificateSecret }}
{{- $_ := set $redis "cert_file" (printf "%s/redis/tls.crt" $folder) }}
{{- $_ := set $redis "key_file" (printf "%s/redis/tls.key" $folder) }}
{{- end }}
{{- if .Values.trust.redis }}
{{- $_ := set $redis "ca_file" (printf "%s/redis/ca.crt" $folder) }}
{{- end }}
{{- $settings := dict }}
{{- if $upstreams }}{{ $_ := set $settings "upstreams" $upstreams }}{{ end }}
{{- if $s3 }}{{ $_ := set $settings "storage" (dict "s3" $s3) }}{{ end }}
{{- if $redis }}{{ $_ := set $settings "redis" $redis }}{{ end }}
{{- if include "entrepot.fleet" . }}{{ $_ := set $settings "peer_secret_file" (printf "%s/peers" $folder) }}{{ end }}
{{- if $credentials.dockerConfig.existingSecret }}{{ $_ := set $settings "docker_config_file" (printf "%s/docker/config.json" $folder) }}{{ end }}
{{- if .Values.trust.bundles }}
{{- $keys := list }}
{{- range $number, $one := .Values.trust.bundles }}{{ $keys = append $keys (printf "%s/bundles/%d.pub" $folder $number) }}{{ end }}
{{- $_ := set $settings "bundles" (dict "keys" $keys) }}
{{- end }}
{{- if .Values.tls.existingSecret }}
{{- $_ := set $settings "tls_cert_file" (printf "%s/tls/tls.crt" $folder) }}
{{- $_ := set $settings "tls_key_file" (printf "%s/tls/tls.key" $folder) }}
{{- end }}
{{- if .Values.tls.clientCa }}{{ $_ := set $settings "tls_client_ca_file" (printf "%s/tls/client-ca.crt" $folder) }}{{ end }}
{{- toYaml $settings }}
{{- end -}}
