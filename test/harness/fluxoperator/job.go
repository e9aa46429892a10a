package main

import (
	"cmp"
	"maps"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	labelHPA = "hpa-selector"
	labelApp = "app.kubernetes.io/name"
	// labelIndex is the operator's own label, put on pods after their creation. It is not the one of the
	// Job controller, batch.kubernetes.io/job-completion-index.
	labelIndex = "job-index"

	defaultBackoffLimit = 100
)

// newJob is the Job of a MiniCluster. Its completions equal its parallelism, which is what lets
// Kubernetes change them later (an elastic Indexed Job).
func newJob(cluster miniCluster) *batchv1.Job {
	spec := cluster.Spec
	backoffLimit := cmp.Or(spec.BackoffLimit, defaultBackoffLimit)
	job := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Name:      cluster.Name,
			Namespace: cluster.Namespace,
			Labels:    spec.JobLabels,
		},
		Spec: batchv1.JobSpec{
			Completions:    new(spec.Size),
			Parallelism:    new(spec.Size),
			CompletionMode: new(batchv1.IndexedCompletion),
			BackoffLimit:   &backoffLimit,
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{
					Labels:      podLabels(cluster),
					Annotations: spec.Pod.Annotations,
				},
				Spec: corev1.PodSpec{
					Subdomain:                    spec.Network.HeadlessName,
					SetHostnameAsFQDN:            new(false),
					RestartPolicy:                corev1.RestartPolicy(cmp.Or(spec.Pod.RestartPolicy, string(corev1.RestartPolicyOnFailure))),
					NodeSelector:                 spec.Pod.NodeSelector,
					Tolerations:                  tolerations(spec.Pod.Tolerations),
					SchedulerName:                spec.Pod.SchedulerName,
					ServiceAccountName:           spec.Pod.ServiceAccountName,
					AutomountServiceAccountToken: new(spec.Pod.AutomountServiceAccountToken),
					Affinity:                     affinity(cluster),
					Containers:                   containers(cluster),
				},
			},
		},
	}
	if spec.DeadlineSeconds > 0 {
		job.Spec.ActiveDeadlineSeconds = new(spec.DeadlineSeconds)
	}
	return job
}

func podLabels(cluster miniCluster) map[string]string {
	labels := maps.Clone(cluster.Spec.Pod.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels["namespace"] = cluster.Namespace
	labels["app"] = "flux-operator"
	labels[labelApp] = cluster.Name
	labels[labelHPA] = cluster.Name
	return labels
}

func tolerations(specs []toleration) []corev1.Toleration {
	var result []corev1.Toleration
	for _, t := range specs {
		result = append(result, corev1.Toleration{
			Key:      t.Key,
			Operator: corev1.TolerationOperator(t.Operator),
			Value:    t.Value,
			Effect:   corev1.TaintEffect(t.Effect),
		})
	}
	return result
}

// containers are those of the MiniCluster. The one that runs Flux gets the name of the MiniCluster.
func containers(cluster miniCluster) []corev1.Container {
	var result []corev1.Container
	for _, c := range cluster.Spec.Containers {
		name := c.Name
		if c.RunFlux || name == "" {
			name = cluster.Name
		}
		pull := corev1.PullPolicy(cmp.Or(c.ImagePullPolicy, string(corev1.PullIfNotPresent)))
		if c.PullAlways {
			pull = corev1.PullAlways
		}
		var command []string
		if c.Command != "" {
			command = []string{"/bin/sh", "-c", c.Command}
		}
		result = append(result, corev1.Container{
			Name:            name,
			Image:           c.Image,
			ImagePullPolicy: pull,
			Command:         command,
			Resources:       c.Resources,
		})
	}
	return result
}

// affinity prefers one zone for all pods and one node for each, and confines them to the nodes of
// nodeAffinity. disableAffinity switches all of it off, nodeAffinity included.
func affinity(cluster miniCluster) *corev1.Affinity {
	if cluster.Spec.Network.DisableAffinity {
		return nil
	}
	towardsOwn := func(topologyKey string) []corev1.WeightedPodAffinityTerm {
		return []corev1.WeightedPodAffinityTerm{{
			Weight: 100,
			PodAffinityTerm: corev1.PodAffinityTerm{
				TopologyKey: topologyKey,
				LabelSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{
					Key: labelApp, Operator: metav1.LabelSelectorOpIn, Values: []string{cluster.Name},
				}}},
			},
		}}
	}
	result := &corev1.Affinity{
		PodAffinity: &corev1.PodAffinity{
			PreferredDuringSchedulingIgnoredDuringExecution: towardsOwn(corev1.LabelTopologyZone),
		},
		PodAntiAffinity: &corev1.PodAntiAffinity{
			PreferredDuringSchedulingIgnoredDuringExecution: towardsOwn(corev1.LabelHostname),
		},
	}
	if len(cluster.Spec.Pod.NodeAffinity) == 0 {
		return result
	}
	var requirements []corev1.NodeSelectorRequirement
	for _, label := range slices.Sorted(maps.Keys(cluster.Spec.Pod.NodeAffinity)) {
		requirements = append(requirements, corev1.NodeSelectorRequirement{
			Key: label, Operator: corev1.NodeSelectorOpIn, Values: cluster.Spec.Pod.NodeAffinity[label],
		})
	}
	result.NodeAffinity = &corev1.NodeAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: requirements}},
		},
	}
	return result
}

// newService is the headless service through which the brokers find each other.
func newService(cluster miniCluster) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: cluster.Spec.Network.HeadlessName, Namespace: cluster.Namespace},
		Spec: corev1.ServiceSpec{
			ClusterIP: corev1.ClusterIPNone,
			Selector:  map[string]string{"job-name": cluster.Name},
		},
	}
}
