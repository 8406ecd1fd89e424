{{/* One Ray pod, of the head or of a size: dict "root" $ "component" … "pod" values "cpu" n "gpus" n. */}}
{{- define "gemmule.pod" -}}
{{- $head := eq .component "head" -}}
{{- $drain := include "gemmule.drain" .root | fromJson -}}
metadata:
  labels:
    {{- include "gemmule.podLabels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
spec:
  serviceAccountName: {{ include "gemmule.serviceAccountName" .root }}
  automountServiceAccountToken: {{ $head }}
  terminationGracePeriodSeconds: {{ $drain.pod }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: {type: RuntimeDefault}
  {{- with .root.Values.image.pullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- range $key := list "nodeSelector" "tolerations" "affinity" "priorityClassName" }}
  {{- with index $.pod $key }}
  {{ $key }}: {{- if kindIs "string" . }} {{ . }}{{ else }}{{ toYaml . | nindent 4 }}{{ end }}
  {{- end }}
  {{- end }}
  containers:
    - name: {{ ternary "ray-head" "ray-worker" $head }}
      image: {{ include "gemmule.image" .root }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      securityContext: {{- include "gemmule.containerSecurity" . | nindent 8 }}
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

{{- define "gemmule.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
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
- {name: PYTHONDONTWRITEBYTECODE, value: "1"}
- {name: HOME, value: /tmp}
- {name: HF_HOME, value: /cache/huggingface}
- {name: KAGGLEHUB_CACHE, value: /cache/kagglehub}
{{- range list "XDG_CACHE_HOME" "TRITON_CACHE_DIR" "TORCHINDUCTOR_CACHE_DIR" "NUMBA_CACHE_DIR" }}
- {name: {{ . }}, value: /tmp/cache}
{{- end }}
{{- if and .root.Values.hfToken.existingSecret (ne .component "head") }}
- name: {{ include "gemmule.tokenEnv" .root }}
  valueFrom:
    secretKeyRef: {name: {{ .root.Values.hfToken.existingSecret }}, key: {{ .root.Values.hfToken.key }}}
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
  {{- if .root.Values.modelCache.existingClaim }}
  persistentVolumeClaim: {claimName: {{ .root.Values.modelCache.existingClaim }}}
  {{- else }}
  emptyDir: {sizeLimit: {{ .root.Values.modelCache.size }}}
  {{- end }}
{{- with .root.Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}
