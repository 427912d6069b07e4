{{- define "acsbridge.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- define "acsbridge.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains (include "acsbridge.name" .) .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "acsbridge.name" .) | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "acsbridge.selectorLabels" -}}
app.kubernetes.io/name: {{ include "acsbridge.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "acsbridge.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "acsbridge.selectorLabels" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "acsbridge.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "acsbridge.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* bridge.yaml: config, and the settings that other values decide. */}}
{{- define "acsbridge.settings" -}}
{{- $settings := deepCopy .Values.config }}
{{- $files := "/etc/acsbridge/secrets" }}
{{- $_ := set $settings "shutdown-delay" (printf "%ds" (int .Values.shutdown.delaySeconds)) }}
{{- $_ := set $settings "shutdown-timeout" (printf "%ds" (int .Values.shutdown.timeoutSeconds)) }}
{{- if not .Values.persistence.enabled }}
{{- $_ := set $settings "journal" "off" }}
{{- end }}
{{- range $setting, $ref := .Values.secretFiles }}
{{- $_ := set $settings $setting (printf "%s/%s" $files $setting) }}
{{- end }}
{{- range $setting, $keys := dict "callback-key" .Values.callbackKeys "eventgrid-key" .Values.eventgridKeys }}
{{- if $keys }}
{{- $list := list }}
{{- range $keys }}
{{- $list = append $list (printf "%s=%s/%s-%s" .name $files $setting .name) }}
{{- end }}
{{- $_ := set $settings $setting $list }}
{{- end }}
{{- end }}
{{- if .Values.tls.secretName }}
{{- $_ := set $settings "tls-cert" "/etc/acsbridge/tls/tls.crt" }}
{{- $_ := set $settings "tls-key" "/etc/acsbridge/tls/tls.key" }}
{{- end }}
{{- if .Values.metrics.enabled }}
{{- $_ := set $settings "admin-listen" ":9090" }}
{{- if .Values.metrics.insecure }}
{{- $_ := set $settings "admin-insecure" true }}
{{- else if not (hasKey .Values.secretFiles "admin-token-file") }}
{{- fail "metrics.enabled needs secretFiles.admin-token-file, or metrics.insecure" }}
{{- end }}
{{- end }}
{{- toYaml $settings }}
{{- end }}

{{/* The paths that callbacks and deliveries of Event Grid come to. */}}
{{- define "acsbridge.paths" -}}
{{- $paths := list (index .Values.config "callback-path" | default "/callbacks") }}
{{- if or .Values.eventgridKeys (index .Values.config "eventgrid-tenant") }}
{{- $paths = append $paths (index .Values.config "eventgrid-path" | default "/eventgrid") }}
{{- end }}
{{- toJson $paths }}
{{- end }}
