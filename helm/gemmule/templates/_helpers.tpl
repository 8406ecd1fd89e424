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

{{/* The Service that KubeRay makes for both faces. */}}
{{- define "gemmule.service" -}}{{ include "gemmule.fullname" . }}-serve-svc{{- end -}}

{{/* Claim of the model cache; empty when each pod has its own. */}}
{{- define "gemmule.claim" -}}
{{- if eq .Values.modelCache.kind "claim" -}}
{{ default (printf "%s-models" (include "gemmule.fullname" .)) .Values.modelCache.existingClaim }}
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
    "revision" (dig "revision" "" $given | default "")
    "degree" $degree "gpusPerRank" $gpus "cpusPerRank" $cpus
    "gpus" (round (mulf $degree $gpus) 6 | ceil) "cpus" (round (mulf $degree $cpus) 6 | ceil)
    "min" $replicas.min_replicas "max" $replicas.max_replicas
    "pod" (index $.Values.sizes $name)) -}}
{{- end -}}
{{- toJson $all -}}
{{- end -}}

{{/*
Every group of workers in the one order that KubeRay may see: edge, the sizes, the pools. A pool's pod has room for one
replica of each of its sizes, and is in all that it does not say like the first size's pod.
*/}}
{{- define "gemmule.groups" -}}
{{- $sizes := dict -}}
{{- $all := list (dict "name" "edge" "component" "edge" "max" .Values.edge.groupMax "cpu" .Values.edge.cpu "gpus" 0
    "resources" (dict "edge" "1") "pod" .Values.edge) -}}
{{- range include "gemmule.sizes" . | fromJsonArray -}}
{{- $_ := set $sizes .name . -}}
{{- $all = append $all (dict "name" .name "component" .name "max" .pod.groupMax "priority" .pod.priority
    "cpu" (default .cpus .pod.cpu) "gpus" .gpus "resources" (dict (printf "size_%s" .name) "1") "pod" .pod) -}}
{{- end -}}
{{- range .Values.pools -}}
{{- $gpus := 0.0 -}}{{- $cpus := 0.0 -}}{{- $resources := dict -}}
{{- range .sizes -}}
{{- $size := index $sizes . -}}
{{- $gpus = addf $gpus (mulf $size.degree $size.gpusPerRank) -}}
{{- $cpus = addf $cpus (mulf $size.degree $size.cpusPerRank) -}}
{{- $_ := set $resources (printf "size_%s" .) "1" -}}
{{- end -}}
{{- $pod := omit (index $sizes (first .sizes)).pod "cpu" -}}
{{- range $key, $value := . -}}{{- $_ := set $pod $key $value -}}{{- end -}}
{{- $component := ternary (first .sizes) .name (eq (len .sizes) 1) -}}
{{- $all = append $all (dict "name" .name "component" $component "max" .max "priority" (default 0 .priority)
    "cpu" (default (round $cpus 6 | ceil) .cpu) "gpus" (round $gpus 6 | ceil) "resources" $resources "pod" $pod) -}}
{{- end -}}
{{- toJson $all -}}
{{- end -}}

{{/* Everything that waits for a running answer, from one value. */}}
{{- define "gemmule.drain" -}}
{{- $stream := int .Values.serving.maxStreamSeconds -}}
{{- toJson (dict "replica" $stream "node" (add $stream 15) "pod" (add $stream 45) "cluster" (add $stream 60)) -}}
{{- end -}}

{{/* Served sizes that come from a hub, as JSON; the empty string when there are none. */}}
{{- define "gemmule.downloads" -}}
{{- $found := list -}}
{{- range include "gemmule.sizes" . | fromJsonArray -}}
{{- if regexMatch "^(hf|kaggle)://" .source -}}{{- $found = append $found . -}}{{- end -}}
{{- end -}}
{{- if $found -}}{{- toJson $found -}}{{- end -}}
{{- end -}}

{{/* What gateway and ingress let through, the prediction contract's two routes included. */}}
{{- define "gemmule.publicPaths" -}}
{{- $paths := .Values.publicPaths -}}
{{- range list "predict_route" "health_route" -}}
{{- with dig "server" . "" $.Values.config -}}{{- $paths = append $paths . -}}{{- end -}}
{{- end -}}
{{- toJson (uniq $paths) -}}
{{- end -}}
