{{/* What every pod of the release has in common, Ray's or not; most take the root. */}}

{{- define "gemmule.podSecurity" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "gemmule.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "gemmule.imageAndSecurity" -}}
image: {{ include "gemmule.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext: {{- include "gemmule.containerSecurity" . | nindent 2 }}
{{- end -}}

{{/* Where libraries write: the root file system is read-only. */}}
{{- define "gemmule.cacheEnv" -}}
- {name: PYTHONDONTWRITEBYTECODE, value: "1"}
- {name: HOME, value: /tmp}
- {name: HF_HOME, value: /cache/huggingface}
- {name: KAGGLEHUB_CACHE, value: /cache/kagglehub}
{{- range list "XDG_CACHE_HOME" "TRITON_CACHE_DIR" "TORCHINDUCTOR_CACHE_DIR" "NUMBA_CACHE_DIR" }}
- {name: {{ . }}, value: /tmp/cache}
{{- end }}
{{- end -}}

{{/* The hub's token under a name: dict "root" $ "name" …; nothing without a secret. */}}
{{- define "gemmule.hubToken" -}}
{{- with .root.Values.hfToken }}
{{- if .existingSecret }}
- name: {{ $.name }}
  valueFrom:
    secretKeyRef: {name: {{ .existingSecret }}, key: {{ .key }}}
{{- end }}
{{- end }}
{{- end -}}

{{/*
dict "root" $ "component" …: head and edge hold no weights but a tokenizer, so they get no volume of their own, and stay
off one that a single node may mount.
*/}}
{{- define "gemmule.cacheVolume" -}}
{{- $cache := .root.Values.modelCache -}}
{{- $holds := not (has .component (list "head" "edge")) -}}
{{- if and (eq $cache.kind "claim") (or $holds (eq $cache.accessMode "ReadWriteMany")) -}}
persistentVolumeClaim: {claimName: {{ include "gemmule.claim" .root }}}
{{- else if and (eq $cache.kind "ephemeral") $holds -}}
ephemeral:
  volumeClaimTemplate:
    spec: {{- include "gemmule.claimSpec" (dict "cache" $cache "mode" "ReadWriteOnce") | nindent 6 }}
{{- else -}}
emptyDir: {sizeLimit: {{ $cache.size }}}
{{- end -}}
{{- end -}}

{{- define "gemmule.claimSpec" -}}
accessModes: [{{ .mode }}]
{{- with .cache.storageClass }}
storageClassName: {{ . }}
{{- end }}
resources: {requests: {storage: {{ .cache.size }}}}
{{- end -}}
