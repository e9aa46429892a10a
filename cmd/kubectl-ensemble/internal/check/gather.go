package check

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/cluster"
)

// gatherer reads facts with the rights of the user.
type gatherer struct {
	client    client.Client
	discovery discovery.DiscoveryInterface
	shipped   *Shipped
	// named is set when the namespace of the programs was said.
	named bool
	facts *Facts
	mutex sync.Mutex
}

// Gather reads what a check looks at. What the user may not read is told in Facts.Unknown; an error is about the API server. namespace is
// that of provider and controller; empty looks for their pods.
func Gather(
	ctx context.Context, c client.Client, d discovery.DiscoveryInterface, shipped *Shipped, namespace string, now time.Time,
) (*Facts, error) {
	g := &gatherer{client: c, discovery: d, shipped: shipped, named: namespace != "", facts: &Facts{
		Now: now, Namespace: cmp.Or(namespace, Namespace), Served: map[schema.GroupVersionResource]bool{},
		Namespaces:   map[string]map[string]string{},
		ForeignNodes: map[string][]string{}, Secrets: map[string]*Secret{}, Endpoints: map[string]int{},
		Services: map[string][]corev1.ServicePort{}, Members: map[string][]string{},
	}}
	for _, step := range []func(context.Context) error{
		g.readServed, g.readPods, g.readPools, g.readSecrets, g.readServices, g.readNetwork, g.readWebhooks, g.readCalls, g.readPolicies,
		g.readRights, g.readMembers,
	} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(g.facts.Unknown, func(a, b Unknown) int { return strings.Compare(a.Resource+a.Namespace, b.Resource+b.Namespace) })
	return g.facts, nil
}

// unknown notes what could not be read for want of a right, and returns any other error. What does not exist, or is not served, is not
// there.
func (g *gatherer) unknown(err error, verb, resource, namespace, what string) error {
	switch {
	case err == nil, apierrors.IsNotFound(err), meta.IsNoMatchError(err):
		return nil
	case apierrors.IsForbidden(err):
		g.mutex.Lock()
		defer g.mutex.Unlock()
		g.facts.Unknown = append(g.facts.Unknown, Unknown{
			Gap: cluster.Gap{Verb: verb, Resource: resource, Namespace: namespace, Message: err.Error()}, What: what,
		})
		return nil
	default:
		return fmt.Errorf("%s %s: %w", verb, resource, err)
	}
}

// readServed asks for the version of the API server, and for what it serves of the groups that matter.
func (g *gatherer) readServed(context.Context) error {
	v, err := g.discovery.ServerVersion()
	if err != nil {
		return fmt.Errorf("ask the API server for its version: %w", err)
	}
	g.facts.Kubernetes = v.GitVersion
	versions := map[schema.GroupVersion]bool{miniClusters.GroupVersion(): true, policiesOf(mutatingPolicies).GroupVersion(): true}
	for _, resource := range g.shipped.Definitions {
		versions[resource.GroupVersion()] = true
	}
	for version := range versions {
		list, err := g.discovery.ServerResourcesForGroupVersion(version.String())
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("ask the API server for the resources of %s: %w", version, err)
		}
		for i := range list.APIResources {
			g.facts.Served[version.WithResource(list.APIResources[i].Name)] = true
		}
	}
	return nil
}

// pageSize is how many pods are asked for at a time: of a large cluster few are of interest.
const pageSize = 500

// readPods finds the pods of the programs and of every Cluster Autoscaler: in all namespaces, or where that is not allowed in those where
// they usually are.
func (g *gatherer) readPods(ctx context.Context) error {
	err := g.eachPod(ctx, "")
	if apierrors.IsForbidden(err) {
		if failed := g.unknown(err, "list", "pods in all namespaces", "", "other Cluster Autoscalers"); failed != nil {
			return failed
		}
		usual := slices.DeleteFunc(slices.Clone(cluster.AutoscalerNamespaces), func(name string) bool { return name == g.facts.Namespace })
		for _, namespace := range append([]string{g.facts.Namespace}, usual...) {
			resource, in := "pods", namespace
			if namespace != g.facts.Namespace {
				// Without those of the programs' namespace nothing is known of pods; these are a part.
				resource, in = "pods in namespace "+namespace, ""
			}
			if failed := g.unknown(g.eachPod(ctx, namespace), "list", resource, in, "the programs and Cluster Autoscaler"); failed != nil {
				return failed
			}
		}
		err = nil
	}
	if err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	g.findPrograms()
	return g.readConfigs(ctx)
}

// findPrograms finds the namespace of the programs where it was not said: that of the manifests, or where no pod of theirs is in it another
// one that has some. Pods in other namespaces are not of this installation.
func (g *gatherer) findPrograms() {
	of := map[string]bool{}
	for _, pod := range slices.Concat(g.facts.Provider, g.facts.Controller) {
		of[pod.Namespace] = true
	}
	if !g.named && len(of) > 0 && !of[g.facts.Namespace] {
		g.facts.Namespace = slices.Sorted(maps.Keys(of))[0]
	}
	elsewhere := func(p Pod) bool { return p.Namespace != g.facts.Namespace }
	g.facts.Provider = slices.DeleteFunc(g.facts.Provider, elsewhere)
	g.facts.Controller = slices.DeleteFunc(g.facts.Controller, elsewhere)
}

func (g *gatherer) eachPod(ctx context.Context, namespace string) error {
	for next := ""; ; {
		var list corev1.PodList
		if err := g.client.List(ctx, &list, client.InNamespace(namespace), client.Limit(pageSize), client.Continue(next)); err != nil {
			return err
		}
		for i := range list.Items {
			g.sort(&list.Items[i])
		}
		if next = list.Continue; next == "" {
			return nil
		}
	}
}

// sort notes a pod that is of interest.
func (g *gatherer) sort(pod *corev1.Pod) {
	if pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return
	}
	switch pod.Labels[labelName] {
	case nameProvider:
		g.facts.Provider = append(g.facts.Provider, podOf(pod, 0))
	case nameController:
		g.facts.Controller = append(g.facts.Controller, podOf(pod, 0))
	default:
		for i := range pod.Spec.Containers {
			if read := podOf(pod, i); isAutoscaler(&pod.Spec.Containers[i], read.Flags) {
				g.facts.Autoscalers = append(g.facts.Autoscalers, autoscalerOf(pod, read))
				return
			}
		}
	}
}

// isAutoscaler reports whether a container is a Cluster Autoscaler: by its program or image, and a flag that no other program of these
// names has.
func isAutoscaler(c *corev1.Container, flags Flags) bool {
	_, has := flags["cloud-provider"]
	named := strings.Contains(path.Base(c.Image), nameAutoscaler) ||
		slices.ContainsFunc(slices.Concat(c.Command, c.Args), func(word string) bool { return path.Base(word) == nameAutoscaler })
	return has && named
}

func podOf(pod *corev1.Pod, container int) Pod {
	c := &pod.Spec.Containers[container]
	p := Pod{
		Namespace: pod.Namespace, Name: pod.Name, Labels: pod.Labels, Flags: ParseFlags(c.Command, c.Args), Waits: waits(pod), Image: c.Image,
		Owner: ownerOf(pod), Ports: c.Ports,
	}
	if file, has := p.Flags["tls-cert-file"]; has {
		if volume := volumeOf(pod, c, file); volume != nil && volume.Secret != nil {
			p.TLSSecret = volume.Secret.SecretName
		}
	}
	for i := range pod.Status.Conditions {
		if condition := &pod.Status.Conditions[i]; condition.Type == corev1.PodReady {
			p.Ready = condition.Status == corev1.ConditionTrue
		}
	}
	for i := range pod.Status.ContainerStatuses {
		if s := &pod.Status.ContainerStatuses[i]; s.Name == c.Name && s.State.Running != nil {
			p.StartedAt = s.State.Running.StartedAt.Time
		}
	}
	return p
}

// volumeOf is the volume that has a file of a container, nil for none.
func volumeOf(pod *corev1.Pod, c *corev1.Container, file string) *corev1.Volume {
	for i := range c.VolumeMounts {
		if file == "" || path.Dir(file) != path.Clean(c.VolumeMounts[i].MountPath) {
			continue
		}
		for j := range pod.Spec.Volumes {
			if pod.Spec.Volumes[j].Name == c.VolumeMounts[i].Name {
				return &pod.Spec.Volumes[j]
			}
		}
	}
	return nil
}

// ownerOf is the workload of a pod. That of a ReplicaSet is its Deployment, whose name and a hash are the ReplicaSet's: during an update a
// Deployment has two.
func ownerOf(pod *corev1.Pod) string {
	owner := metav1.GetControllerOfNoCopy(pod)
	if owner == nil {
		return "Pod " + pod.Namespace + "/" + pod.Name
	}
	name := owner.Name
	if hash := pod.Labels["pod-template-hash"]; owner.Kind == "ReplicaSet" && hash != "" {
		name = strings.TrimSuffix(name, "-"+hash)
	}
	return owner.Kind + " " + pod.Namespace + "/" + name
}

func autoscalerOf(pod *corev1.Pod, read Pod) Autoscaler {
	a := Autoscaler{Pod: read}
	for i := range pod.Spec.Volumes {
		if secret := pod.Spec.Volumes[i].Secret; secret != nil {
			a.Secrets = append(a.Secrets, secret.SecretName)
		}
	}
	file := read.Flags.Value("cloud-config", "")
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		a.Restarts = a.Restarts || slices.Contains(slices.Concat(c.Command, c.Args), "until-changed")
		if volume := volumeOf(pod, c, file); volume != nil && volume.ConfigMap != nil {
			a.CloudConfig = &CloudConfig{ConfigMap: pod.Namespace + "/" + volume.ConfigMap.Name}
		}
	}
	return a
}

// readConfigs reads the ConfigMaps with the files of --cloud-config.
func (g *gatherer) readConfigs(ctx context.Context) error {
	for i := range g.facts.Autoscalers {
		a := &g.facts.Autoscalers[i]
		if !a.Ours() || a.CloudConfig == nil {
			continue
		}
		namespace, name, _ := strings.Cut(a.CloudConfig.ConfigMap, "/")
		var config corev1.ConfigMap
		err := g.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &config)
		if err != nil {
			if err := g.unknown(err, "get", "configmaps", namespace, "where Cluster Autoscaler looks for the provider"); err != nil {
				return err
			}
			a.CloudConfig = nil
			continue
		}
		if err := yaml.Unmarshal([]byte(config.Data[path.Base(a.Flags.Value("cloud-config", ""))]), a.CloudConfig); err != nil {
			// What cannot be read says nothing: the finding is that its fields are empty.
			a.CloudConfig = &CloudConfig{ConfigMap: a.CloudConfig.ConfigMap}
		}
	}
	return nil
}

// karpenterLabel is that by which Karpenter knows its own nodes.
const karpenterLabel = "karpenter.sh/nodepool"

// readPools reads the NodePools, and looks for nodes of theirs that others take for their own.
func (g *gatherer) readPools(ctx context.Context) error {
	var pools v1alpha1.NodePoolList
	if err := g.unknown(g.client.List(ctx, &pools), "list", "nodepools."+v1alpha1.Group, "", "the NodePools"); err != nil {
		return err
	}
	g.facts.Pools = pools.Items
	nodes := &metav1.PartialObjectMetadataList{}
	nodes.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("NodeList"))
	err := g.client.List(ctx, nodes, client.HasLabels{v1alpha1.LabelNodePool, karpenterLabel})
	for i := range nodes.Items {
		g.facts.ForeignNodes[karpenterLabel] = append(g.facts.ForeignNodes[karpenterLabel], nodes.Items[i].Name)
	}
	return g.unknown(err, "list", "nodes", "", "whether another autoscaler has nodes of NodePools")
}

// readSecrets reads the certificates, and never a key.
func (g *gatherer) readSecrets(ctx context.Context) error {
	for _, key := range []string{g.facts.providerSecretKey(), g.facts.clientSecretKey(), g.facts.controllerSecretKey()} {
		if key == "" {
			continue
		}
		namespace, name, _ := strings.Cut(key, "/")
		var secret corev1.Secret
		switch err := g.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &secret); {
		case err == nil:
			g.facts.Secrets[key] = parseSecret(secret.Data, secret.CreationTimestamp.Time)
		case apierrors.IsForbidden(err) && !g.facts.knows("secrets"):
		default:
			if err := g.unknown(err, "get", "secrets", namespace, "the certificates and their ends"); err != nil {
				return err
			}
		}
	}
	return nil
}

// readServices reads the ports of the provider's Services.
func (g *gatherer) readServices(ctx context.Context) error {
	for _, name := range []string{serviceProvider, serviceExpander} {
		if !g.facts.knows("services") {
			return nil
		}
		var service corev1.Service
		err := g.client.Get(ctx, client.ObjectKey{Namespace: g.facts.Namespace, Name: name}, &service)
		if err == nil {
			g.facts.Services[g.facts.Namespace+"/"+name] = service.Spec.Ports
		}
		if err := g.unknown(err, "get", "services", g.facts.Namespace, "the ports of the provider"); err != nil {
			return err
		}
	}
	return nil
}

// readNetwork reads the NetworkPolicies of the namespace, and the labels of namespaces.
func (g *gatherer) readNetwork(ctx context.Context) error {
	var policies networkingv1.NetworkPolicyList
	if err := g.unknown(g.client.List(
		ctx, &policies, client.InNamespace(g.facts.Namespace),
	), "list", "networkpolicies.networking.k8s.io", g.facts.Namespace,
		"whether the NetworkPolicies let Cluster Autoscaler through"); err != nil {
		return err
	}
	g.facts.NetworkPolicies = policies.Items
	wanted := map[string]bool{g.facts.Namespace: true}
	for i := range g.facts.Autoscalers {
		wanted[g.facts.Autoscalers[i].Namespace] = true
	}
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		var namespace corev1.Namespace
		err := g.client.Get(ctx, client.ObjectKey{Name: name}, &namespace)
		// Every namespace has the label of its name.
		g.facts.Namespaces[name] = map[string]string{corev1.LabelMetadataName: name}
		if err == nil {
			g.facts.Namespaces[name] = namespace.Labels
		}
		if err := g.unknown(err, "get", "namespaces", "", "the labels of namespace "+name); err != nil {
			return err
		}
	}
	return nil
}

// readWebhooks reads the configurations that are shipped, and how many answer.
func (g *gatherer) readWebhooks(ctx context.Context) error {
	for _, configuration := range slices.Sorted(maps.Keys(g.shipped.Webhooks)) {
		kind, name, _ := strings.Cut(configuration, " ")
		var err error
		if kind == validatingWebhooks {
			var c admissionregistrationv1.ValidatingWebhookConfiguration
			err = g.client.Get(ctx, client.ObjectKey{Name: name}, &c)
			for i := range c.Webhooks {
				g.noteWebhook(configuration, c.Webhooks[i].Name, &c.Webhooks[i].ClientConfig, c.Webhooks[i].FailurePolicy)
			}
		} else {
			var c admissionregistrationv1.MutatingWebhookConfiguration
			err = g.client.Get(ctx, client.ObjectKey{Name: name}, &c)
			for i := range c.Webhooks {
				g.noteWebhook(configuration, c.Webhooks[i].Name, &c.Webhooks[i].ClientConfig, c.Webhooks[i].FailurePolicy)
			}
		}
		if err := g.unknown(err, "get", webhooksOf(kind), "", "the webhooks of "+configuration); err != nil {
			return err
		}
	}
	for i := range g.facts.Webhooks {
		service := g.facts.Webhooks[i].Service
		if _, known := g.facts.Endpoints[service]; known || service == "" || !g.facts.knows("endpointslices.discovery.k8s.io") {
			continue
		}
		namespace, name, _ := strings.Cut(service, "/")
		var slicesOf discoveryv1.EndpointSliceList
		err := g.client.List(ctx, &slicesOf, client.InNamespace(namespace), client.MatchingLabels{discoveryv1.LabelServiceName: name})
		if err := g.unknown(err, "list", "endpointslices.discovery.k8s.io", namespace, "whether the webhooks are answered"); err != nil {
			return err
		}
		g.facts.Endpoints[service] = ready(slicesOf.Items)
	}
	return nil
}

// ready counts the endpoints that are ready. One that does not say is.
func ready(of []discoveryv1.EndpointSlice) int {
	count := 0
	for i := range of {
		for j := range of[i].Endpoints {
			if r := of[i].Endpoints[j].Conditions.Ready; r == nil || *r {
				count++
			}
		}
	}
	return count
}

func (g *gatherer) noteWebhook(
	configuration, name string, config *admissionregistrationv1.WebhookClientConfig, policy *admissionregistrationv1.FailurePolicyType,
) {
	w := Webhook{Configuration: configuration, Name: name, Closed: policy == nil || *policy == admissionregistrationv1.Fail}
	if config.Service != nil {
		w.Service = config.Service.Namespace + "/" + config.Service.Name
	}
	var err error
	if w.CABundle, err = parseCertificates(config.CABundle); err != nil {
		w.Fault = err.Error()
	}
	g.facts.Webhooks = append(g.facts.Webhooks, w)
}

// readPolicies reads the admission policies and the bindings of them.
func (g *gatherer) readPolicies(ctx context.Context) error {
	note := func(kind, name, binds string, denies bool) {
		g.facts.Policies = append(g.facts.Policies, Policy{Kind: kind, Name: name, Binds: binds, Denies: denies})
	}
	for _, kind := range []struct {
		name string
		list client.ObjectList
	}{
		{validatingPolicies, &admissionregistrationv1.ValidatingAdmissionPolicyList{}},
		{mutatingPolicies, &admissionregistrationv1.MutatingAdmissionPolicyList{}},
		{validatingPolicies + binding, &admissionregistrationv1.ValidatingAdmissionPolicyBindingList{}},
		{mutatingPolicies + binding, &admissionregistrationv1.MutatingAdmissionPolicyBindingList{}},
	} {
		if !g.facts.Serves(policiesOf(kind.name)) {
			continue
		}
		if err := g.unknown(
			g.client.List(ctx, kind.list), "list", policiesOf(kind.name).GroupResource().String(), "", "whether the admission policies are bound",
		); err != nil {
			return err
		}
		switch list := kind.list.(type) {
		case *admissionregistrationv1.ValidatingAdmissionPolicyList:
			for i := range list.Items {
				note(kind.name, list.Items[i].Name, "", false)
			}
		case *admissionregistrationv1.MutatingAdmissionPolicyList:
			for i := range list.Items {
				note(kind.name, list.Items[i].Name, "", false)
			}
		case *admissionregistrationv1.ValidatingAdmissionPolicyBindingList:
			for i := range list.Items {
				spec := &list.Items[i].Spec
				note(kind.name, list.Items[i].Name, spec.PolicyName, slices.Contains(spec.ValidationActions, admissionregistrationv1.Deny))
			}
		case *admissionregistrationv1.MutatingAdmissionPolicyBindingList:
			for i := range list.Items {
				note(kind.name, list.Items[i].Name, list.Items[i].Spec.PolicyName, false)
			}
		}
	}
	return nil
}

// reviewsInParallel is how many rights are asked for at a time.
const reviewsInParallel = 16

// readRights asks the API server about each right that the programs need. It changes nothing: a review is an answer and no object.
func (g *gatherer) readRights(ctx context.Context) error {
	if !g.facts.Installed() {
		return nil
	}
	rights := wantedRights(g.facts, g.shipped)
	failures := make([]error, len(rights))
	workqueue.ParallelizeUntil(ctx, reviewsInParallel, len(rights), func(i int) {
		r := &rights[i]
		resource, sub, _ := strings.Cut(r.Resource, "/")
		review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
			User:   "system:serviceaccount:" + g.facts.Namespace + ":" + r.Program,
			Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + g.facts.Namespace, "system:authenticated"},
			ResourceAttributes: &authorizationv1.ResourceAttributes{
				Namespace: r.Namespace, Verb: r.Verb, Group: r.Group, Resource: resource, Subresource: sub, Name: r.Name,
			},
		}}
		failures[i] = g.client.Create(ctx, review)
		r.Allowed = review.Status.Allowed
	})
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, err := range failures {
		if err != nil {
			return g.unknown(err, "create", "subjectaccessreviews.authorization.k8s.io", "", "what rights the programs have")
		}
	}
	g.facts.Rights = rights
	return nil
}
