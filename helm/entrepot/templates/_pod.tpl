{{/* The pod, the same for Deployment and StatefulSet. */}}

{{- define "entrepot.probe" -}}
httpGet:
  path: {{ .path }}
  port: admin
timeoutSeconds: 5
{{- end -}}

{{- define "entrepot.spread" -}}
{{- $selector := dict "matchLabels" (include "entrepot.selector" . | fromYaml) -}}
{{- $constraints := .Values.topologySpreadConstraints | default (list
  (dict "maxSkew" 1 "topologyKey" "topology.kubernetes.io/zone" "whenUnsatisfiable" "ScheduleAnyway")
  (dict "maxSkew" 1 "topologyKey" "kubernetes.io/hostname" "whenUnsatisfiable" "ScheduleAnyway")
) -}}
{{- range $constraints }}
{{- $_ := set . "labelSelector" (.labelSelector | default $selector) }}
{{- end }}
{{- toYaml $constraints }}
{{- end -}}

{{- define "entrepot.pod" -}}
metadata:
  labels:
    {{- include "entrepot.labels" (dict "root" . "component" "proxy") | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    checksum/config: {{ include "entrepot.config" . | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "entrepot.serviceAccount" . }}
  automountServiceAccountToken: {{ .Values.serviceAccount.automountToken }}
  # A Service called entrepot would put ENTREPOT_… into the environment.
  enableServiceLinks: false
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- toYaml .Values.podSecurityContext | nindent 4 }}
  terminationGracePeriodSeconds: {{ add .Values.drain.delaySeconds .Values.drain.seconds 15 }}
  containers:
    - name: entrepot
      image: {{ include "entrepot.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      command: ["entrepot", "serve", "--config", "/etc/entrepot/entrepot.yaml"]
      {{- if or (include "entrepot.fleet" .) .Values.extraEnv }}
      env:
        {{- if include "entrepot.fleet" . }}
        - name: POD_IP
          valueFrom:
            fieldRef:
              fieldPath: status.podIP
        - name: ENTREPOT_ADVERTISE_URL
          value: {{ printf "http://%s:5002" (ternary "[$(POD_IP)]" "$(POD_IP)" .Values.ipv6) | quote }}
        {{- end }}
        {{- with .Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- end }}
      {{- with .Values.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - name: registry
          containerPort: 5000
          {{- if .Values.hostPort.enabled }}
          hostPort: {{ .Values.hostPort.port }}
          {{- with .Values.hostPort.hostIP }}
          hostIP: {{ . | quote }}
          {{- end }}
          {{- end }}
        - name: admin
          containerPort: 5001
        {{- if include "entrepot.fleet" . }}
        - name: peers
          containerPort: 5002
        {{- end }}
        {{- range include "entrepot.furtherPorts" . | fromYamlArray }}
        - name: pulls-{{ . }}
          containerPort: {{ . }}
        {{- end }}
      # Reads what is on the disk before it listens, so a large local tier takes a while.
      startupProbe:
        {{- include "entrepot.probe" (dict "path" "/livez") | nindent 8 }}
        periodSeconds: 2
        failureThreshold: 150
      livenessProbe:
        {{- include "entrepot.probe" (dict "path" "/livez") | nindent 8 }}
        periodSeconds: 10
        failureThreshold: 6
      readinessProbe:
        {{- include "entrepot.probe" (dict "path" "/readyz") | nindent 8 }}
        periodSeconds: 2
        failureThreshold: 2
      securityContext:
        {{- toYaml .Values.securityContext | nindent 8 }}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        - name: config
          mountPath: /etc/entrepot
          readOnly: true
        - name: data
          mountPath: /var/lib/entrepot
        - name: tmp
          mountPath: /tmp
        {{- if include "entrepot.sources" . }}
        - name: secrets
          mountPath: {{ include "entrepot.secretsFolder" . }}
          readOnly: true
        {{- end }}
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ include "entrepot.fullname" . }}
    {{- if not .Values.persistence.enabled }}
    - name: data
      emptyDir:
        sizeLimit: {{ .Values.ephemeral.size }}
    {{- end }}
    - name: tmp
      emptyDir:
        sizeLimit: 64Mi
    {{- with include "entrepot.sources" . }}
    - name: secrets
      projected:
        defaultMode: 0440
        sources:
          {{- . | trim | nindent 10 }}
    {{- end }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  topologySpreadConstraints:
    {{- include "entrepot.spread" . | nindent 4 }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
{{- end -}}
