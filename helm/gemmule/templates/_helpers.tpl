{{/* Names, labels and what is known of each size. */}}

{{- define "gemmule.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride }}
{{- else if contains .Chart.Name .Release.Name -}}
{{ .Release.Name }}
{{- else -}}
{{ .Release.Name }}-{{ .Chart.Name }}
{{- end -}}
{{- end -}}

{{/* Labels of the release's objects; they may change with every release, so never on pods. */}}
{{- define "gemmule.labels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{ include "gemmule.podLabels" . }}
{{- end -}}

{{/* Labels of pods, and what policies select. Not app.kubernetes.io/name: KubeRay's services select by their own. */}}
{{- define "gemmule.podLabels" -}}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: gemmule
{{- end -}}

{{- define "gemmule.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{ default (include "gemmule.fullname" .) .Values.serviceAccount.name }}
{{- else -}}
{{ default "default" .Values.serviceAccount.name }}
{{- end -}}
{{- end -}}

{{- define "gemmule.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{- define "gemmule.rayVersion" -}}2.60.0{{- end -}}
{{- define "gemmule.httpPort" -}}{{ dig "server" "http_port" 8000 .Values.config | int }}{{- end -}}
{{- define "gemmule.grpcPort" -}}{{ dig "server" "grpc_port" 9000 .Values.config | int }}{{- end -}}
{{- define "gemmule.tokenEnv" -}}{{ dig "cluster" "token_env" "HF_TOKEN" .Values.config }}{{- end -}}

{{/*
Every size in the one order that KubeRay may see (another order is another cluster), as JSON. A size that is not served
keeps its group and its bound: nothing asks for its pods, and a running cluster would not follow a bound that is raised
later. The defaults are those of SizeConfig; a test holds them to it.
*/}}
{{- define "gemmule.sizes" -}}
{{- $all := list -}}
{{- $served := dig "cluster" "sizes" dict .Values.config -}}
{{- range $name := list "2b" "9b" "27b" -}}
{{- $given := index $served $name | default dict -}}
{{- $replicas := mergeOverwrite (dict "min_replicas" 1 "max_replicas" 1) (dig "replicas" dict $given) -}}
{{- $degree := dig "tensor_parallel" 1 $given -}}
{{- $gpus := dig "gpus_per_rank" 0 $given -}}
{{- $cpus := dig "cpus_per_rank" 1 $given -}}
{{- $all = append $all (dict
    "name" $name "served" (hasKey $served $name) "source" (dig "source" "" $given)
    "degree" $degree "gpusPerRank" $gpus "cpusPerRank" $cpus
    "gpus" (mulf $degree $gpus | ceil) "cpus" (mulf $degree $cpus | ceil)
    "min" $replicas.min_replicas "max" $replicas.max_replicas
    "pod" (index $.Values.sizes $name)) -}}
{{- end -}}
{{- toJson $all -}}
{{- end -}}

{{/* The first served size: its pods also hold the ingress, which must not land on the head. */}}
{{- define "gemmule.ingressSize" -}}
{{- $found := "" -}}
{{- range include "gemmule.sizes" . | fromJsonArray -}}
{{- if and .served (not $found) -}}{{- $found = .name -}}{{- end -}}
{{- end -}}
{{- $found -}}
{{- end -}}

{{/* Everything that waits for a running answer, from one value. */}}
{{- define "gemmule.drain" -}}
{{- $stream := int .Values.serving.maxStreamSeconds -}}
{{- toJson (dict "replica" $stream "node" (add $stream 15) "pod" (add $stream 45) "cluster" (add $stream 60)) -}}
{{- end -}}

{{/* "true" when some served size comes from a hub. */}}
{{- define "gemmule.downloads" -}}
{{- $found := "" -}}
{{- range include "gemmule.sizes" . | fromJsonArray -}}
{{- if regexMatch "^(hf|kaggle)://" .source -}}{{- $found = "true" -}}{{- end -}}
{{- end -}}
{{- $found -}}
{{- end -}}
