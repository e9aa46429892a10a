package admission

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	webhook "sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	"sigs.k8s.io/yaml"
)

// TestGate: the pods that the policy of manifests/controller/gates.yaml would give a gate get it, and nothing else of them
// changes.
func TestGate(t *testing.T) {
	t.Parallel()
	scheme, _ := reads(t, interceptor.Funcs{})
	const (
		labelled = `metadata: {labels: {autoscaling.flux-framework.org/member: demo}, `
		ofJob    = `ownerReferences: [{apiVersion: batch/v1, kind: Job, name: demo, uid: u, controller: true}]}`
		ours     = `[{"op":"add","path":"/spec/schedulingGates","value":[{"name":"autoscaling.flux-framework.org/nodes-ready"}]}]`
	)
	for name, row := range map[string]struct {
		pod   string
		op    admissionv1.Operation
		patch string
	}{
		"a pod of a managed MiniCluster": {labelled + ofJob + `, spec: {containers: [{name: c, image: i}]}`, admissionv1.Create, ours},
		"fields that are not known here": {
			labelled + ofJob + `, spec: {ofTheFuture: {large: 9007199254740993}}`, admissionv1.Create, ours,
		},
		"no list of gates, said in so many words": {labelled + ofJob + `, spec: {schedulingGates: null}`, admissionv1.Create, ours},
		"an empty list of gates":                  {labelled + ofJob + `, spec: {schedulingGates: []}`, admissionv1.Create, ours},
		"an empty name of a node":                 {labelled + ofJob + `, spec: {nodeName: ""}`, admissionv1.Create, ours},
		"an empty value of the label": {
			`metadata: {labels: {autoscaling.flux-framework.org/member: ""}, ` + ofJob + `, spec: {}`, admissionv1.Create, ours,
		},
		"a Job among other owners": {
			labelled + `ownerReferences: [{kind: Other}, {kind: Job, controller: true}]}, spec: {}`, admissionv1.Create, ours,
		},
		"a gate of somebody else's": {
			labelled + ofJob + `, spec: {schedulingGates: [{name: example.com/other}]}`, admissionv1.Create,
			`[{"op":"add","path":"/spec/schedulingGates/-","value":{"name":"autoscaling.flux-framework.org/nodes-ready"}}]`,
		},
		"one that has the gate": {
			labelled + ofJob + `, spec: {schedulingGates: [{name: example.com/other}, {name: autoscaling.flux-framework.org/nodes-ready}]}`,
			admissionv1.Create, "",
		},
		"a pod without the label":           {`metadata: {labels: {app: demo}, ` + ofJob + `, spec: {}`, admissionv1.Create, ""},
		"a pod with the label and no owner": {labelled + `name: x}, spec: {}`, admissionv1.Create, ""},
		"a pod of another kind of owner": {
			labelled + `ownerReferences: [{kind: ReplicaSet, controller: true}]}, spec: {}`, admissionv1.Create, "",
		},
		"a pod whose Job is not its controller": {
			labelled + `ownerReferences: [{kind: Job, controller: false}]}, spec: {}`, admissionv1.Create, "",
		},
		"a pod of whose Job nothing of it is said": {labelled + `ownerReferences: [{kind: Job}]}, spec: {}`, admissionv1.Create, ""},
		"a pod that names its node":                {labelled + ofJob + `, spec: {nodeName: node-1}`, admissionv1.Create, ""},
		"an update":                                {labelled + ofJob + `, spec: {}`, admissionv1.Update, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			raw, err := yaml.YAMLToJSON([]byte(`{apiVersion: v1, kind: Pod, ` + row.pod + `}`))
			if err != nil {
				t.Fatal(err)
			}
			hook := &webhook.Webhook{Handler: &gater{webhook.NewDecoder(scheme)}}
			response := hook.Handle(t.Context(), webhook.Request{AdmissionRequest: admissionv1.AdmissionRequest{
				UID: "uid", Operation: row.op, Object: runtime.RawExtension{Raw: raw},
			}})
			if !response.Allowed || len(response.Warnings) > 0 {
				t.Errorf("the answer is %+v", response.Result)
			}
			if diff := cmp.Diff(meaning(t, row.patch), meaning(t, string(response.Patch))); diff != "" {
				t.Errorf("the patch (-want +got):\n%s", diff)
			}
		})
	}
}

// meaning is what a JSON text says, however it is written.
func meaning(t *testing.T, text string) (value any) {
	t.Helper()
	if text == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return value
}
