{{/* The name of the release's objects: the release, with the chart's name unless the release is named after it. */}}
{{- define "gptproto-gateway.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* The name of the pod's own objects: those of the application where the gateway is its sidecar. */}}
{{- define "gptproto-gateway.podName" -}}
{{- if eq .Values.mode "sidecar" -}}{{ .Values.app.name }}{{- else -}}{{ include "gptproto-gateway.fullname" . }}{{- end -}}
{{- end -}}

{{/* What selects the pod. */}}
{{- define "gptproto-gateway.selector" -}}
app.kubernetes.io/name: {{ if eq .Values.mode "sidecar" }}{{ .Values.app.name }}{{ else }}{{ default .Chart.Name .Values.nameOverride }}{{ end }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Labels of every object. */}}
{{- define "gptproto-gateway.labels" -}}
{{ include "gptproto-gateway.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "gptproto-gateway.secretName" -}}
{{- default (include "gptproto-gateway.fullname" .) .Values.secret.name -}}
{{- end -}}

{{/* The settings: those of the mode, and over them those of `config`. A YAML map of section to keys. */}}
{{- define "gptproto-gateway.config" -}}
{{- $listen := ternary "127.0.0.1:8787" "0.0.0.0:8787" (eq .Values.mode "sidecar") -}}
{{- $config := dict
      "server" (dict "listen" $listen)
      "operator" (dict "listen" "0.0.0.0:8788")
      "storage" (dict "directory" "/data")
      "log" (dict "format" "json") -}}
{{- if eq .Values.mode "sidecar" -}}
{{- $_ := set $config.storage "results_bytes_max" "5000000000" -}}
{{- $_ := set $config.storage "spool_bytes_max" "2000000000" -}}
{{- end -}}
{{- toYaml (mergeOverwrite $config (deepCopy .Values.config)) -}}
{{- end -}}

{{/* A value of the configuration as a variable has it. Numbers of values.yaml are floats, so 5000000000 would be 5e+09. */}}
{{- define "gptproto-gateway.value" -}}
{{- if kindIs "float64" . -}}
{{- if eq . (floor .) -}}{{ printf "%.0f" . }}{{- else -}}{{ . }}{{- end -}}
{{- else if kindIs "slice" . -}}
{{- join "," . -}}
{{- else if kindIs "map" . -}}
{{- $pairs := list -}}
{{- range $name, $value := . }}{{- $pairs = append $pairs (printf "%s=%v" $name $value) -}}{{- end -}}
{{- join "," $pairs -}}
{{- else -}}
{{- toString . -}}
{{- end -}}
{{- end -}}

{{/* The gateway's container. `.Values.mode` decides on ports, readiness and the restart policy of a sidecar. */}}
{{- define "gptproto-gateway.container" -}}
- name: gateway
  image: {{ printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  {{- if eq .Values.mode "sidecar" }}
  restartPolicy: Always
  {{- end }}
  args:
    - serve
  envFrom:
    - configMapRef:
        name: {{ include "gptproto-gateway.fullname" . }}
  env:
    - name: GPTPROTO_API_KEY_FILE
      value: /run/secrets/gptproto-gateway/gptproto-api-key
    - name: GATEWAY_CLIENT_KEYS_FILE
      value: /run/secrets/gptproto-gateway/client-keys
    {{- with .Values.env }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  ports:
    {{- if ne .Values.mode "sidecar" }}
    - name: client
      containerPort: 8787
    {{- end }}
    - name: operator
      containerPort: 8788
  startupProbe:
    httpGet:
      path: /healthz
      port: operator
    periodSeconds: 2
    timeoutSeconds: 2
    failureThreshold: 150
  livenessProbe:
    httpGet:
      path: /healthz
      port: operator
    periodSeconds: 10
    timeoutSeconds: 5
    failureThreshold: 6
  {{- /* The application decides whether its pod is ready; an outage of GPTProto must not take it out of service. */}}
  {{- if ne .Values.mode "sidecar" }}
  readinessProbe:
    httpGet:
      path: /readyz
      port: operator
    periodSeconds: 5
    timeoutSeconds: 3
    failureThreshold: 2
  {{- end }}
  resources:
    {{- toYaml .Values.resources | nindent 4 }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities:
      drop:
        - ALL
  volumeMounts:
    - name: data
      mountPath: /data
    - name: keys
      mountPath: /run/secrets/gptproto-gateway
      readOnly: true
    {{- with .Values.volumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
