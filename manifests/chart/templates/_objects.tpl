{{/*
ensemble.object prints an object of the manifests as the values want it, or nothing where they do not want it. namespace is that of the
objects of its directory where it is not ours.
*/}}
{{- define "ensemble.object" -}}
{{- $values := .root.Values }}
{{- $object := .object }}
{{- $kind := $object.kind }}
{{- $wanted := true }}
{{- if hasPrefix "MutatingAdmissionPolicy" $kind }}{{ $wanted = eq (include "ensemble.gates" .root) "Policy" }}{{ end }}
{{- if eq $kind "NetworkPolicy" }}{{ $wanted = $values.networkPolicy.enabled }}{{ end }}
{{- if has $kind (list "FlowSchema" "PriorityLevelConfiguration") }}{{ $wanted = $values.priorityAndFairness.enabled }}{{ end }}
{{- if $wanted }}
{{- if and .namespace $object.metadata.namespace }}{{ $_ := set $object.metadata "namespace" .namespace }}{{ end }}
{{- if eq $kind "Deployment" }}{{ include "ensemble.deployment" . }}{{ end }}
{{- if and (eq $kind "CustomResourceDefinition") $values.crds.keep }}
{{- $_ := set $object.metadata "annotations" (set (default dict $object.metadata.annotations) "helm.sh/resource-policy" "keep") }}
{{- end }}
{{- if and (eq $kind "NetworkPolicy") (eq $object.metadata.name "provider") (include "ensemble.elsewhere" .root) }}
{{- $from := first (first $object.spec.ingress).from }}
{{- $_ := set $from "namespaceSelector" (dict "matchLabels" (dict "kubernetes.io/metadata.name" $values.clusterAutoscaler.namespace)) }}
{{- end }}
{{- if and (has $kind (list "MutatingWebhookConfiguration" "ValidatingWebhookConfiguration")) (eq $values.certificates.source "Files") }}
{{- with $values.certificates.webhookAnnotations }}{{ $_ := set $object.metadata "annotations" . }}{{ end }}
{{- if $values.certificates.caBundle }}
{{- range $webhook := $object.webhooks }}{{ $_ := set $webhook.clientConfig "caBundle" $values.certificates.caBundle }}{{ end }}
{{- end }}
{{- end }}
---
{{ toYaml $object }}
{{ end }}
{{- end }}

{{/* ensemble.deployment changes the Deployment of the provider or the controller, and prints nothing. */}}
{{- define "ensemble.deployment" -}}
{{- $values := .root.Values }}
{{- $deployment := .object }}
{{- $name := $deployment.metadata.name }}
{{- $own := index $values $name }}
{{- $template := $deployment.spec.template }}
{{- $pod := $template.spec }}
{{- $container := first $pod.containers }}

{{- $_ := set $container "image" (include "ensemble.image" .root) }}
{{- with $values.image.pullPolicy }}{{ $_ := set $container "imagePullPolicy" . }}{{ end }}
{{- with $values.image.pullSecrets }}{{ $_ := set $pod "imagePullSecrets" . }}{{ end }}
{{- $_ := set $container "args" (concat $container.args (fromJsonArray (include "ensemble.args" .)) $own.extraArgs) }}
{{- if eq $values.certificates.source "Files" }}
{{- $secret := index $values.certificates (printf "%sSecret" $name) }}
{{- $_ := set $container "volumeMounts" (list (dict "name" "tls" "mountPath" "/tls" "readOnly" true)) }}
{{- $_ := set $pod "volumes" (list (dict "name" "tls" "secret" (dict "secretName" $secret))) }}
{{- end }}

{{- $_ := set $deployment.spec "replicas" $own.replicas }}
{{- with $own.resources }}{{ $_ := set $container "resources" . }}{{ end }}
{{- $env := dict }}
{{- with (include "ensemble.memoryLimit" $own.resources) }}{{ $_ := set $env "GOMEMLIMIT" . }}{{ end }}
{{- $env = merge (dict) $own.env $env }}
{{- if and $own.resources (not (hasKey $env "GOMEMLIMIT")) }}
{{- /* Without a limit of memory there is nothing to stay below. */}}
{{- $kept := list }}
{{- range $variable := $container.env }}{{ if ne $variable.name "GOMEMLIMIT" }}{{ $kept = append $kept $variable }}{{ end }}{{ end }}
{{- $_ := set $container "env" $kept }}
{{- end }}
{{- range $variable := $container.env }}
{{- if hasKey $env $variable.name }}{{ $_ := set $variable "value" (get $env $variable.name) }}{{ $env = omit $env $variable.name }}{{ end }}
{{- end }}
{{- range $variable := keys $env | sortAlpha }}
{{- $_ := set $container "env" (append $container.env (dict "name" $variable "value" (get $env $variable))) }}
{{- end }}

{{- with $own.podLabels }}{{ $_ := set $template.metadata "labels" (merge (dict) $template.metadata.labels .) }}{{ end }}
{{- with $own.podAnnotations }}{{ $_ := set $template.metadata "annotations" . }}{{ end }}
{{- if $own.priorityClassName }}{{ $_ := set $pod "priorityClassName" $own.priorityClassName }}{{ else }}{{ $_ := unset $pod "priorityClassName" }}{{ end }}
{{- range $field := list "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" }}
{{- with (index $own $field) }}{{ $_ := set $pod $field . }}{{ end }}
{{- end }}
{{- end }}

{{/* ensemble.args prints the flags that follow from the values, in JSON, in the order in which the overlays of the manifests add them. */}}
{{- define "ensemble.args" -}}
{{- $values := .root.Values }}
{{- $args := list }}
{{- if eq .object.metadata.name "provider" }}
{{- if $values.machines.kwok.enabled }}{{ $args = append $args "--kwok" }}{{ end }}
{{- if $values.machines.karpenter.enabled }}{{ $args = append $args "--karpenter" }}{{ end }}
{{- if $values.machines.clusterAPI.enabled }}{{ $args = append $args (printf "--cluster-api=%s" $values.machines.clusterAPI.namespace) }}{{ end }}
{{- end }}
{{- if and (eq .object.metadata.name "controller") $values.kinds.job.enabled }}{{ $args = append $args "--kinds=MiniCluster,Job" }}{{ end }}
{{- if and (eq .object.metadata.name "controller") $values.kinds.jobset.enabled }}{{ $args = append $args "--kinds=MiniCluster,JobSet" }}{{ end }}
{{- if $values.metrics.authorization }}{{ $args = append $args "--metrics-authorization" }}{{ end }}
{{- if eq $values.certificates.source "Files" }}{{ $args = concat $args (list "--tls-cert-file=/tls/tls.crt" "--tls-key-file=/tls/tls.key") }}{{ end }}
{{- if eq .object.metadata.name "provider" }}
{{- if eq $values.certificates.source "Files" }}{{ $args = append $args "--client-ca-file=/tls/ca.crt" }}{{ end }}
{{- with (include "ensemble.clientSecret" .root) }}{{ $args = append $args (printf "--client-secret=%s" .) }}{{ end }}
{{- end }}
{{- toJson $args }}
{{- end }}

{{- define "ensemble.image" -}}
{{- $image := .Values.image }}
{{- if $image.digest }}{{ printf "%s@%s" $image.repository $image.digest }}{{ else }}{{ printf "%s:%s" $image.repository (default .Chart.AppVersion $image.tag) }}{{ end }}
{{- end }}

{{/* ensemble.gates prints who gives the pods of managed workloads their scheduling gate. */}}
{{- define "ensemble.gates" -}}
{{- $gates := .Values.gates }}
{{- if eq $gates "Auto" }}{{ $gates = ternary "Policy" "Webhook" (semverCompare ">=1.36.0-0" .Capabilities.KubeVersion.Version) }}{{ end }}
{{- $gates }}
{{- end }}

{{/* ensemble.elsewhere prints the namespace of Cluster Autoscaler where that is not ours, and else nothing. */}}
{{- define "ensemble.elsewhere" -}}
{{- with .Values.clusterAutoscaler.namespace }}{{ if ne . $.Release.Namespace }}{{ . }}{{ end }}{{ end }}
{{- end }}

{{/* ensemble.clientSecret prints the Secret that the provider writes Cluster Autoscaler's certificate to, where that is not in our namespace. */}}
{{- define "ensemble.clientSecret" -}}
{{- $elsewhere := include "ensemble.elsewhere" . }}
{{- if and $elsewhere (eq .Values.certificates.source "Issued") }}{{ printf "%s/cluster-autoscaler-provider-tls" $elsewhere }}{{ end }}
{{- end }}

{{/* ensemble.memoryLimit prints nine tenths of a limit of memory, at which garbage is collected, as GOMEMLIMIT wants it. */}}
{{- define "ensemble.memoryLimit" -}}
{{- with (dig "limits" "memory" "" .) }}
{{- $amount := regexFind "^[0-9]+" . | int64 }}
{{- if hasSuffix "Gi" . }}{{ $amount = mul $amount 1024 }}{{ end }}
{{- printf "%dMiB" (div (mul $amount 9) 10) }}
{{- end }}
{{- end }}

{{/* ensemble.check fails where values contradict each other, or the cluster has what this version does not take over. */}}
{{- define "ensemble.check" -}}
{{- if eq .Values.image.tag "latest" }}
{{- fail "image.tag: is latest, and which version that is changes under a release; name a version, or leave it empty for that of the chart" }}
{{- end }}
{{- range $program := list "provider" "controller" }}
{{- if hasKey (index $.Values $program).podLabels "app.kubernetes.io/name" }}
{{- fail (printf "%s.podLabels: has app.kubernetes.io/name, by which Services and NetworkPolicies know the pods; leave it out" $program) }}
{{- end }}
{{- end }}
{{- $machines := .Values.machines }}
{{- if not (or $machines.kwok.enabled $machines.karpenter.enabled $machines.clusterAPI.enabled) }}
{{- fail "machines: nothing is enabled, so no NodePool could ever have a machine; set enabled of machines.kwok, machines.karpenter or machines.clusterAPI" }}
{{- end }}
{{- if and (eq .Values.gates "Policy") (not (semverCompare ">=1.36.0-0" .Capabilities.KubeVersion.Version)) }}
{{- fail (printf "gates: is Policy, and Kubernetes %s has no MutatingAdmissionPolicy, which came with 1.36; set Webhook or Auto" .Capabilities.KubeVersion.Version) }}
{{- end }}
{{- if and (eq .Values.certificates.source "Issued") (or .Values.certificates.caBundle .Values.certificates.webhookAnnotations) }}
{{- fail "certificates: caBundle and webhookAnnotations are for source: Files; with Issued the controller puts its own authority into the webhooks" }}
{{- end }}
{{- if lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" "kwokmachines.autoscaling.flux-framework.org" }}
{{- with (lookup "autoscaling.flux-framework.org/v1alpha1" "KwokMachine" "" "").items }}
{{- fail (printf "there are %d KwokMachines, the simulated machines of an earlier version, and this version does not take them over; delete their NodePools while the version that is installed runs, then run this again" (len .)) }}
{{- end }}
{{- end }}
{{- end }}
