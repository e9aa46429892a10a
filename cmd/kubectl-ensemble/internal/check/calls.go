package check

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"

	ensemblev1alpha1 "github.com/ensemble-autoscaler/ensemble-autoscaler/api/ensemble/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// Uncalled is a webhook that the API server could not ask.
type Uncalled struct {
	// Webhook is its name, Cause what the API server said.
	Webhook, Cause string
}

// nameTried is the name of each object that is tried, and of the NodePool that it asks for.
const nameTried = "ensemble-check"

// trial is the creation of an object about which the API server asks webhooks. It is a dry run: nothing comes of it.
type trial struct {
	// webhooks are the names of those that are asked.
	webhooks []string
	resource schema.GroupVersionResource
	kind     string
	// namespaced is set where the object is in the namespace of the programs.
	namespaced  bool
	annotations map[string]string
	labels      map[string]string
	owners      []metav1.OwnerReference
	spec        map[string]any
}

// trials are what all webhooks that are shipped are asked about. The API server asks those that change an object before it looks whether it
// is valid, and those that judge one only if it is.
func trials() []trial {
	miniCluster := map[string]any{"size": int64(1), "containers": []any{map[string]any{"image": nameTried, "runFlux": true}}}
	return []trial{
		{
			webhooks: []string{"nodepools." + v1alpha1.Group}, resource: v1alpha1.GroupVersion.WithResource("nodepools"), kind: "NodePool",
			spec: map[string]any{
				"maxSize": int64(1), "machines": map[string]any{"kwok": map[string]any{}},
				"template": map[string]any{"capacity": map[string]any{"cpu": "1", "memory": "1Gi", "pods": "10"}},
			},
		},
		{
			webhooks: []string{"miniclusters." + v1alpha1.Group, "sizes." + v1alpha1.Group}, resource: miniClusters, kind: "MiniCluster",
			namespaced: true, spec: miniCluster, annotations: map[string]string{
				v1alpha1.AnnotationNodePools: nameTried,
				// By this the API server knows a file that is applied.
				corev1.LastAppliedConfigAnnotation: "{}",
			},
		},
		{
			webhooks: []string{"ensembles." + ensemblev1alpha1.GroupVersion.Group}, kind: "Ensemble", namespaced: true,
			resource: ensemblev1alpha1.GroupVersion.WithResource("ensembles"),
			spec: map[string]any{"members": []any{map[string]any{
				"minicluster": map[string]any{"spec": miniCluster}, "nodePools": []any{nameTried},
				"ensemble": "jobs:\n- name: work\n  command: echo\nrules:\n- trigger: start\n  action: {name: submit, label: work}\n",
			}}},
		},
		{
			webhooks: []string{"pods." + v1alpha1.Group}, resource: corev1.SchemeGroupVersion.WithResource("pods"), kind: "Pod", namespaced: true,
			labels: map[string]string{v1alpha1.LabelMember: nameTried},
			owners: []metav1.OwnerReference{{APIVersion: "batch/v1", Kind: "Job", Name: nameTried, UID: nameTried, Controller: new(true)}},
			// A ServiceAccount that exists: whether it does is asked before the webhooks are.
			spec: map[string]any{
				"serviceAccountName": "controller", "containers": []any{map[string]any{"name": nameTried, "image": nameTried}},
			},
		},
	}
}

// object is what a trial creates.
func (t *trial) object(namespace string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{"spec": t.spec}}
	u.SetGroupVersionKind(t.resource.GroupVersion().WithKind(t.kind))
	u.SetName(nameTried)
	if t.namespaced {
		u.SetNamespace(namespace)
	}
	u.SetAnnotations(t.annotations)
	u.SetLabels(t.labels)
	u.SetOwnerReferences(t.owners)
	return u
}

// readCalls has the API server ask the webhooks that are installed, each way as it asks them about what users write: whether it reaches
// them, and trusts the certificate that it is shown, nobody else can tell. Of a Service without endpoints that is known.
func (g *gatherer) readCalls(ctx context.Context) error {
	asked := map[string]bool{}
	for i := range g.facts.Webhooks {
		w := &g.facts.Webhooks[i]
		known := w.Service != "" && g.facts.knows("endpointslices.discovery.k8s.io")
		asked[w.Name] = asked[w.Name] || !known || g.facts.Endpoints[w.Service] > 0
	}
	all := slices.DeleteFunc(trials(), func(t trial) bool {
		return !slices.ContainsFunc(t.webhooks, func(name string) bool { return asked[name] })
	})
	failures := make([]error, len(all))
	workqueue.ParallelizeUntil(ctx, len(all), len(all), func(i int) { failures[i] = g.call(ctx, &all[i]) })
	if err := ctx.Err(); err != nil {
		return err
	}
	slices.SortFunc(g.facts.Uncalled, func(a, b Uncalled) int { return strings.Compare(a.Webhook+a.Cause, b.Webhook+b.Cause) })
	return errors.Join(failures...)
}

// call makes one trial. Whatever the API server answers, except that it could not ask a webhook, is an answer.
func (g *gatherer) call(ctx context.Context, t *trial) error {
	err := g.client.Create(ctx, t.object(g.facts.Namespace), client.DryRunAll)
	if failed := uncalled(err); failed != nil {
		g.mutex.Lock()
		defer g.mutex.Unlock()
		g.facts.Uncalled = append(g.facts.Uncalled, *failed)
		return nil
	}
	what := fmt.Sprintf("whether the API server reaches the webhooks of %ss", t.kind)
	if apierrors.IsForbidden(err) {
		// A policy or a webhook that refuses the object says so, too: then the user has the right.
		namespace := ""
		if t.namespaced {
			namespace = g.facts.Namespace
		}
		review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
			ResourceAttributes: &authorizationv1.ResourceAttributes{
				Namespace: namespace, Verb: "create", Group: t.resource.Group, Resource: t.resource.Resource,
			},
		}}
		if failed := g.client.Create(ctx, review); failed != nil || !review.Status.Allowed {
			return g.unknown(errors.Join(err, failed), "create", t.resource.GroupResource().String(), namespace, what)
		}
		return nil
	}
	if _, is := errors.AsType[*apierrors.StatusError](err); is {
		return nil
	}
	return g.unknown(err, "create", t.resource.GroupResource().String(), "", what)
}

// calling is how the API server says that it could not ask a webhook.
var calling = regexp.MustCompile(`failed calling webhook "([^"]+)"[:;] (?:failed to call webhook: )?(.*)`)

// uncalled is the webhook that an answer of the API server is about; nil where it could ask all.
func uncalled(err error) *Uncalled {
	if err == nil {
		return nil
	}
	found := calling.FindStringSubmatch(err.Error())
	if found == nil {
		return nil
	}
	return &Uncalled{Webhook: found[1], Cause: found[2]}
}

// findUncalled looks at whether the API server could ask the webhooks. Those of which it is known why it cannot are left out, by their
// Service or configuration.
func findUncalled(f *Facts, known map[string]bool) []Finding {
	type fault struct{ object, reason string }
	faults := map[fault][]Uncalled{}
	for _, u := range f.Uncalled {
		at := slices.IndexFunc(f.Webhooks, func(w Webhook) bool { return w.Name == u.Webhook })
		if at < 0 {
			continue
		}
		w := &f.Webhooks[at]
		if slices.ContainsFunc(f.Webhooks, func(other Webhook) bool {
			return other.Name == u.Webhook && (known[other.Configuration] || known[other.Service])
		}) {
			continue
		}
		object := w.Configuration
		if w.Service != "" {
			object = "Service " + w.Service
		}
		reason := "WebhookUnreachable"
		if strings.Contains(u.Cause, "x509: ") || strings.Contains(u.Cause, "tls: ") {
			reason = "WebhookNotTrusted"
		}
		faults[fault{object, reason}] = append(faults[fault{object, reason}], u)
	}
	var out []Finding
	for _, at := range slices.SortedFunc(maps.Keys(faults), func(a, b fault) int {
		return strings.Compare(a.object+a.reason, b.object+b.reason)
	}) {
		of := faults[at]
		names := make([]string, len(of))
		for i := range of {
			names[i] = of[i].Webhook
		}
		remedy := fmt.Sprintf(
			"let the API server through to the port that the Service names, past firewalls and NetworkPolicies: "+
				"kubectl --namespace %s get service,networkpolicy; kubectl --namespace %s logs deployment/controller", f.Namespace, f.Namespace,
		)
		if at.reason == "WebhookNotTrusted" {
			remedy = fmt.Sprintf(
				"the certificate that the controller shows has to be for the name of the Service, and of the authority in caBundle: "+
					"kubectl --namespace %s rollout restart deployment/controller; see docs/certificates.md", f.Namespace,
			)
		}
		out = append(out, Finding{
			Error, at.reason, at.object, fmt.Sprintf(
				"the API server cannot ask the webhooks %s, and refuses what they would judge: %s", strings.Join(names, ", "), of[0].Cause,
			), remedy,
		})
	}
	return out
}
