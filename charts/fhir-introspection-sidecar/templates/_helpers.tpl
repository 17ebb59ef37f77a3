{{/* The chart's own scope, also when another chart includes a template of it. */}}
{{- define "fhir-introspection-sidecar.scope" -}}
{{- $own := index (.Subcharts | default dict) "fhir-introspection-sidecar" -}}
{{- if not $own -}}{{- $own = . -}}{{- end -}}
{{- dict "Values" $own.Values "AppVersion" ($own.Chart.AppVersion) | toYaml -}}
{{- end -}}

{{- define "fhir-introspection-sidecar.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "fhir-introspection-sidecar.selectorLabels" -}}
app.kubernetes.io/name: fhir-introspection-sidecar
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "fhir-introspection-sidecar.labels" -}}
{{ include "fhir-introspection-sidecar.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "fhir-introspection-sidecar.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "fhir-introspection-sidecar.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{/* repository and digest, or repository and tag */}}
{{- define "fhir-introspection-sidecar.imageRef" -}}
{{- if .digest -}}{{ .repository }}@{{ .digest }}{{- else -}}{{ .repository }}:{{ .tag }}{{- end -}}
{{- end -}}

{{/* Whole seconds of a Go duration such as 1m30s. */}}
{{- define "fhir-introspection-sidecar.seconds" -}}
{{- $d := regexReplaceAll "[0-9.]+(ms|us|ns)" (toString .) "" -}}
{{- $total := 0.0 -}}
{{- range $unit, $seconds := dict "h" 3600 "m" 60 "s" 1 -}}
{{- $total = addf $total (regexFind (printf "[0-9.]+%s" $unit) $d | trimSuffix $unit | float64 | mulf $seconds) -}}
{{- end -}}
{{- ceil $total | int -}}
{{- end -}}

{{/* What would only show at the first request is said at install time. */}}
{{- define "fhir-introspection-sidecar.validate" -}}
{{- $s := .Values.settings | default dict -}}
{{- $f := .Values.files | default dict -}}
{{- if not $s.upstreamUrl -}}
{{- fail "settings.upstreamUrl is required: the FHIR base URL as the sidecar reaches it, such as http://127.0.0.1:8080/fhir" -}}
{{- end -}}
{{- if not (or $s.introspectionEndpoint $s.issuerUrl $s.discoveryAllowedHosts) -}}
{{- fail "settings.introspectionEndpoint is required, or settings.issuerUrl to discover it from" -}}
{{- end -}}
{{- $auth := $s.introspectionAuth | default "bearer" -}}
{{- if and (eq $auth "bearer") (not (or $f.bearerToken $f.clientKey $f.clientSecret)) -}}
{{- fail "the sidecar needs a credential of its own: files.bearerToken, files.clientKey or files.clientSecret" -}}
{{- end -}}
{{- if and (eq $auth "client_assertion") (not $f.clientKey) -}}
{{- fail "files.clientKey is required for settings.introspectionAuth: client_assertion" -}}
{{- end -}}
{{- if and (has $auth (list "client_secret_basic" "client_secret_post")) (not $f.clientSecret) -}}
{{- fail (printf "files.clientSecret is required for settings.introspectionAuth: %s" $auth) -}}
{{- end -}}
{{- range $name, $file := $f -}}
{{- if and $file (not (and $file.key (or $file.secret $file.configMap))) -}}
{{- fail (printf "files.%s needs secret and key, or configMap and key" $name) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.native (semverCompare "<1.29-0" .Capabilities.KubeVersion.Version) -}}
{{- fail "native sidecars need Kubernetes 1.29; set native: false" -}}
{{- end -}}
{{- end -}}
