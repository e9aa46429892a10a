package apitest

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func TestScale(t *testing.T) {
	for name, test := range map[string]struct {
		object, status string
		wantReplicas   int64 // of the status
		wantSelector   string
		field          string // that the scale subresource writes
		scales         map[int64][]string
	}{
		"a NodePool": {
			// Where Cluster Autoscaler decides, it is refused: see TestWhoMayWriteTheTarget.
			object:       strings.Replace(validNodePool, "minSize: 1", "minSize: 1\n  autoscaler: None", 1),
			status:       `status: {floor: 2, reserved: 2, replicas: 3, ready: 2, selector: autoscaling.flux-framework.org/node-pool=scale}`,
			wantReplicas: 3,
			wantSelector: "autoscaling.flux-framework.org/node-pool=scale",
			field:        "spec.replicas",
			scales: map[int64][]string{
				0:  nil,
				10: nil,
				11: {"spec.replicas", "replicas (11) must not be raised above maxSize (10)"},
				-1: {"-1"},
			},
		},
		"an EnsembleMember": {
			object:       validMember,
			status:       `status: {size: 4, reserved: 4, nodes: 4, selector: hpa-selector=scale}`,
			wantReplicas: 4,
			wantSelector: "hpa-selector=scale",
			field:        "spec.size",
			scales: map[int64][]string{
				2:  nil,
				10: nil,
				11: {"spec.size", "size (11) must be at most maxSize (10)"},
				1:  {"spec.size", "size (1) must be at least minSize (2)"},
				0:  {"spec.size", "size (0) must be at least minSize (2)"},
			},
		},
		"an EnsembleMember with groups, which one number does not tell apart": {
			object:       groupedMember,
			status:       `status: {size: 4, reserved: 4, nodes: 4, selector: hpa-selector=scale}`,
			wantReplicas: 4,
			wantSelector: "hpa-selector=scale",
			field:        "spec.size",
			scales: map[int64][]string{
				4: nil,
				5: {"spec.size", "size (5) must be the sum of groups[].size (4)", "kubectl ensemble scale --group"},
			},
		},
		"an EnsembleMember whose pods come by two": {
			object:       strings.Replace(validMember, "size: 4", "size: 4\n  unit: 2", 1),
			status:       `status: {size: 4, reserved: 4, nodes: 4, selector: hpa-selector=scale}`,
			wantReplicas: 4,
			wantSelector: "hpa-selector=scale",
			field:        "spec.size",
			scales:       map[int64][]string{6: nil, 5: {"spec.size", "size (5) must be a multiple of 2"}},
		},
		"a MiniCluster, which refuses nothing": {
			object:       validMiniCluster,
			status:       `status: {size: 2, maximumSize: 10, jobid: "", selector: hpa-selector=scale}`,
			wantReplicas: 2,
			wantSelector: "hpa-selector=scale",
			field:        "spec.size",
			scales:       map[int64][]string{1: nil, 11: nil},
		},
	} {
		t.Run(name, func(t *testing.T) {
			object := create(t, edit(t, parse(t, test.object), `metadata: {name: scale}`))
			object = edit(t, object, test.status)
			if err := server.client.Status().Update(t.Context(), object); err != nil {
				t.Fatalf("writing the status: %v", err)
			}
			scale := parse(t, "{apiVersion: autoscaling/v1, kind: Scale}")
			if err := server.client.SubResource("scale").Get(t.Context(), object, scale); err != nil {
				t.Fatalf("reading the scale: %v", err)
			}
			if got := field(t, scale, "status.replicas"); got != test.wantReplicas {
				t.Errorf("replicas %v, want %d", got, test.wantReplicas)
			}
			if got := field(t, scale, "status.selector"); got != test.wantSelector {
				t.Errorf("selector %v, want %q", got, test.wantSelector)
			}
			for size, refused := range test.scales {
				scale = edit(t, scale, fmt.Sprintf("{metadata: {resourceVersion: null}, spec: {replicas: %d}}", size))
				err := server.client.SubResource("scale").Update(t.Context(), object, client.WithSubResourceBody(scale.DeepCopy()))
				judge(t, err, refused)
				if err != nil {
					continue
				}
				current := &unstructured.Unstructured{}
				current.SetGroupVersionKind(object.GroupVersionKind())
				if err := server.client.Get(t.Context(), client.ObjectKeyFromObject(object), current); err != nil {
					t.Fatal(err)
				}
				if got := field(t, current, test.field); got != size {
					t.Errorf("%s is %v after scaling, want %d", test.field, got, size)
				}
			}
		})
	}
}
