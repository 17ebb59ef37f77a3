{{/* The chart's own scope, also when another chart includes a template of it. */}}
{{- define "fhir-introspection-sidecar.scope" -}}
{{- $own := index (.Subcharts | default dict) "fhir-introspection-sidecar" -}}
{{- if not $own -}}{{- $own = . -}}{{- end -}}
{{- if not (hasKey $own.Values "goMemLimit") -}}
{{- fail "the templates of fhir-introspection-sidecar need the chart as a dependency that is enabled and has no alias" -}}
{{- end -}}
{{- dict "Values" $own.Values "AppVersion" ($own.Chart.AppVersion) | toYaml -}}
{{- end -}}

{{- define "fhir-introspection-sidecar.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "fhir-introspection-sidecar.fullname" -}}
{{- $name := include "fhir-introspection-sidecar.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "fhir-introspection-sidecar.selectorLabels" -}}
app.kubernetes.io/name: {{ include "fhir-introspection-sidecar.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "fhir-introspection-sidecar.labels" -}}
{{- include "fhir-introspection-sidecar.labelsAnd" (dict "scope" . "labels" dict) -}}
{{- end -}}

{{/* The chart's own labels and those of one object, which win against commonLabels. */}}
{{- define "fhir-introspection-sidecar.labelsAnd" -}}
{{- $own := include "fhir-introspection-sidecar.ownLabels" .scope | fromYaml -}}
{{- merge $own (.labels | default dict) (.scope.Values.commonLabels | default dict) | toYaml -}}
{{- end -}}

{{- define "fhir-introspection-sidecar.ownLabels" -}}
{{ include "fhir-introspection-sidecar.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* How many Pods: replicas is the name of old. */}}
{{- define "fhir-introspection-sidecar.replicaCount" -}}
{{- if kindIs "invalid" .Values.replicas -}}{{ int .Values.replicaCount }}{{- else -}}{{ int .Values.replicas }}{{- end -}}
{{- end -}}

{{- define "fhir-introspection-sidecar.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "fhir-introspection-sidecar.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{/* "true" when the FHIR server is HAPI and nothing names a database of its. */}}
{{- define "fhir-introspection-sidecar.inMemory" -}}
{{- $named := or (not (contains "hapiproject/hapi" .Values.server.image.repository)) (not (empty .Values.server.envFrom)) -}}
{{- range .Values.server.env -}}
{{- if eq (.name | upper | replace "." "_") "SPRING_DATASOURCE_URL" -}}{{- $named = true -}}{{- end -}}
{{- end -}}
{{- not $named -}}
{{- end -}}

{{/*
Repository and digest, or repository and tag, of an image in the values. The registry
is the global one, the image's own, or what the repository begins with.
*/}}
{{- define "fhir-introspection-sidecar.imageRef" -}}
{{- $repository := .image.repository -}}
{{- with .global.imageRegistry -}}
{{- $repository = printf "%s/%s" (trimSuffix "/" .) (regexReplaceAll "^([^/]*[.:][^/]*|localhost)/" $repository "") -}}
{{- else -}}
{{- with .image.registry -}}{{- $repository = printf "%s/%s" . $repository -}}{{- end -}}
{{- end -}}
{{- if .image.digest -}}{{ $repository }}@{{ .image.digest }}{{- else -}}{{ $repository }}:{{ .image.tag | default .tag }}{{- end -}}
{{- end -}}

{{/* Whole seconds of a Go duration such as 1m30s, rounded up. */}}
{{- define "fhir-introspection-sidecar.seconds" -}}
{{- $units := dict "h" 3600 "m" 60 "s" 1 "ms" 0.001 "us" 0.000001 "ns" 0.000000001 -}}
{{- $total := 0.0 -}}
{{- range regexFindAll "[0-9.]+[a-z]+" (toString .) -1 -}}
{{- $unit := regexFind "[a-z]+" . -}}
{{- $total = addf $total (mulf (get $units $unit) (trimSuffix $unit . | float64)) -}}
{{- end -}}
{{- ceil $total | int -}}
{{- end -}}

{{/* What would only show at the first request is said at install time. */}}
{{- define "fhir-introspection-sidecar.validate" -}}
{{- $s := .Values.settings | default dict -}}
{{- $f := .Values.files | default dict -}}
{{- if .Values.injection.enabled -}}
{{- include "fhir-introspection-sidecar.validateInjection" . -}}
{{- else -}}
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
{{- if and (eq $auth "tls_client_auth") (not $f.clientCert) -}}
{{- fail "files.clientCert and files.clientCertKey are required for settings.introspectionAuth: tls_client_auth" -}}
{{- end -}}
{{- if and (eq (toString $s.adminTls) "true") (not $f.tlsCert) -}}
{{- fail "settings.adminTls needs a certificate: files.tlsCert and files.tlsKey" -}}
{{- end -}}
{{- if and (has $auth (list "client_secret_basic" "client_secret_post")) (not $f.clientSecret) -}}
{{- fail (printf "files.clientSecret is required for settings.introspectionAuth: %s" $auth) -}}
{{- end -}}
{{- end -}}
{{- range $name, $file := $f -}}
{{- if $file -}}
{{- $from := compact (list $file.secret $file.configMap $file.path) -}}
{{- if or (ne (len $from) 1) (eq (empty $file.key) (empty $file.path)) -}}
{{- fail (printf "files.%s needs either secret and key, or configMap and key, or path" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- include "fhir-introspection-sidecar.validateReplicas" . -}}
{{- range list (list "tlsCert" "tlsKey") (list "clientCert" "clientCertKey") (list "sharedCacheClientCert" "sharedCacheClientCertKey") -}}
{{- if ne (empty (get $f (first .))) (empty (get $f (last .))) -}}
{{- fail (printf "files.%s and files.%s belong together" (first .) (last .)) -}}
{{- end -}}
{{- end -}}
{{- if eq (int .Values.ports.data) (int .Values.ports.admin) -}}
{{- fail (printf "ports.data and ports.admin are both %v" .Values.ports.data) -}}
{{- end -}}
{{- if and (not (has ($s.auditLog | default "off") (list "off" "stdout"))) .Values.securityContext.readOnlyRootFilesystem (not .Values.volumeMounts) -}}
{{- fail (printf "settings.auditLog (%s) is a file, and the sidecar can write to none: mount a volume by volumeMounts" $s.auditLog) -}}
{{- end -}}
{{- if and .Values.native (semverCompare "<1.29-0" .Capabilities.KubeVersion.Version) -}}
{{- fail "native sidecars need Kubernetes 1.29; set native: false" -}}
{{- end -}}
{{- end -}}

{{/* What replicas need that share, or must. */}}
{{- define "fhir-introspection-sidecar.validateReplicas" -}}
{{- $s := .Values.settings | default dict -}}
{{- $f := .Values.files | default dict -}}
{{- if $s.sharedCacheAddresses -}}
{{- if not $f.sharedCacheKey -}}
{{- fail "files.sharedCacheKey is required with settings.sharedCacheAddresses" -}}
{{- end -}}
{{- if and $s.sharedCacheUsername (not $f.sharedCachePassword) -}}
{{- fail "files.sharedCachePassword is required with settings.sharedCacheUsername" -}}
{{- end -}}
{{- else if or $f.sharedCacheKey $f.sharedCachePassword -}}
{{- fail "settings.sharedCacheAddresses is required with files.sharedCacheKey and files.sharedCachePassword" -}}
{{- else if and $s.introspectionOnce .Values.standalone (or .Values.autoscaling.enabled (gt (include "fhir-introspection-sidecar.replicaCount" . | int) 1)) -}}
{{- fail "settings.introspectionOnce with several replicas needs settings.sharedCacheAddresses: each would use tokens up for the others" -}}
{{- end -}}
{{- end -}}

{{/* What an injector needs; the settings are looked at where the Pods are. */}}
{{- define "fhir-introspection-sidecar.validateInjection" -}}
{{- if .Values.standalone -}}
{{- fail "injection.enabled is for a release of its own: set standalone: false" -}}
{{- end -}}
{{- if not .Values.native -}}
{{- fail "injection.enabled needs native: true: an ordinary container could start after the FHIR server" -}}
{{- end -}}
{{- if semverCompare "<1.36-0" .Capabilities.KubeVersion.Version -}}
{{- fail (printf "injection.enabled needs Kubernetes 1.36, which serves MutatingAdmissionPolicy; this is %s. Use deploy/kustomize instead" .Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- end -}}

{{/*
A value as an expression of CEL: maps are objects of the path's type, apart from those
whose keys are free.
*/}}
{{- define "fhir-introspection-sidecar.cel" -}}
{{- $path := .path -}}
{{- $parts := list -}}
{{- if kindIs "map" .value -}}
{{- if has (splitList "." $path | last) (list "requests" "limits") -}}
{{- range $key, $value := .value -}}{{- $parts = append $parts (printf "%s: %s" (toJson $key) (toJson (toString $value))) -}}{{- end -}}
{ {{- join ", " $parts -}} }
{{- else -}}
{{- range $key, $value := .value -}}
{{- $parts = append $parts (printf "%s: %s" $key (include "fhir-introspection-sidecar.cel" (dict "path" (printf "%s.%s" $path $key) "value" $value))) -}}
{{- end -}}
{{ $path }}{ {{- join ", " $parts -}} }
{{- end -}}
{{- else if kindIs "slice" .value -}}
{{- range .value -}}{{- $parts = append $parts (include "fhir-introspection-sidecar.cel" (dict "path" $path "value" .)) -}}{{- end -}}
[ {{- join ", " $parts -}} ]
{{- else if kindIs "string" .value -}}
{{ toJson .value }}
{{- else if kindIs "bool" .value -}}
{{ .value }}
{{- else -}}
{{ int64 .value }}
{{- end -}}
{{- end -}}

{{/* The ports of the store that replicas share, as a NetworkPolicy has them, or nothing. */}}
{{- define "fhir-introspection-sidecar.sharedCachePorts" -}}
{{- $ports := list -}}
{{- range (.Values.settings | default dict).sharedCacheAddresses -}}
{{- $ports = append $ports (dict "port" (regexFind "[0-9]+$" . | int)) -}}
{{- end -}}
{{- with $ports }}{{ uniq . | toYaml }}{{ end -}}
{{- end -}}
