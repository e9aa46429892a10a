package apitest

import (
	"context"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	ensemblev1alpha1 "github.com/ensemble-autoscaler/ensemble-autoscaler/api/ensemble/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// Owners that control what is made for them: an Ensemble, and another kind.
const (
	byEnsemble = `{apiVersion: ensemble.flux-framework.org/v1alpha1, kind: Ensemble, name: e, uid: 7c4aa9a8-1f3b-4f0e-8a11-000000000001, controller: true}`
	byAnother  = `{apiVersion: apps/v1, kind: Ensemble, name: e, uid: 7c4aa9a8-1f3b-4f0e-8a11-000000000001, controller: true}`
)

// TestWhatTheControllerMayWrite: of pods those of members, and of these not what runs in them; of ConfigMaps those of Ensembles.
// Nobody else is held to that.
func TestWhatTheControllerMayWrite(t *testing.T) {
	applyManifest(t, "controller", "gates.yaml")
	controller, user := as(t, "system:serviceaccount:ensemble-autoscaler-system:controller"), as(t, "system:serviceaccount:default:controller")

	const member, ensemble = v1alpha1.LabelMember + ": m", ensemblev1alpha1.LabelEnsemble + ": e"
	pod := func(name, labels, spec string) *unstructured.Unstructured {
		return create(
			t,
			parse(
				t,
				`{apiVersion: v1, kind: Pod, metadata: {name: `+name+`, namespace: default, labels: {`+labels+`}}, spec: {containers: [{name: c, image: i}], `+spec+`}}`,
			),
		)
	}
	configMapIn := func(namespace, name, labels, owner string) *unstructured.Unstructured {
		return parse(
			t,
			`{apiVersion: v1, kind: ConfigMap, metadata: {name: `+name+`, namespace: `+namespace+`, labels: {`+labels+`}, ownerReferences: [`+owner+`]}, data: {was: here}}`,
		)
	}
	configMap := func(name, labels string) *unstructured.Unstructured {
		owner := ""
		if labels == ensemble {
			owner = byEnsemble
		}
		return configMapIn("default", name, labels, owner)
	}
	const gate = "schedulingGates: [{name: " + v1alpha1.SchedulingGate + "}]"
	gated, plain, foreign := pod(
		"gated", member, gate+", initContainers: [{name: first, image: i}]",
	), pod("plain", member, gate), pod("foreign", "", gate)
	onNode := pod("on-a-node", member, "nodeName: a-node, terminationGracePeriodSeconds: 0")
	ofEnsemble, ofOthers := create(t, configMap("of-an-ensemble", ensemble)), create(t, configMap("of-others", "app: others"))

	creates := func(by client.Client, object *unstructured.Unstructured) func(context.Context) error {
		return func(ctx context.Context) error { return by.Create(ctx, object, client.DryRunAll) }
	}
	updates := func(by client.Client, object *unstructured.Unstructured, change string) func(context.Context) error {
		return func(ctx context.Context) error { return by.Update(ctx, edit(t, object, change), client.DryRunAll) }
	}
	deletes := func(by client.Client, object *unstructured.Unstructured) func(context.Context) error {
		return func(ctx context.Context) error { return by.Delete(ctx, object.DeepCopy(), client.DryRunAll) }
	}
	const release = `{spec: {schedulingGates: null, nodeSelector: {kubernetes.io/hostname: a-node}}}`
	notOurs, runs, bound, config := []string{
		"writes no pods but those with the label " + v1alpha1.LabelMember,
	}, []string{"does not change what runs in a pod"},
		[]string{
			"deletes no pod that is on a node",
		}, []string{"writes no ConfigMaps but those of an Ensemble, with the label " + ensemblev1alpha1.LabelEnsemble}

	// The API server learns of policies by watching.
	if err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 5*time.Minute, true, func(ctx context.Context) (bool, error) {
		return apierrors.IsForbidden(deletes(controller, foreign)(ctx)) && apierrors.IsForbidden(deletes(controller, ofOthers)(ctx)), nil
	}); err != nil {
		t.Fatalf("the policies are not enforced: %v", err)
	}
	for name, row := range map[string]struct {
		write   func(context.Context) error
		refused []string
	}{
		"to release a pod":                      {updates(controller, plain, release), nil},
		"to release a pod with init containers": {updates(controller, gated, release), nil},
		"another image":                         {updates(controller, plain, `{spec: {containers: [{name: c, image: another}]}}`), runs},
		"another image of an init container":    {updates(controller, gated, `{spec: {initContainers: [{name: first, image: another}]}}`), runs},
		"a user's image of an init container":   {updates(user, gated, `{spec: {initContainers: [{name: first, image: another}]}}`), nil},
		"to release another's pod":              {updates(controller, foreign, release), notOurs},
		"to take over another's pod":            {updates(controller, foreign, `{metadata: {labels: {`+member+`}}}`), notOurs},
		"deletion of a pod":                     {deletes(controller, gated), nil},
		"deletion of a pod on a node":           {deletes(controller, onNode), bound},
		"deletion of another's pod":             {deletes(controller, foreign), notOurs},
		"a user's deletion of a pod":            {deletes(user, onNode), nil},
		"a new ConfigMap":                       {creates(controller, configMap("new", ensemble)), nil},
		"a new ConfigMap without the label":     {creates(controller, configMap("new", "")), config},
		"a new ConfigMap with the label alone":  {creates(controller, configMapIn("default", "new", ensemble, "")), config},
		"a new ConfigMap of another kind":       {creates(controller, configMapIn("default", "new", ensemble, byAnother)), config},
		"a new ConfigMap in kube-system": {
			creates(controller, configMapIn("kube-system", "new", ensemble, byEnsemble)),
			[]string{"creates no ConfigMaps in the namespaces of Kubernetes itself"},
		},
		"another text":                     {updates(controller, ofEnsemble, `{data: {was: another}}`), nil},
		"another text of another's":        {updates(controller, ofOthers, `{data: {was: another}}`), config},
		"to take over another's ConfigMap": {updates(controller, ofOthers, `{metadata: {labels: {`+ensemble+`}}}`), config},
		"deletion of a ConfigMap":          {deletes(controller, ofEnsemble), nil},
		"deletion of another's ConfigMap":  {deletes(controller, ofOthers), config},
		"a user's new ConfigMap":           {creates(user, configMap("new", "")), nil},
		"a user's text":                    {updates(user, ofOthers, `{data: {was: another}}`), nil},
		"a user's deletion of a ConfigMap": {deletes(user, ofOthers), nil},
	} {
		t.Run(name, func(t *testing.T) { judge(t, row.write(t.Context()), row.refused) })
	}
}
