package admission

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/reading"
)

// fits is the rest of a spec whose pods fit, one to a node.
const fits = `containers: [{image: i, resources: {requests: {cpu: "3"}}}]`

func TestExamineNew(t *testing.T) {
	t.Parallel()
	const good = `{size: 2, minSize: 1, maxSize: 4, ` + fits + `}`
	const list = "metadata.annotations[autoscaling.flux-framework.org/node-pools]"
	for name, row := range map[string]struct {
		pools, annotations, spec string
		faults, warnings         []string
	}{
		"all is well":         {"a", "", good, nil, nil},
		"all is well, of two": {"b,a", "", good, nil, nil},

		// What the annotations say.
		"a list that is empty": {"", `autoscaling.flux-framework.org/node-pools: ""`, good, []string{
			list + `: Invalid value: "": a name is empty; it has to be a comma-separated list of NodePool names`}, nil},
		"a policy that is none": {"a", "autoscaling.flux-framework.org/growth-policy: Slowly", good, []string{
			`metadata.annotations[autoscaling.flux-framework.org/growth-policy]: Invalid value: "Slowly": it has to be one of AllOrNothing, ` +
				`BestEffort, Greedy`}, nil},
		"two faults at once": {"a", `autoscaling.flux-framework.org/pods-per-node: "0", autoscaling.flux-framework.org/give-up-after: never`,
			good, []string{
				`metadata.annotations[autoscaling.flux-framework.org/give-up-after]: Invalid value: "never": it has to be a number of attempts, at ` +
					`least 1`,
				`metadata.annotations[autoscaling.flux-framework.org/pods-per-node]: Invalid value: "0": it has to be a number from 1 to 1024, or Auto`},
			nil},
		"somebody else's annotation": {"a", "example.com/growth-policy: Slowly", good, nil, nil},
		"a pool that does not exist": {"a,nowhere", "", good, []string{
			list + `: Invalid value: "a,nowhere": there is no NodePool "nowhere"; those that can be named here are a, b, deleting, labelled, ` +
				`paused, small, tiny`}, nil},

		// Sizes.
		"no size at all": {"a", "", `{minSize: 1, maxSize: 4, ` + fits + `}`, nil, nil},
		"no size at all, below minSize": {"a", "", `{minSize: 2, maxSize: 4, ` + fits + `}`, []string{
			`spec.size: Invalid value: 1: must be at least minSize, which is 2` + ignored}, nil},
		"size edits that are neither Follow nor unset": {"a", "autoscaling.flux-framework.org/size-edits: Ignore", good, []string{
			`metadata.annotations[autoscaling.flux-framework.org/size-edits]: Invalid value: "Ignore": it has to be Follow, or not there`}, nil},
		"size edits that are followed": {"a", "autoscaling.flux-framework.org/size-edits: Follow", good, nil, nil},
		"a size of 0": {"a", "", `{size: 0, minSize: 1, maxSize: 4, ` + fits + `}`, []string{
			`spec.size: Invalid value: 0: must be at least 1` + ignored}, nil},
		"a size above maxSize": {"a", "", `{size: 5, minSize: 1, maxSize: 4, ` + fits + `}`, []string{
			`spec.size: Invalid value: 5: must be at most maxSize, which is 4` + ignored}, nil},
		"a size below minSize": {"a", "", `{size: 1, minSize: 2, maxSize: 4, ` + fits + `}`, []string{
			`spec.size: Invalid value: 1: must be at least minSize, which is 2` + ignored}, nil},
		"a minSize above maxSize": {"a", "", `{size: 2, minSize: 5, maxSize: 4, ` + fits + `}`, []string{
			`spec.minSize: Invalid value: 5: must be at most maxSize, which is 4` + ignored}, nil},
		"a size in words": {"a", "", `{size: two}`, []string{
			`spec: Invalid value: json: cannot unmarshal string into Go struct field .size of type int32`}, nil},
		"requests without maxSize, of a size that cannot change": {"a", "autoscaling.flux-framework.org/request-policy: Coalesce",
			`{size: 2, minSize: 2, ` + fits + `}`, []string{
				`spec.maxSize: Required value: metadata.annotations[autoscaling.flux-framework.org/request-policy] is about changes of the size, ` +
					`which is always 2: it cannot shrink, and without maxSize the Flux Operator lets no MiniCluster grow above its first size`}, nil},
		"attempts without maxSize, of a single pod": {"a", `autoscaling.flux-framework.org/give-up-after: "3"`, `{size: 1, ` + fits + `}`,
			[]string{
				`spec.maxSize: Required value: metadata.annotations[autoscaling.flux-framework.org/give-up-after] is about changes of the size, which ` +
					`is always 1: it cannot shrink, and without maxSize the Flux Operator lets no MiniCluster grow above its first size`}, nil},
		"requests without maxSize, of a size that shrinks": {"a", `autoscaling.flux-framework.org/request-policy: Coalesce, ` +
			`autoscaling.flux-framework.org/give-up-after: "3"`, `{size: 4, minSize: 1, ` + fits + `}`, nil, []string{
			`spec.maxSize: is not set: the MiniCluster cannot grow above its first size, 4, and requests to grow will be DENIED`}},
		"a policy for the first size alone": {"a", "autoscaling.flux-framework.org/growth-policy: Greedy", `{size: 2, minSize: 2, ` + fits + `}`,
			nil, []string{
				`spec.maxSize: is not set: the MiniCluster cannot grow above its first size, 2, and requests to grow will be DENIED`}},
		"no maxSize": {"a", "", `{size: 2, minSize: 1, ` + fits + `}`, nil, []string{
			`spec.maxSize: is not set: the MiniCluster cannot grow above its first size, 2, and requests to grow will be DENIED`}},
		"no minSize": {"a", "", `{size: 2, maxSize: 4, ` + fits + `}`, nil, []string{
			`spec.minSize: is not set: requests may shrink the MiniCluster to 1`}},

		// What the Flux Operator drops.
		"no container": {
			"a", "", `{size: 1, minSize: 1, maxSize: 1, containers: []}`,
			[]string{`spec.containers: Required value: one of them must have runFlux: true` + ignored}, nil,
		},
		"one that runs Flux": {
			"a", "", `{size: 1, minSize: 1, maxSize: 1, containers: [{image: i, name: beside}, {image: i, runFlux: true, command: run}]}`, nil,
			nil,
		},
		"none of two runs Flux": {"a", "", `{size: 1, minSize: 1, maxSize: 1, containers: [{image: i, name: one}, {image: i, name: two}]}`,
			[]string{
				`spec.containers: Required value: one of them must have runFlux: true` + ignored}, nil},
		"both of two run Flux": {"a", "", `{size: 1, minSize: 1, maxSize: 1, containers: [{image: i, runFlux: true}, {image: i, runFlux: true}]}`,
			[]string{
				`spec.containers: Invalid value: must have runFlux: true in one alone, and 2 have it` + ignored}, nil},
		"a container beside without a name": {"a", "", `{size: 1, minSize: 1, maxSize: 1, containers: [{image: i, runFlux: true}, {image: i}]}`,
			[]string{
				`spec.containers[1].name: Required value: a container without runFlux must have one` + ignored}, nil},
		"a script and a command": {"a", "", `{size: 1, minSize: 1, maxSize: 1, containers: [{image: i, command: run, commands: {script: "run"}}]}`, []string{
			`spec.containers[0].commands.script: Forbidden: must not be set beside command` + ignored}, nil},
		"a script and a command beside Flux": {
			"a", "",
			`{size: 1, minSize: 1, maxSize: 1, containers: [{image: i, runFlux: true}, {image: i, name: beside, command: run, commands: {script: "run"}}]}`,
			nil, nil,
		},
		"a launcher in batches": {"a", "", `{size: 1, minSize: 1, maxSize: 1, containers: [{image: i, command: run, launcher: true, batch: true}]}`, []string{
			`spec.containers[0].batch: Invalid value: true: must not be set beside launcher` + ignored}, nil},
		"a Service that cannot be": {"a", "", `{size: 1, minSize: 1, maxSize: 1, ` + fits + `, network: {headlessName: a.b}}`, []string{
			`spec.network.headlessName: Invalid value: "a.b": must be of at most 63 small letters, digits and '-', with a letter or digit at both ` +
				`ends: it is the name of the Service and part of the addresses of the pods`}, nil},

		// Room.
		"pods that fit no node": {"a,b", "", `{size: 2, minSize: 1, maxSize: 4, containers: [{image: i, resources: {limits: {cpu: "9"}}}]}`,
			[]string{
				`spec.containers: Invalid value: a pod requests 9 of cpu and an empty node of a offers 4; a pod requests 9 of cpu and an empty node ` +
					`of b offers 4: no node of its NodePools is large enough`}, nil},
		"pods that fit some": {"tiny,a", "", good, nil, []string{
			list + `: a pod requests 3 of cpu and an empty node of tiny offers 1: none of these nodes will be used`}},
		"a resource that no node has": {"a", "", `{size: 1, minSize: 1, maxSize: 1, containers: [{image: i, resources: {limits: {nvidia.com/gpu: "1"}}}]}`, []string{
			`spec.containers: Invalid value: a pod requests 1 of nvidia.com/gpu and an empty node of a offers 0: no node of its NodePools is ` +
				`large enough`}, nil},
		"too many to a node": {"a", `autoscaling.flux-framework.org/pods-per-node: "2"`, good, []string{
			`metadata.annotations[autoscaling.flux-framework.org/pods-per-node]: Invalid value: 2: 2 pods that share a node request 6 of cpu and ` +
				`an empty node of a offers 4: no node of its NodePools is large enough`}, nil},
		"a size that no pool holds": {"small,tiny", "", `{size: 3, minSize: 1, maxSize: 4, ` + fits + `}`, []string{
			`spec.size: Invalid value: 3: must be at most what its NodePools hold, 2 (small has maxSize 2, a pod does not fit tiny)`}, []string{
			list + `: a pod requests 3 of cpu and an empty node of tiny offers 1: none of these nodes will be used`}},
		"a size that two pools hold together": {"a,small", "", `{size: 12, minSize: 1, maxSize: 12, ` + fits + `}`, nil, nil},
		"a size that none of two holds alone": {"a,small", "autoscaling.flux-framework.org/placement: Single",
			`{size: 12, minSize: 1, maxSize: 12, ` + fits + `}`, []string{
				`spec.size: Invalid value: 12: must be at most what its NodePools hold, 10 (a has maxSize 10, small has maxSize 2, and placement ` +
					`Single takes all from one of them)`}, nil},
		"pods that share nodes": {"small", "autoscaling.flux-framework.org/pods-per-node: Auto",
			`{size: 8, minSize: 1, maxSize: 9, containers: [{image: i, resources: {requests: {cpu: "1"}}}]}`, nil, []string{
				`spec.maxSize: 9 is more than what its NodePools hold, 8 (small has maxSize 2, with the pods that share a node): a growth above that ` +
					`waits until one is larger`}},
		"a maxSize that no pool holds": {"small", "", good, nil, []string{
			`spec.maxSize: 4 is more than what its NodePools hold, 2 (small has maxSize 2): a growth above that waits until one is larger`}},

		// The state of the pools.
		"pools that grant nothing now": {"paused,deleting,a", "", good, nil, []string{
			list + `: NodePool paused is paused and grants no nodes until spec.paused is false`,
			list + `: NodePool deleting is being deleted and grants no more nodes`}},

		// Where the pods may go.
		"a selector for another pool": {"a,b", "", `{size: 2, minSize: 1, maxSize: 4, ` + fits + `, pod: {nodeSelector: {autoscaling.flux-framework.org/node-pool: small}}}`, []string{
			`spec.pod.nodeSelector[autoscaling.flux-framework.org/node-pool]: Invalid value: "small": must be among the NodePools that the nodes ` +
				`come from: a, b`}, nil},
		"a selector for one of two": {"a,b", "", `{size: 2, minSize: 1, maxSize: 4, ` + fits + `, pod: {nodeSelector: {autoscaling.flux-framework.org/node-pool: b}}}`, nil, []string{
			`spec.pod.nodeSelector[autoscaling.flux-framework.org/node-pool]: leaves out a: no pod can go there, though nodes may be reserved there`}},
		"an affinity for other pools": {"a", "", `{size: 2, minSize: 1, maxSize: 4, ` + fits + `, pod: {nodeAffinity: {autoscaling.flux-framework.org/node-pool: [b, small]}}}`, []string{
			`spec.pod.nodeAffinity[autoscaling.flux-framework.org/node-pool]: Invalid value: ["b","small"]: must be among the NodePools that the ` +
				`nodes come from: a`}, nil},
		"an affinity that is wider": {"a", "", `{size: 2, minSize: 1, maxSize: 4, ` + fits + `, pod: {nodeAffinity: {autoscaling.flux-framework.org/node-pool: [a, b]}}}`, nil, []string{
			`spec.pod.nodeAffinity[autoscaling.flux-framework.org/node-pool]: has b, and no nodes are reserved there`}},
		"an affinity that has no effect": {
			"a", "",
			`{size: 2, minSize: 1, maxSize: 4, ` + fits + `, network: {disableAffinity: true}, pod: {nodeAffinity: {autoscaling.flux-framework.org/node-pool: [b], zone: [x]}}}`,
			nil, nil,
		},
		"several pools without affinity": {
			"a,b", "", `{size: 2, minSize: 1, maxSize: 4, ` + fits + `, network: {disableAffinity: true}}`, nil, nil,
		},
		"a label that no node has": {"a,labelled", "", `{size: 2, minSize: 1, maxSize: 4, ` + fits + `, pod: {nodeSelector: {zone: west}}}`,
			[]string{
				`spec.pod.nodeSelector[zone]: Invalid value: "west": no node of its NodePools can match, by their templates: those of a do not have ` +
					`the label, nodes of labelled have "east"`}, nil},
		"a label that some nodes have": {"a,labelled", "",
			`{size: 2, minSize: 1, maxSize: 4, ` + fits + `, pod: {nodeAffinity: {zone: [west, east]}}}`, nil, []string{
				`spec.pod.nodeAffinity[zone]: no node of a matches, though some may be reserved: those of a do not have the label`}},
		"labels that nodes have by default": {
			"a", "", `{size: 2, minSize: 1, maxSize: 4, ` + fits + `, pod: {nodeSelector: {kubernetes.io/os: linux, kubernetes.io/arch: amd64}}}`,
			nil, nil,
		},
		"another architecture": {"a", "", `{size: 2, minSize: 1, maxSize: 4, ` + fits + `, pod: {nodeSelector: {kubernetes.io/arch: arm64}}}`,
			[]string{
				`spec.pod.nodeSelector[kubernetes.io/arch]: Invalid value: "arm64": no node of its NodePools can match, by their templates: nodes of ` +
					`a have "amd64"`}, nil},
		"one node for all": {"a", "", `{size: 2, minSize: 1, maxSize: 4, ` + fits + `, pod: {nodeSelector: {kubernetes.io/hostname: a-0}}}`,
			[]string{
				`spec.pod.nodeSelector[kubernetes.io/hostname]: Forbidden: its nodes do not exist yet, and the controller gives each pod one of them`},
			nil},
		"brokers that may be moved": {"a", "", `{size: 2, minSize: 1, maxSize: 4, ` + fits + `, pod: {annotations: {cluster-autoscaler.kubernetes.io/safe-to-evict: "true"}}}`, nil, []string{
			`spec.pod.annotations[cluster-autoscaler.kubernetes.io/safe-to-evict]: is "true": Cluster Autoscaler may delete running brokers to ` +
				`empty a node; "false" keeps them`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			paused, deleting := pool(t, "paused", `{paused: true}`), pool(t, "deleting", `{}`)
			deleting.DeletionTimestamp = &metav1.Time{}
			pools := found(pool(t, "a", `{}`), pool(t, "b", `{}`), deleting,
				pool(t, "labelled", `{template: {labels: {zone: east}, capacity: {cpu: "4", memory: 16Gi, pods: "110"}}}`), paused,
				pool(t, "small", `{maxSize: 2}`), pool(t, "tiny", `{template: {capacity: {cpu: "1", memory: 1Gi, pods: "10"}}}`))
			u := cluster(t, row.pools, row.annotations, row.spec)
			faults, warnings := said(ExamineNew(u, pools, Itself()))
			if diff := cmp.Diff(row.faults, faults); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(row.warnings, warnings); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestExamineNames(t *testing.T) {
	t.Parallel()
	const spec = `{size: 1, minSize: 1, maxSize: 1, ` + fits + `}`
	const host = "it is the host name of the last pod, which has at most 63"
	const first = `metadata.name: "2d-run" does not begin with a letter: before Kubernetes 1.36 it cannot be the name of the Service, and ` +
		`no pods come; spec.network.headlessName gives that another name`
	x := func(n int) string { return strings.Repeat("x", n) }
	for name, row := range map[string]struct {
		name, spec       string
		faults, warnings []string
	}{
		"the longest": {x(61), spec, nil, nil},
		"one more": {
			x(62), spec, []string{`metadata.name: Invalid value: "` + x(62) + `": must have at most 61 characters: with -0 ` + host}, nil,
		},
		"the longest of many": {
			x(60), `{size: 1, minSize: 1, maxSize: 100, ` + fits + `}`, nil,
			[]string{`spec.maxSize: 100 is more than what its NodePools hold, 10 (a has maxSize 10): a growth above that waits until one is larger`},
		},
		"one more of many": {
			x(60), `{size: 2, minSize: 1, maxSize: 101, ` + fits + `}`,
			[]string{`metadata.name: Invalid value: "` + x(60) + `": must have at most 59 characters: with -100 ` + host}, nil,
		},
		"one more of a first size": {
			x(61), `{size: 11, minSize: 11, ` + fits + `}`,
			[]string{`metadata.name: Invalid value: "` + x(61) + `": must have at most 60 characters: with -10 ` + host},
			[]string{`spec.maxSize: is not set: the MiniCluster cannot grow above its first size, 11, and requests to grow will be DENIED`},
		},
		"a dot": {
			"a.b", spec,
			[]string{
				`metadata.name: Invalid value: "a.b": must be of small letters, digits and '-', with a letter or digit at both ends: it is part of ` +
					`the host names of the pods`,
			},
			nil,
		},
		"a digit first":                {"2d-run", spec, nil, []string{first}},
		"a digit, and another Service": {"2d-run", `{size: 1, minSize: 1, maxSize: 1, ` + fits + `, network: {headlessName: run}}`, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := cluster(t, "a", "", row.spec)
			u.SetName(row.name)
			faults, warnings := said(ExamineNew(u, found(pool(t, "a", `{}`)), Itself()))
			if diff := cmp.Diff(row.faults, faults); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(row.warnings, warnings); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
	u := cluster(t, "a", "", spec)
	u.SetGenerateName("m-")
	u.SetName("m-x7")
	faults, _ := said(ExamineNew(u, found(pool(t, "a", `{}`)), Itself()))
	if diff := cmp.Diff(
		[]string{
			`metadata.generateName: Forbidden: a MiniCluster that is to be managed needs metadata.name: its pods carry the name in a label, which ` +
				`is written before the API server makes one up`,
		},
		faults,
	); diff != "" {
		t.Errorf("a generated name (-want +got):\n%s", diff)
	}
	if faults, _ = said(
		ExamineNew(cluster(t, "a", "", spec), &Pools{}, Itself()),
	); len(faults) != 1 || !strings.HasSuffix(faults[0], `there is no NodePool "a"; there is none that could be named here: create it first`) {
		t.Errorf("no pools at all: %q", faults)
	}
}

// TestSurroundings: what the namespace adds to pods, what DaemonSets take, and who may name a pool.
func TestSurroundings(t *testing.T) {
	t.Parallel()
	const list = "metadata.annotations[autoscaling.flux-framework.org/node-pools]"
	const sizes = `size: 1, minSize: 1, maxSize: 1, `
	for name, row := range map[string]struct {
		pools, spec, limits string
		faults, warnings    []string
	}{
		"a request that the namespace adds": {"a", `{` + sizes + `containers: [{image: i}]}`,
			`[{type: Container, default: {cpu: "7"}, defaultRequest: {cpu: "6"}}]`, []string{
				`spec.containers: Invalid value: a pod requests 6 of cpu and an empty node of a offers 4: no node of its NodePools is large enough ` +
					`(LimitRange l has containers that say nothing of cpu request 6)`}, nil},
		"a request that the user has": {
			"a", `{` + sizes + `flux: {container: {resources: {requests: {cpu: 1}}}}, ` + fits + `}`,
			`[{type: Container, defaultRequest: {cpu: "6"}}]`, nil, nil,
		},
		"a limit that is the request": {
			"a", `{` + sizes + `flux: {container: {resources: {limits: {cpu: 1}}}}, containers: [{image: i, resources: {limits: {cpu: 2}}}]}`,
			`[{type: Container, defaultRequest: {cpu: "6"}}]`, nil, nil,
		},
		"a minimum": {"a", `{` + sizes + fits + `}`, `[{type: Container, min: {cpu: "2"}, defaultRequest: {cpu: "1"}}]`, []string{
			`spec.containers: Invalid value: LimitRange l wants a request of at least 2 of cpu, and the container of Flux has 1: no pod would be made`}, nil},
		"a maximum": {"a", `{` + sizes + fits + `}`, `[{type: Container, max: {cpu: "2"}, default: {cpu: "2"}, defaultRequest: {cpu: "1"}}, {type: Pod, max: {memory: 1Gi}}, {type: PersistentVolumeClaim, max: {storage: "1"}}]`, []string{
			`spec.containers: Invalid value: LimitRange l wants a request of at most 2 of cpu, and container 0 has 3; LimitRange l wants a limit ` +
				`of at most 1Gi of memory, and a pod has none: no pod would be made`}, nil},
		"a container of Flux that is larger": {"a", `{` + sizes + `flux: {container: {resources: {requests: {cpu: "9"}}}}, ` + fits + `}`, `[]`,
			[]string{
				`spec.containers: Invalid value: a pod requests 9 of cpu and an empty node of a offers 4: no node of its NodePools is large enough`},
			nil},
		"an overhead": {"a", `{` + sizes + `pod: {resources: {cpu: 2}, runtimeClassName: kata}, ` + fits + `}`, `[]`, []string{
			`spec.containers: Invalid value: a pod requests 5 of cpu and an empty node of a offers 4: no node of its NodePools is large enough`},
			nil},
		"an overhead of no RuntimeClass": {"a", `{` + sizes + `pod: {resources: {memory: 1Gi}}, ` + fits + `}`, `[]`, nil, []string{
			`spec.pod.resources: becomes the overhead of the pods, which the API server takes only of those of a RuntimeClass that says the same ` +
				`(spec.pod.runtimeClassName): no pod would be made`}},
		"a pool of other namespaces": {"closed", `{` + sizes + fits + `}`, `[]`, []string{
			list + `: Forbidden: NodePool closed may be named only in namespaces with the labels team=hpc (its spec.allowedNamespaces), and ` +
				`namespace ns has team=web`}, nil},
		"a pool of labelled namespaces": {"a,labelled", `{` + sizes + fits + `}`, `[]`, []string{
			list + `: Forbidden: NodePool labelled may be named only in namespaces with the labels gold (its spec.allowedNamespaces), and ` +
				`namespace ns has none of these`}, nil},
		"a pool of this namespace": {"open", `{` + sizes + fits + `}`, `[]`, nil, nil},
		"a pool of none": {
			"nobody", `{` + sizes + fits + `}`, `[]`,
			[]string{list + `: Forbidden: NodePool nobody may be named only in namespaces with the labels`}, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			allowing := func(name, selector string) *v1alpha1.NodePool {
				return pool(t, name, `{allowedNamespaces: `+selector+`}`)
			}
			pools := found(pool(t, "a", `{}`), allowing(
				"closed", `{matchLabels: {team: hpc}}`,
			), allowing("open", `{matchExpressions: [{key: team, operator: In, values: [web, hpc]}]}`),
				allowing(
					"labelled", `{matchExpressions: [{key: gold, operator: Exists}]}`,
				), allowing("nobody", `{matchExpressions: [{key: team, operator: In}]}`))
			pools.Namespace, pools.NamespaceLabels = "ns", map[string]string{"team": "web", "other": "x"}
			limits := corev1.LimitRange{ObjectMeta: metav1.ObjectMeta{Name: "l"}}
			if err := yaml.Unmarshal([]byte(row.limits), &limits.Spec.Limits); err != nil {
				t.Fatal(err)
			}
			pools.Limits = []corev1.LimitRange{limits}
			u := cluster(t, row.pools, "", row.spec)
			faults, warnings := said(ExamineNew(u, pools, Itself()))
			if !cmp.Equal(row.faults, faults, cmp.Comparer(func(a, b string) bool { return strings.HasPrefix(a, b) || strings.HasPrefix(b, a) })) {
				t.Errorf("faults are %q, not %q", faults, row.faults)
			}
			if diff := cmp.Diff(row.warnings, warnings); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
			// One that names the pools later is judged alike, as far as it is about pools.
			plain := cluster(t, "", "", row.spec)
			later, _ := said(ExamineUpdate(plain, u, pools, Itself()))
			if (len(later) > 0) != (len(faults) > 0) && !strings.Contains(strings.Join(faults, ""), "LimitRange l wants") {
				t.Errorf("created with the pools it is told %q, and named later %q", faults, later)
			}
			if again, _ := said(ExamineUpdate(u, u, found(), Itself())); len(again) > 0 {
				t.Errorf("nothing of it changes, and it is told %q", again)
			}
		})
	}
}

// TestDaemonSets: what DaemonSets take of each node is not there for pods.
func TestDaemonSets(t *testing.T) {
	t.Parallel()
	agent := appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "agent"}}
	if err := yaml.Unmarshal(
		[]byte(`{template: {spec: {containers: [{name: c, image: i, resources: {requests: {cpu: 1500m}}}]}}}`), &agent.Spec,
	); err != nil {
		t.Fatal(err)
	}
	pools := found(pool(t, "a", `{}`))
	u := cluster(t, "a", "", `{size: 1, minSize: 1, maxSize: 1, `+fits+`}`)
	if faults, _ := said(ExamineNew(u, pools, Itself())); len(faults) > 0 {
		t.Fatal(faults)
	}
	pools.DaemonSets = reading.DaemonSets([]appsv1.DaemonSet{agent})
	faults, _ := said(ExamineNew(u, pools, Itself()))
	if len(faults) != 1 || !strings.Contains(faults[0], "kube-system/agent") {
		t.Errorf("it is told %q", faults)
	}
}
