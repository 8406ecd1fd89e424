{{/* One Ray pod, of the head or of a group: dict "root" $ "component" … "pod" values "cpu" n "gpus" n. */}}
{{- define "gemmule.pod" -}}
{{- $head := eq .component "head" -}}
{{- $drain := include "gemmule.drain" .root | fromJson -}}
metadata:
  labels:
    {{- include "gemmule.podLabels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .component | quote }}
spec:
  serviceAccountName: {{ include "gemmule.serviceAccountName" .root }}
  automountServiceAccountToken: {{ $head }}
  terminationGracePeriodSeconds: {{ $drain.pod }}
  {{- include "gemmule.podSecurity" .root | nindent 2 }}
  {{- range $key := list "nodeSelector" "tolerations" "affinity" "priorityClassName" }}
  {{- with index $.pod $key }}
  {{ $key }}: {{- if kindIs "string" . }} {{ . }}{{ else }}{{ toYaml . | nindent 4 }}{{ end }}
  {{- end }}
  {{- end }}
  containers:
    - name: {{ ternary "ray-head" "ray-worker" $head }}
      {{- include "gemmule.imageAndSecurity" .root | nindent 6 }}
      ports: {{- include "gemmule.ports" . | nindent 8 }}
      env: {{- include "gemmule.env" . | nindent 8 }}
      resources: {{- include "gemmule.resources" . | nindent 8 }}
      lifecycle:
        preStop: {sleep: {seconds: 5}} # endpoints lag behind
      {{- if not $head }}
      readinessProbe:
        httpGet: {path: /-/healthz, port: serve}
        periodSeconds: 5
        timeoutSeconds: 3
        failureThreshold: 2
      {{- end }}
      volumeMounts: {{- include "gemmule.mounts" . | nindent 8 }}
  volumes: {{- include "gemmule.volumes" . | nindent 4 }}
{{- end -}}

{{/* The head's ports replace KubeRay's defaults and make its services. No Ray client: it runs code for whoever asks. */}}
{{- define "gemmule.ports" -}}
{{- if eq .component "head" -}}
- {name: gcs-server, containerPort: 6379}
- {name: dashboard, containerPort: 8265}
{{ end -}}
- {name: metrics, containerPort: 8080}
- {name: serve, containerPort: {{ include "gemmule.httpPort" .root }}}
- {name: serve-grpc, containerPort: {{ include "gemmule.grpcPort" .root }}}
{{- end -}}

{{- define "gemmule.env" -}}
{{ include "gemmule.ownEnv" . }}
{{- with .root.Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "gemmule.ownEnv" -}}
{{- $drain := include "gemmule.drain" .root | fromJson -}}
- {name: RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S, value: {{ $drain.node | quote }}}
- {name: RAY_USAGE_STATS_ENABLED, value: "0"}
- {name: RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO, value: "0"}
- {name: RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH, value: serving.rest.one_id.proxy_middlewares}
{{ include "gemmule.cacheEnv" . }}
{{- if ne .component "head" }}
{{- include "gemmule.hubToken" (dict "root" .root "name" (include "gemmule.tokenEnv" .root)) }}
{{- end }}
{{- if and .root.Values.database.existingSecret (eq .component "edge") }}
- name: GEMMULE_DATABASE_URL
  valueFrom:
    secretKeyRef: {name: {{ .root.Values.database.existingSecret }}, key: {{ .root.Values.database.key }}}
{{- end }}
{{- end -}}

{{/* Requests are limits: throttled CPUs slow every answer of the pod. */}}
{{- define "gemmule.resources" -}}
{{- $wants := dict "cpu" (toString .cpu) "memory" .pod.memory -}}
{{- if .gpus -}}{{- $_ := set $wants .pod.gpuResource (toString .gpus) -}}{{- end -}}
{{- toYaml (dict "requests" $wants "limits" $wants) -}}
{{- end -}}

{{- define "gemmule.mounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: shm, mountPath: /dev/shm}
- {name: config, mountPath: /etc/gemmule, readOnly: true}
- {name: cache, mountPath: /cache}
{{- with .root.Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "gemmule.volumes" -}}
- name: tmp
  emptyDir: {sizeLimit: {{ .root.Values.serving.tmpSize }}}
- name: shm
  emptyDir: {medium: Memory, sizeLimit: {{ .pod.shmSize }}}
- name: config
  configMap: {name: {{ include "gemmule.fullname" .root }}-config}
- name: cache
  {{- include "gemmule.cacheVolume" . | nindent 2 }}
{{- with .root.Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}
