package ensemble

import (
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/ensemble/v1alpha1"
	autoscaling "github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/admission"
)

// asked is a validator in a cluster with the NodePools a, of small nodes, and b, of a node of 4 cores, and further objects.
func asked(t *testing.T, objects ...client.Object) *validator {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, autoscaling.AddToScheme, corev1.AddToScheme, appsv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	for name, cores := range map[string]string{"a": "1", "b": "4"} {
		pool := &autoscaling.NodePool{ObjectMeta: metav1.ObjectMeta{Name: name}}
		pool.Spec.MaxSize = 4
		pool.Spec.Template.Capacity = corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse(cores), corev1.ResourceMemory: resource.MustParse("1Gi"),
			corev1.ResourcePods: resource.MustParse("10"),
		}
		objects = append(objects, pool)
	}
	c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build()
	return &validator{Settings{Endpoint: "h:1"}, c, &admission.Lookup{Cached: c, Live: c}}
}

const wide = `{size: 2, minSize: 1, maxSize: 4, containers: [{image: i, resources: {requests: {cpu: "3"}}}]}`

// TestMembersOfNew: what cannot be of a member's MiniCluster is refused with the Ensemble, with the path in it.
func TestMembersOfNew(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		spec, more string
		want       []string
	}{
		"all is well": {wide, ", nodePools: [b, a]", nil},
		"not managed": {wide, "", nil},
		"an unknown pool": {
			wide, ", nodePools: [b, c]",
			[]string{`spec.members[1].nodePools: Invalid value: "b,c": there is no NodePool "c"; those that can be named here are a, b`},
		},
		"pods that fit nowhere": {
			wide, ", nodePools: [a]",
			[]string{
				`spec.members[1].minicluster.spec.containers: Invalid value: a pod requests 3 of cpu and an empty node of a offers 1: no node of its ` +
					`NodePools is large enough`,
			},
		},
		"too many pods to a node": {
			wide, ", nodePools: [b], podsPerNode: 2",
			[]string{`spec.members[1].podsPerNode: Invalid value: 2: 2 pods that share a node request 6 of cpu and an empty node of b offers 4`},
		},
		"a size that cannot be": {
			strings.NewReplacer("size: 2", "size: 5", "maxSize: 4", "maxSize: 5").Replace(wide), ", nodePools: [b]",
			[]string{`spec.members[1].minicluster.spec.size: Invalid value: 5: must be at most what its NodePools hold, 4 (b has maxSize 4)`},
		},
		"a size below minSize": {
			strings.Replace(wide, "minSize: 1", "minSize: 3", 1), ", nodePools: [b]",
			[]string{`spec.members[1].minicluster.spec.size: Invalid value: 2: must be at least minSize, which is 3`},
		},
		"a selector that nothing has": {strings.Replace(wide, "}]}", "}], pod: {nodeSelector: {zone: z}}}", 1), ", nodePools: [b]", []string{
			`spec.members[1].minicluster.spec.pod.nodeSelector[zone]: Invalid value: "z": no node of its NodePools can match`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := parse(t, written(t, small, ""), written(t, row.spec, row.more))
			_, err := asked(t).ValidateCreate(t.Context(), e)
			judge(t, err, row.want)
		})
	}
}

func judge(t *testing.T, err error, want []string) {
	t.Helper()
	if len(want) == 0 && err != nil {
		t.Errorf("refused: %v", err)
	}
	for _, part := range want {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("the answer is %v, not %s", err, part)
		}
	}
}

// TestMembersOfChanged: of members that are there what changes is judged, by the MiniClusters that they were made into.
func TestMembersOfChanged(t *testing.T) {
	t.Parallel()
	before := parse(t, written(t, wide, ", nodePools: [b]"), written(t, small, ", nodePools: [gone]"))
	made, err := build(before, 0, &Settings{Endpoint: "h:1"})
	if err != nil {
		t.Fatal(err)
	}
	additions, err := admission.Prepare(made.cluster)
	if err == nil {
		err = additions.AddTo(made.cluster)
	}
	if err != nil {
		t.Fatal(err)
	}
	v := asked(t, made.cluster)
	for name, row := range map[string]struct {
		members []string
		want    []string
	}{
		"another policy": {
			[]string{written(t, wide, ", nodePools: [b], growthPolicy: Greedy"), written(t, small, ", nodePools: [gone]")}, nil,
		},
		"another pool, too small": {
			[]string{written(t, wide, ", nodePools: [a]"), written(t, small, ", nodePools: [gone]")},
			[]string{`spec.members[0].minicluster.spec.containers: Invalid value: a pod requests 3 of cpu and an empty node of a offers 1`},
		},
		"an unknown pool": {
			[]string{written(t, wide, ", nodePools: [b, c]"), written(t, small, ", nodePools: [gone]")},
			[]string{`spec.members[0].nodePools: Invalid value: "b,c": there is no NodePool "c"`},
		},
		"one that has not been made": {[]string{written(t, wide, ", nodePools: [b]"), written(t, small, ", nodePools: [a]")}, nil},
		"one more, of unknown pools": {
			[]string{written(t, wide, ", nodePools: [b]"), written(t, small, ", nodePools: [gone]"), written(t, small, ", nodePools: [c]")},
			[]string{`spec.members[2].nodePools: Invalid value: "c"`},
		},
		"a minSize above the size": {
			[]string{written(t, strings.Replace(wide, "minSize: 1", "minSize: 3", 1), ", nodePools: [b]"), written(t, small, ", nodePools: [gone]")},
			nil,
		},
		"a minSize nobody sees to": {
			[]string{written(t, strings.Replace(wide, "minSize: 1", "minSize: 3", 1), ""), written(t, small, ", nodePools: [gone]")},
			[]string{`spec.members[0].minicluster.spec.size: Invalid value: 2: must be at least minSize, which is 3`},
		},
		"one more, that is too small": {
			[]string{
				written(t, wide, ", nodePools: [b]"), written(t, small, ", nodePools: [gone]"),
				written(t, strings.Replace(wide, "minSize: 1", "minSize: 3", 1), ", nodePools: [b]"),
			},
			[]string{`spec.members[2].minicluster.spec.size: Invalid value: 2: must be at least minSize, which is 3`},
		},
		"no longer managed": {[]string{written(t, wide, ""), written(t, small, ", nodePools: [gone]")}, nil},
		"another text, an unknown pool": {
			[]string{strings.Replace(written(t, wide, ", nodePools: [b]"), "echo hello", "echo bye", 1), written(t, small, ", nodePools: [gone]")},
			nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := v.ValidateUpdate(t.Context(), before, parse(t, row.members...))
			judge(t, err, row.want)
		})
	}
}

// TestMembersWarnings: what will not work as it may be meant is told with the path in the Ensemble.
func TestMembersWarnings(t *testing.T) {
	t.Parallel()
	e := parse(t, written(t, wide, ", nodePools: [b, a]"))
	warnings, err := asked(t).ValidateCreate(t.Context(), e)
	want := []string{"spec.members[0].nodePools: a pod requests 3 of cpu and an empty node of a offers 1: none of these nodes will be used"}
	if err != nil || !slices.Equal(warnings, want) {
		t.Errorf("the answer is %q, %v, not %q", warnings, err, want)
	}
}
