{{/* One Ingress, of one face: dict "root" $ "name" … "hosts" … "paths" … "annotations" … "port" n. */}}
{{- define "gemmule.ingress" -}}
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "gemmule.labels" .root | nindent 4 }}
  {{- with .annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- with .root.Values.ingress.className }}
  ingressClassName: {{ . }}
  {{- end }}
  {{- with .root.Values.ingress.tls.existingSecret }}
  tls: [{secretName: {{ . }}, hosts: {{ toJson $.hosts }}}]
  {{- end }}
  rules:
    {{- range $host := .hosts }}
    - host: {{ $host | quote }}
      http:
        paths:
          {{- range $.paths }}
          - path: {{ . | quote }}
            pathType: Prefix
            backend: {service: {name: {{ include "gemmule.service" $.root }}, port: {number: {{ $.port }}}}}
          {{- end }}
    {{- end }}
{{- end -}}

{{/* gRPC's services that clients may call. */}}
{{- define "gemmule.grpcServices" -}}
{{- toJson (list "gemmule.v1.GemmuleService" "grpc.health.v1.Health" "grpc.reflection.v1.ServerReflection"
    "grpc.reflection.v1alpha.ServerReflection") -}}
{{- end -}}
