{{/*
The sidecar's container, for .spec.initContainers of a pod (native: true) or for
.spec.containers (native: false). Give it the context of any chart that has this
one as a dependency:

  initContainers:
    {{- include "fhir-introspection-sidecar.container" . | nindent 4 }}
  volumes:
    {{- include "fhir-introspection-sidecar.volumes" . | nindent 4 }}
*/}}
{{- define "fhir-introspection-sidecar.container" -}}
{{- $scope := include "fhir-introspection-sidecar.scope" . | fromYaml -}}
{{- $values := $scope.Values -}}
{{- include "fhir-introspection-sidecar.validate" (dict "Values" $values "Capabilities" .Capabilities) -}}
- name: fhir-introspection-sidecar
  image: {{ include "fhir-introspection-sidecar.imageRef" (dict "image" $values.image "global" ($values.global | default dict) "tag" $scope.AppVersion) | quote }}
  imagePullPolicy: {{ $values.image.pullPolicy }}
  {{- if $values.native }}
  restartPolicy: Always
  {{- end }}
  ports:
    - name: fhir
      containerPort: {{ $values.ports.data }}
    - name: admin
      containerPort: {{ $values.ports.admin }}
  env:
    - name: SIDECAR_LISTEN_ADDRESS
      value: ":{{ $values.ports.data }}"
    - name: SIDECAR_ADMIN_ADDRESS
      value: ":{{ $values.ports.admin }}"
    {{- range $name, $value := $values.settings }}
    {{- if not (or (kindIs "invalid" $value) (and $values.injection.enabled (eq $name "upstreamUrl"))) }}
    - name: SIDECAR_{{ $name | snakecase | upper }}
      {{- if kindIs "slice" $value }}
      value: {{ join "," $value | quote }}
      {{- else if kindIs "float64" $value }}
      value: {{ int64 $value | toString | quote }}
      {{- else }}
      value: {{ $value | toString | quote }}
      {{- end }}
    {{- end }}
    {{- end }}
    {{- range $name, $file := $values.files }}
    {{- if $file }}
    - name: SIDECAR_{{ $name | snakecase | upper }}_FILE
      value: {{ $file.path | default (printf "/etc/fhir-introspection-sidecar/%s" $name) }}
    {{- end }}
    {{- end }}
    - name: GOMEMLIMIT
      value: {{ $values.goMemLimit | quote }}
    {{- with $values.env }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- if $values.injection.enabled }}
  envFrom:
    - configMapRef:
        name: {{ $values.injection.configMap }}
  {{- end }}
  # Alive is enough to start: the FHIR server, which starts after this, may be what
  # the introspection endpoint is discovered from.
  startupProbe:
    httpGet:
      path: /livez
      port: admin
      {{- with include "fhir-introspection-sidecar.adminScheme" $values }}
      {{- . | nindent 6 }}
      {{- end }}
    periodSeconds: 1
    failureThreshold: 30
  livenessProbe:
    httpGet:
      path: /livez
      port: admin
      {{- with include "fhir-introspection-sidecar.adminScheme" $values }}
      {{- . | nindent 6 }}
      {{- end }}
    periodSeconds: 10
    timeoutSeconds: 3
  readinessProbe:
    httpGet:
      path: /readyz
      port: admin
      {{- with include "fhir-introspection-sidecar.adminScheme" $values }}
      {{- . | nindent 6 }}
      {{- end }}
    periodSeconds: 5
    timeoutSeconds: 3
  {{- if $values.native }}
  # SIGTERM comes after the FHIR server has ended. Clients leave before.
  lifecycle:
    preStop:
      exec:
        command: [/fhir-introspection-sidecar, drain]
  {{- end }}
  resources:
    {{- toYaml $values.resources | nindent 4 }}
  securityContext:
    {{- toYaml $values.securityContext | nindent 4 }}
  {{- $files := include "fhir-introspection-sidecar.volumes" . | fromYamlArray }}
  {{- if or $files $values.volumeMounts }}
  volumeMounts:
    {{- if $files }}
    - name: fhir-introspection-sidecar
      mountPath: /etc/fhir-introspection-sidecar
      readOnly: true
    {{- end }}
    {{- with $values.volumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
{{- end -}}

{{/* What a probe of the admin listener needs when that speaks TLS. */}}
{{- define "fhir-introspection-sidecar.adminScheme" -}}
{{- if eq (toString .settings.adminTls) "true" }}scheme: HTTPS{{ end -}}
{{- end -}}

{{/* The volume with the sidecar's files, for .spec.volumes; nothing without files. */}}
{{- define "fhir-introspection-sidecar.volumes" -}}
{{- $values := (include "fhir-introspection-sidecar.scope" . | fromYaml).Values -}}
{{- $sources := list -}}
{{- range $name, $file := $values.files -}}
{{- if $file -}}
{{- $item := dict "key" $file.key "path" $name -}}
{{- if $file.secret -}}
{{- $sources = append $sources (dict "secret" (dict "name" $file.secret "items" (list $item))) -}}
{{- else if $file.configMap -}}
{{- $sources = append $sources (dict "configMap" (dict "name" $file.configMap "items" (list $item))) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if $sources -}}
- name: fhir-introspection-sidecar
  projected:
    # Readable by the sidecar's user, whatever user the FHIR server has.
    defaultMode: 0444
    sources:
      {{- toYaml $sources | nindent 6 }}
{{- end -}}
{{- end -}}

{{/* The port of a Service that leads to the sidecar, for .spec.ports. */}}
{{- define "fhir-introspection-sidecar.servicePort" -}}
{{- $values := (include "fhir-introspection-sidecar.scope" . | fromYaml).Values -}}
- name: {{ ternary "https" "http" (not (empty ($values.files | default dict).tlsCert)) }}-fhir
  port: {{ $values.service.port }}
  # By number: not every Kubernetes looks for names in init containers.
  targetPort: {{ $values.ports.data }}
{{- end -}}
