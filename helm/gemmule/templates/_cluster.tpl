{{/* Parts of the Ray cluster that are not pods. */}}

{{- define "gemmule.objectStore" -}}
{{ mul .Values.serving.objectStoreMiB 1048576 | toString | quote }}
{{- end -}}

{{/* The operator adds the autoscaler to the head's pod and takes all of this from here, nothing from the pod. */}}
{{- define "gemmule.autoscaler" -}}
version: v2
idleTimeoutSeconds: {{ .Values.autoscaler.idleTimeoutSeconds }}
upscalingMode: {{ .Values.autoscaler.upscalingMode }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext: {{- include "gemmule.containerSecurity" . | nindent 2 }}
resources:
  requests: {cpu: {{ .Values.autoscaler.cpu }}, memory: {{ .Values.autoscaler.memory }}}
  limits: {cpu: {{ .Values.autoscaler.cpu }}, memory: {{ .Values.autoscaler.memory }}}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
{{- end -}}
