{{/*
What Ray Serve is given, as a dict that is written once. The configuration tree passes through whole, as the ingress's
settings; each size gets its own branch. Serve hands `user_config` to running processes; for a change of `args` it
replaces every replica, so nothing is there but the sizes, their degrees (their pods follow from them as well) and the
kind of request router. Beside that stand only what belongs to Kubernetes: which pods a size may use (one replica fills
one pod) and how long a replica drains.
JSON, since KubeRay compares the text: Helm 4.3's toYaml puts keys such as 2b, 9b and 27b in an order of chance.
*/}}
{{- define "gemmule.serveConfig" -}}
{{- $drain := (include "gemmule.drain" . | fromJson).replica -}}
{{- $ingress := dict "name" "ingress" "graceful_shutdown_timeout_s" $drain
    "num_replicas" (dig "server" "ingress_replicas" 1 .Values.config) "user_config" .Values.config
    "ray_actor_options" (dict "num_cpus" 0 "resources" (dict "edge" 0.5)) -}}
{{- $deployments := list $ingress -}}
{{- $degrees := dict -}}
{{- range include "gemmule.sizes" . | fromJsonArray -}}
{{- if .served -}}
{{- $_ := set $degrees .name .degree -}}
{{- $deployments = append $deployments
    (include "gemmule.serveDeployment" (dict "size" . "drain" $drain "config" $.Values.config) | fromJson) -}}
{{- end -}}
{{- end -}}
{{- $choice := dig "cluster" "routing" "replica_choice" "prefix" .Values.config -}}
{{- $application := dict "name" "gemmule" "route_prefix" "/" "import_path" "serving.ingress:build_app"
    "args" (dict "sizes" $degrees "replica_choice" $choice) "deployments" $deployments
    "autoscaling_policy" (dict "policy_function" "cluster.scaling.serve:BudgetPolicy"
      "policy_kwargs" (dict "application" "gemmule")) -}}
{{- toPrettyJson (dict
    "proxy_location" "EveryNode"
    "http_options" (dict "host" (dig "server" "host" "127.0.0.1" .Values.config) "port" (include "gemmule.httpPort" . | int))
    "grpc_options" (dict "port" (include "gemmule.grpcPort" . | int) "enable_reflection" true
      "grpc_servicer_functions" (list
        "serving.rpc.gen.gemmule.v1.gemmule_pb2_grpc.add_GemmuleServiceServicer_to_server"
        "grpc_health.v1.health_pb2_grpc.add_HealthServicer_to_server"))
    "applications" (list $application)) -}}
{{- end -}}

{{/*
One size: its first rank asks for the resource that only the size's own pods have. Serve replaces these whole. Bounds
not given are those of AutoscaleConfig; a test holds them to it.
*/}}
{{- define "gemmule.serveDeployment" -}}
{{- $rank := dict "CPU" .size.cpusPerRank -}}
{{- if .size.gpusPerRank -}}{{- $_ := set $rank "GPU" .size.gpusPerRank -}}{{- end -}}
{{- $pin := dict (printf "size_%s" .size.name) 1 -}}
{{- $given := index .config.cluster.sizes .size.name -}}
{{- $replicas := dig "replicas" dict $given -}}
{{- $bounds := dict "min_replicas" (dig "min_replicas" 1 $replicas) "max_replicas" (dig "max_replicas" 1 $replicas)
    "upscale_delay_s" 0 "downscale_delay_s" 0 -}}
{{- $wanted := dict "replica" (omit $given "replicas" "usd_per_mtoken")
    "token_env" (dig "cluster" "token_env" "HF_TOKEN" .config)
    "queue_tokens" (dig "cluster" "routing" "queue_tokens" 256 .config) -}}
{{- $out := dict "name" .size.name "user_config" $wanted "autoscaling_config" $bounds "graceful_shutdown_timeout_s" .drain
    "ray_actor_options" (dict "num_cpus" .size.cpusPerRank "num_gpus" .size.gpusPerRank "resources" $pin) -}}
{{- if gt (int .size.degree) 1 -}}
{{- $bundles := list (merge (deepCopy $pin) $rank) -}}
{{- range until (int (sub .size.degree 1)) -}}{{- $bundles = append $bundles $rank -}}{{- end -}}
{{- $_ := set $out "placement_group_bundles" $bundles -}}
{{- end -}}
{{- toJson $out -}}
{{- end -}}
