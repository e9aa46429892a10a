package reading

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

func cpu(amount string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(amount)}
}

func requesting(amount string) corev1.Container {
	return corev1.Container{Name: "c", Image: "i", Resources: corev1.ResourceRequirements{Requests: cpu(amount)}}
}

func affinity(terms ...corev1.NodeSelectorTerm) *corev1.Affinity {
	return &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: terms},
		PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{
			Weight: 1, Preference: corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{is("never", "there")}},
		}},
	}}
}

func is(key string, values ...string) corev1.NodeSelectorRequirement {
	return corev1.NodeSelectorRequirement{Key: key, Operator: corev1.NodeSelectorOpIn, Values: values}
}

func labelled(requirements ...corev1.NodeSelectorRequirement) corev1.NodeSelectorTerm {
	return corev1.NodeSelectorTerm{MatchExpressions: requirements}
}

// TestRequests: what a pod requests is counted as the scheduler does.
func TestRequests(t *testing.T) {
	t.Parallel()
	always := corev1.ContainerRestartPolicyAlways
	sidecar := requesting("1")
	sidecar.RestartPolicy = &always
	limited := corev1.Container{Name: "c", Resources: corev1.ResourceRequirements{Limits: cpu("2")}}
	for name, row := range map[string]struct {
		pod  corev1.PodSpec
		want int64
	}{
		"containers":                    {corev1.PodSpec{Containers: []corev1.Container{requesting("1"), requesting("500m")}}, 1500},
		"a limit in place of a request": {corev1.PodSpec{Containers: []corev1.Container{limited}}, 2000},
		"an init container that needs more": {
			corev1.PodSpec{InitContainers: []corev1.Container{requesting("6")}, Containers: []corev1.Container{requesting("1")}}, 6000,
		},
		"a sidecar": {
			corev1.PodSpec{InitContainers: []corev1.Container{sidecar}, Containers: []corev1.Container{requesting("1")}}, 2000,
		},
		"an overhead": {corev1.PodSpec{Overhead: cpu("250m"), Containers: []corev1.Container{requesting("1")}}, 1250},
		"of the pod": {
			corev1.PodSpec{Resources: &corev1.ResourceRequirements{Requests: cpu("3")}, Containers: []corev1.Container{requesting("1")}}, 3000,
		},
		"a limit of the pod": {
			corev1.PodSpec{Resources: &corev1.ResourceRequirements{Limits: cpu("3")}, Containers: []corev1.Container{{Name: "c"}}}, 3000,
		},
		"a limit of the pod beside requests": {
			corev1.PodSpec{Resources: &corev1.ResourceRequirements{Limits: cpu("3")}, Containers: []corev1.Container{requesting("1")}}, 1000,
		},
	} {
		before := row.pod.DeepCopy()
		if got := Requests(&row.pod); got[corev1.ResourceCPU] != row.want || got[corev1.ResourcePods] != 1 {
			t.Errorf("%s: %v, want %dm of cpu and one pod", name, got, row.want)
		}
		if diff := cmp.Diff(before, &row.pod); diff != "" {
			t.Errorf("%s: the pod was changed:\n%s", name, diff)
		}
	}
}

// TestSelects: a selector of nodes says which it takes, and what it is.
func TestSelects(t *testing.T) {
	t.Parallel()
	named := corev1.NodeSelectorTerm{MatchFields: []corev1.NodeSelectorRequirement{is("metadata.name", "n-1")}}
	ssd := map[string]string{"disk": "ssd"}
	for name, row := range map[string]struct {
		selector map[string]string
		affinity *corev1.Affinity
		node     string
		labels   map[string]string
		want     bool
		text     string
	}{
		"the label":     {ssd, nil, "n", ssd, true, "disk=ssd"},
		"another label": {ssd, nil, "n", map[string]string{"disk": "hdd"}, false, "disk=ssd"},
		"both": {
			ssd, affinity(labelled(is("zone", "a", "b"))), "n", map[string]string{"disk": "ssd", "zone": "b"}, true, "disk=ssd,zone in (a,b)",
		},
		"one of both": {ssd, affinity(labelled(is("zone", "a"))), "n", ssd, false, "disk=ssd,zone in (a)"},
		"the second of two terms": {
			nil, affinity(labelled(is("zone", "a")), labelled(is("zone", "b"))), "n", map[string]string{"zone": "b"}, true,
			"(zone in (a)) or (zone in (b))",
		},
		"the name":                  {nil, affinity(named), "n-1", nil, true, "metadata.name in (n-1)"},
		"a node that has no name":   {nil, affinity(named), "", nil, false, "metadata.name in (n-1)"},
		"terms that select nothing": {nil, affinity(), "n", ssd, false, "()"},
		"a preference is no demand": {nil, affinity(labelled(is("zone", "a"))), "n", map[string]string{"zone": "a"}, true, "zone in (a)"},
		"what cannot be parsed": {
			nil, affinity(labelled(corev1.NodeSelectorRequirement{Key: "a", Operator: "Odd"})), "n", ssd, false, "a Odd ()",
		},
		"two terms and the selector": {
			ssd, affinity(labelled(is("z", "a")), labelled(is("z", "b"))), "n", ssd, false, "disk=ssd and ((z in (a)) or (z in (b)))",
		},
	} {
		s := Selects(row.selector, row.affinity)
		if got := s.Matches(row.node, row.labels); got != row.want || s.String() != row.text {
			t.Errorf("%s: %t by %q, want %t by %q", name, got, s, row.want, row.text)
		}
	}
	if s := Selects(nil, &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{}}); s != nil {
		t.Errorf("a pod that may go anywhere selects %s", s)
	}
}

func TestLabels(t *testing.T) {
	t.Parallel()
	if Labels(nil) != nil {
		t.Error("no selector selects something")
	}
	of := Labels(&metav1.LabelSelector{MatchLabels: map[string]string{"team": "a"}})
	if !of.Matches("ns", map[string]string{"team": "a"}) || of.Matches("ns", nil) || of.String() != "team=a" {
		t.Errorf("%s does not select what it says", of)
	}
	if all := Labels(&metav1.LabelSelector{}); !all.Matches("ns", nil) {
		t.Error("the empty selector does not select all")
	}
	odd := Labels(&metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Odd"}}})
	if odd.Matches("ns", map[string]string{"a": ""}) {
		t.Error("what cannot be parsed selects something")
	}
}

func nodePool() *v1alpha1.NodePool {
	return &v1alpha1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: "p"},
		Spec: v1alpha1.NodePoolSpec{MaxSize: 3, Template: v1alpha1.NodeTemplate{
			Capacity: cpu("4"), Labels: map[string]string{"disk": "ssd"}, Taints: []corev1.Taint{{Key: "hpc", Effect: corev1.TaintEffectNoSchedule}},
		}}}
}

func daemonSet(name string, change func(*corev1.PodSpec)) appsv1.DaemonSet {
	set := appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: name}}
	set.Spec.Template.Spec = corev1.PodSpec{
		Containers: []corev1.Container{requesting("500m")}, Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
	}
	change(&set.Spec.Template.Spec)
	return set
}

// TestPoolDaemons: the pods of a DaemonSet come to those nodes that they tolerate and select, and what is stripped of one decides the
// same.
func TestPoolDaemons(t *testing.T) {
	t.Parallel()
	pressure := nodePool()
	pressure.Spec.Template.Taints = append(
		pressure.Spec.Template.Taints, corev1.Taint{Key: corev1.TaintNodeNetworkUnavailable, Effect: corev1.TaintEffectNoSchedule},
	)
	hpc := []corev1.Toleration{{Key: "hpc", Operator: corev1.TolerationOpExists}}
	preferred := nodePool()
	preferred.Spec.Template.Taints[0].Effect = corev1.TaintEffectPreferNoSchedule
	deleted := daemonSet("d", func(*corev1.PodSpec) {})
	deleted.DeletionTimestamp = new(metav1.Now())
	for name, row := range map[string]struct {
		pool *v1alpha1.NodePool
		set  appsv1.DaemonSet
		want bool
	}{
		"of all nodes":             {nodePool(), daemonSet("d", func(*corev1.PodSpec) {}), true},
		"that tolerates the taint": {nodePool(), daemonSet("d", func(p *corev1.PodSpec) { p.Tolerations = hpc }), true},
		"that does not":            {nodePool(), daemonSet("d", func(p *corev1.PodSpec) { p.Tolerations = nil }), false},
		"a taint that only asks":   {preferred, daemonSet("d", func(p *corev1.PodSpec) { p.Tolerations = nil }), true},
		"of nodes with the label": {
			nodePool(), daemonSet("d", func(p *corev1.PodSpec) { p.NodeSelector = map[string]string{"disk": "ssd"} }), true,
		},
		"of others": {
			nodePool(), daemonSet("d", func(p *corev1.PodSpec) { p.NodeSelector = map[string]string{"disk": "hdd"} }), false,
		},
		"of nodes with Linux": {
			nodePool(), daemonSet("d", func(p *corev1.PodSpec) { p.NodeSelector = map[string]string{"kubernetes.io/os": "linux"} }), true,
		},
		"of Linux, the old way": {
			nodePool(), daemonSet("d", func(p *corev1.PodSpec) { p.NodeSelector = map[string]string{"beta.kubernetes.io/os": "linux"} }), true,
		},
		"of another pool": {
			nodePool(), daemonSet("d", func(p *corev1.PodSpec) { p.Affinity = affinity(labelled(is(v1alpha1.LabelNodePool, "q"))) }), false,
		},
		"of this pool": {
			nodePool(), daemonSet("d", func(p *corev1.PodSpec) { p.Affinity = affinity(labelled(is(v1alpha1.LabelNodePool, "p"))) }), true,
		},
		"of one node":     {nodePool(), daemonSet("d", func(p *corev1.PodSpec) { p.NodeName = "n" }), false},
		"that is deleted": {nodePool(), deleted, false},
		"with a network of its own where there is none": {pressure, daemonSet("d", func(p *corev1.PodSpec) { p.Tolerations = hpc }), false},
		"on the host's network": {
			pressure, daemonSet("d", func(p *corev1.PodSpec) { p.Tolerations, p.HostNetwork = hpc, true }), true,
		},
	} {
		stripped, err := StripDaemonSet(row.set.DeepCopy())
		if err != nil {
			t.Fatal(err)
		}
		kept, isSet := stripped.(*appsv1.DaemonSet)
		if !isSet {
			t.Fatalf("%s: the stripped DaemonSet is a %T", name, stripped)
		}
		for how, set := range map[string]*appsv1.DaemonSet{"": &row.set, "stripped": kept} {
			pool := Pool(row.pool, DaemonSets([]appsv1.DaemonSet{*set}))
			var want []plan.Daemon
			if row.want {
				want = []plan.Daemon{{Name: "kube-system/d", Requests: plan.Resources{corev1.ResourceCPU: 500, corev1.ResourcePods: 1}}}
			}
			if diff := cmp.Diff(want, pool.Daemons); diff != "" {
				t.Errorf("%s %s (-want +got):\n%s", name, how, diff)
			}
		}
	}
}

// TestBasis: the basis of findings about a pool changes with its template, its machines and its DaemonSets, and with nothing else.
func TestBasis(t *testing.T) {
	t.Parallel()
	sets := []appsv1.DaemonSet{daemonSet("b", func(*corev1.PodSpec) {}), daemonSet("a", func(*corev1.PodSpec) {})}
	base := Pool(nodePool(), DaemonSets(sets)).Basis
	for name, row := range map[string]struct {
		pool   func(*v1alpha1.NodePool)
		sets   []appsv1.DaemonSet
		differ bool
	}{
		"nothing":                 {func(*v1alpha1.NodePool) {}, sets, false},
		"the order of DaemonSets": {func(*v1alpha1.NodePool) {}, []appsv1.DaemonSet{sets[1], sets[0]}, false},
		"other sizes":             {func(p *v1alpha1.NodePool) { p.Spec.MaxSize, p.Spec.Replicas = 9, 5 }, sets, false},
		"the same amount":         {func(p *v1alpha1.NodePool) { p.Spec.Template.Capacity = cpu("4000m") }, sets, false},
		"another amount":          {func(p *v1alpha1.NodePool) { p.Spec.Template.Capacity = cpu("5") }, sets, true},
		"an allocatable":          {func(p *v1alpha1.NodePool) { p.Spec.Template.Allocatable = cpu("3") }, sets, true},
		"another label":           {func(p *v1alpha1.NodePool) { p.Spec.Template.Labels["disk"] = "hdd" }, sets, true},
		"another taint":           {func(p *v1alpha1.NodePool) { p.Spec.Template.Taints = nil }, sets, true},
		"other machines":          {func(p *v1alpha1.NodePool) { p.Spec.Machines.Kwok = &v1alpha1.KwokMachines{} }, sets, true},
		"a DaemonSet less":        {func(*v1alpha1.NodePool) {}, sets[:1], true},
		"a DaemonSet that asks more": {
			func(*v1alpha1.NodePool) {}, []appsv1.DaemonSet{sets[0], daemonSet("a", func(p *corev1.PodSpec) { p.Overhead = cpu("1") })}, true,
		},
		"a DaemonSet of other nodes": {
			func(*v1alpha1.NodePool) {}, append([]appsv1.DaemonSet{daemonSet("c", func(p *corev1.PodSpec) { p.NodeName = "n" })}, sets...), false,
		},
	} {
		pool := nodePool()
		row.pool(pool)
		if got := Pool(pool, DaemonSets(row.sets)).Basis; (got != base) != row.differ || len(got) != 16 {
			t.Errorf("%s: the basis is %s, before %s", name, got, base)
		}
	}
	if fmt.Sprint(Pool(nodePool(), nil).Labels) != "map[autoscaling.flux-framework.org/node-pool:p beta.kubernetes.io/arch:amd64 "+
		"beta.kubernetes.io/os:linux disk:ssd kubernetes.io/arch:amd64 kubernetes.io/os:linux]" {
		t.Errorf("the labels of a node are %v", Pool(nodePool(), nil).Labels)
	}
}
