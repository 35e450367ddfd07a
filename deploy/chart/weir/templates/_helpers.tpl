{{/* Labels by which parts are found: they never change. */}}
{{- define "weir.selector" -}}
app.kubernetes.io/name: weir
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{- define "weir.labels" -}}
{{ include "weir.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
{{- end }}

{{/* Of everything together. */}}
{{- define "weir.labelsOfAll" -}}
app.kubernetes.io/name: weir
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "weir.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* What has no namespace is named after it, so that two of us are not each other's. */}}
{{- define "weir.role" -}}
{{ .Release.Name }}:{{ .Release.Namespace }}
{{- end }}

{{- define "weir.priorityClass" -}}
{{ .Values.priorityClass.name | default (printf "%s-%s" .Release.Name .Release.Namespace) }}
{{- end }}

{{- define "weir.busArgs" -}}
- --bus={{ .Values.bus.url | default (printf "nats://%s-nats:4222" .Release.Name) }}
- --bus-subject={{ .Values.bus.subject }}
- --bus-user={{ .Values.bus.user }}
- --bus-password-file=/etc/weir/bus/password
{{- end }}

{{- define "weir.preset" -}}
{{ toYaml (get .Values.presets .Values.preset) }}
{{- end }}

{{/* The configuration, which names all rule files beside it. They are in one config map: they change at once. */}}
{{- define "weir.config" -}}
{{- $config := .Values.cluster.config | default dict | deepCopy -}}
{{- $rules := $config.rules | default list -}}
{{- range $name := keys .Values.cluster.rules | sortAlpha -}}
{{- if not (has $name $rules) }}{{ $rules = append $rules $name }}{{ end -}}
{{- end -}}
{{- with $rules }}{{ $_ := set $config "rules" . }}{{ end -}}
{{- with $config }}{{ toYaml . }}{{ end -}}
{{- end }}

{{/* A secret that is there keeps what it has; else a new one: 48 letters and digits, beginning with a letter. */}}
{{- define "weir.secretValue" -}}
{{- $there := lookup "v1" "Secret" .root.Release.Namespace .name -}}
{{- if and $there $there.data (hasKey $there.data .key) -}}
{{ get $there.data .key }}
{{- else -}}
{{ printf "%s%s" (randAlpha 1) (randAlphaNum 47) | b64enc }}
{{- end -}}
{{- end }}

{{/* Of containers that need no rights. */}}
{{- define "weir.unprivileged" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}
