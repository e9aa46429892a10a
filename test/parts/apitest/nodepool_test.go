package apitest

import (
	"strings"
	"testing"
)

const validNodePool = `
apiVersion: autoscaling.flux-framework.org/v1alpha1
kind: NodePool
metadata: {name: hpc-a}
spec:
  minSize: 1
  maxSize: 10
  template:
    labels: {team: hpc}
    taints: [{key: dedicated, value: hpc, effect: NoSchedule}]
    capacity: {cpu: 4, memory: 16Gi, pods: 110}
  machines: {kwok: {bootDelay: 5s}}
`

// fates is what is said of simulated machines more than all of which come to an end.
const fates = "failurePercent, neverReadyPercent, crashPercent and spotPercent must not exceed 100 together"

func TestNodePoolRules(t *testing.T) {
	check(t, validNodePool, map[string]row{
		"as it is":                {change: `{}`},
		"a name of 50 characters": {change: `metadata: {name: ` + strings.Repeat("a", 50) + `}`},
		"a name of 51 characters": {
			change:  `metadata: {name: ` + strings.Repeat("a", 51) + `}`,
			refused: []string{"metadata.name must be at most 50 characters long", "<pool>-<number>"},
		},
		"minSize at maxSize": {change: `spec: {minSize: 10}`},
		"minSize above maxSize": {
			change: `spec: {minSize: 11}`, refused: []string{"spec.minSize", "minSize (11) must not exceed maxSize (10)"},
		},
		"a negative minSize": {change: `spec: {minSize: -1}`, refused: []string{"spec.minSize", "-1", "greater than or equal to 0"}},
		"no maxSize":         {change: `spec: {maxSize: null}`, refused: []string{"spec.maxSize", "Required value"}},
		"maxSize 0":          {change: `spec: {minSize: 0, maxSize: 0}`},
		"maxSize 100000":     {change: `spec: {maxSize: 100000}`},
		"maxSize above 100000": {
			change: `spec: {maxSize: 100001}`, refused: []string{"spec.maxSize", "100001", "less than or equal to 100000"},
		},
		"replicas at maxSize": {change: `spec: {replicas: 10}`},
		"replicas above maxSize": {
			change: `spec: {replicas: 11}`, refused: []string{"spec.replicas", "replicas (11) must not be raised above maxSize (10)"},
		},
		"negative replicas":  {change: `spec: {replicas: -1}`, refused: []string{"spec.replicas", "-1", "greater than or equal to 0"}},
		"machines to delete": {change: `spec: {machinesToDelete: [hpc-a-0, hpc-a-1]}`},
		"a machine to delete twice": {
			change: `spec: {machinesToDelete: [hpc-a-0, hpc-a-0]}`, refused: []string{"spec.machinesToDelete[1]", "Duplicate value", "hpc-a-0"},
		},
		"too long a machine name": {
			change:  `spec: {machinesToDelete: [` + strings.Repeat("a", 254) + `]}`,
			refused: []string{"spec.machinesToDelete[0]", "Too long", "253"},
		},

		"no labels, no taints": {change: `spec: {template: {labels: null, taints: null}}`},
		"the pool label set by hand": {
			change:  `spec: {template: {labels: {autoscaling.flux-framework.org/node-pool: x}}}`,
			refused: []string{"spec.template.labels", "must not set autoscaling.flux-framework.org/node-pool", "the provider sets them"},
		},
		"the host name set by hand": {
			change:  `spec: {template: {labels: {kubernetes.io/hostname: x}}}`,
			refused: []string{"spec.template.labels", "kubernetes.io/hostname", "the provider sets them"},
		},
		"a taint without an effect": {
			change: `spec: {template: {taints: [{key: dedicated}]}}`, refused: []string{"spec.template.taints[0].effect", "Required value"},
		},
		"a taint of no known effect": {
			change:  `spec: {template: {taints: [{key: dedicated, effect: Never}]}}`,
			refused: []string{"spec.template.taints", "effect", "NoSchedule, PreferNoSchedule or NoExecute"},
		},
		"no template": {change: `spec: {template: null}`, refused: []string{"spec.template", "Required value"}},
		"no capacity": {
			change: `spec: {template: {capacity: null}}`, refused: []string{"spec.template.capacity", "Required value"},
		},
		"capacity without pods": {
			change: `spec: {template: {capacity: {pods: null}}}`, refused: []string{"spec.template.capacity", "must have cpu, memory and pods"},
		},
		"a negative capacity": {
			change: `spec: {template: {capacity: {memory: -1}}}`, refused: []string{"spec.template.capacity", "must not be negative"},
		},
		"a capacity in words": {
			change: `spec: {template: {capacity: {cpu: four}}}`, refused: []string{"spec.template.capacity.cpu", "four"},
		},
		"an extended resource":    {change: `spec: {template: {capacity: {example.com/fpga: 2}}}`},
		"less allocatable":        {change: `spec: {template: {allocatable: {cpu: 3500m}}}`},
		"allocatable at capacity": {change: `spec: {template: {allocatable: {cpu: "4", memory: 16Gi}}}`},
		"allocatable of what is not": {
			change:  `spec: {template: {allocatable: {example.com/fpga: 1}}}`,
			refused: []string{"spec.template.allocatable", "must not name a resource that template.capacity has not"},
		},
		"negative allocatable": {
			change: `spec: {template: {allocatable: {cpu: -1}}}`, refused: []string{"spec.template.allocatable", "must not be negative"},
		},

		"a price":            {change: `spec: {pricePerHour: "0.25"}`},
		"a whole price":      {change: `spec: {pricePerHour: 2}`},
		"a price of nothing": {change: `spec: {pricePerHour: 0}`},
		"a negative price":   {change: `spec: {pricePerHour: "-0.25"}`, refused: []string{"spec.pricePerHour", "must not be negative"}},
		"a price in euros":   {change: `spec: {pricePerHour: 3 EUR}`, refused: []string{"spec.pricePerHour", "3 EUR"}},
		"a longer timeout":   {change: `spec: {provisionTimeout: 1h30m}`},
		"a timeout of 0": {
			change:  `spec: {provisionTimeout: 0s}`,
			refused: []string{"spec.provisionTimeout", "provisionTimeout (0s) must be a duration of at least 1s"},
		},
		"a timeout in words": {
			change: `spec: {provisionTimeout: ten minutes}`,
			refused: []string{
				"spec.provisionTimeout", "provisionTimeout (ten minutes) must be a duration of at least 1s, for example 90s, 15m or 1h30m",
			},
		},
		"without autoscaler": {change: `spec: {autoscaler: None}`},
		"an unknown one": {
			change: `spec: {autoscaler: Karpenter}`, refused: []string{"spec.autoscaler", "Karpenter", `"ClusterAutoscaler", "None"`},
		},
		"no machines": {change: `spec: {machines: null}`, refused: []string{"spec.machines", "Required value"}},
		"machines of nobody": {
			change:  `spec: {machines: {kwok: null}}`,
			refused: []string{"spec.machines", "must name exactly one backend: kwok, karpenter or clusterAPI"},
		},
		"karpenter": {
			change: `spec: {machines: {kwok: null, karpenter: {nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: hpc}, requirements: [{key: karpenter.sh/capacity-type, operator: In, values: [on-demand]}, {key: x, operator: Exists}]}}}`,
		},
		"longer than Karpenter waits": {
			change:  `spec: {provisionTimeout: 16m, machines: {kwok: null, karpenter: {nodeClassRef: {group: g, kind: K, name: hpc}}}}`,
			refused: []string{"spec.provisionTimeout", "provisionTimeout (16m) must be at most 15m with machines.karpenter"},
		},
		"a Karpenter NodePool": {
			change:  `spec: {machines: {kwok: null, karpenter: {nodeClassRef: {group: g, kind: K, name: hpc}, requirements: [{key: karpenter.sh/nodepool, operator: Exists}]}}}`,
			refused: []string{"spec.machines.karpenter.requirements[0].key", "machines belong to no NodePool of Karpenter"},
		},
		"a label of Karpenter's": {
			change:  `spec: {template: {labels: {karpenter.sh/nodepool: general}}, machines: {kwok: null, karpenter: {nodeClassRef: {group: g, kind: K, name: hpc}}}}`,
			refused: []string{"spec.template.labels", "template.labels must not have karpenter.sh/nodepool"},
		},
		"values for Exists": {
			change:  `spec: {machines: {kwok: null, karpenter: {nodeClassRef: {group: g, kind: K, name: hpc}, requirements: [{key: x, operator: Exists, values: [z]}]}}}`,
			refused: []string{"spec.machines.karpenter.requirements[0].values", "which take none"},
		},
		"no values for In": {
			change:  `spec: {machines: {kwok: null, karpenter: {nodeClassRef: {group: g, kind: K, name: hpc}, requirements: [{key: x, operator: In}]}}}`,
			refused: []string{"spec.machines.karpenter.requirements[0].values", "values must be given"},
		},
		"no node class": {
			change: `spec: {machines: {kwok: null, karpenter: {}}}`, refused: []string{"spec.machines.karpenter.nodeClassRef", "Required value"},
		},
		"clusterAPI": {
			change: `spec: {machines: {kwok: null, clusterAPI: {namespace: capi, clusterName: c, infrastructureTemplateRef: {apiGroup: g, kind: XMachineTemplate, name: x}, bootstrap: {dataSecretName: s}}}}`,
		},
		"a Cluster's label": {
			change:  `spec: {template: {labels: {cluster.x-k8s.io/cluster-name: x}}, machines: {kwok: null, clusterAPI: {namespace: capi, clusterName: c, infrastructureTemplateRef: {apiGroup: g, kind: XMachineTemplate, name: x}, bootstrap: {dataSecretName: s}}}}`,
			refused: []string{"spec.template.labels", "template.labels must not have cluster.x-k8s.io/cluster-name, set-name"},
		},
		"a MachineSet's label": {
			change:  `spec: {template: {labels: {cluster.x-k8s.io/set-name: x}}, machines: {kwok: null, clusterAPI: {namespace: capi, clusterName: c, infrastructureTemplateRef: {apiGroup: g, kind: XMachineTemplate, name: x}, bootstrap: {dataSecretName: s}}}}`,
			refused: []string{"spec.template.labels", "template.labels must not have cluster.x-k8s.io/cluster-name, set-name"},
		},
		"a deployment's label": {
			change:  `spec: {template: {labels: {cluster.x-k8s.io/deployment-name: x}}, machines: {kwok: null, clusterAPI: {namespace: capi, clusterName: c, infrastructureTemplateRef: {apiGroup: g, kind: XMachineTemplate, name: x}, bootstrap: {dataSecretName: s}}}}`,
			refused: []string{"spec.template.labels", "template.labels must not have cluster.x-k8s.io/cluster-name, set-name"},
		},
		"a control plane's label": {
			change:  `spec: {template: {labels: {cluster.x-k8s.io/control-plane: x}}, machines: {kwok: null, clusterAPI: {namespace: capi, clusterName: c, infrastructureTemplateRef: {apiGroup: g, kind: XMachineTemplate, name: x}, bootstrap: {dataSecretName: s}}}}`,
			refused: []string{"spec.template.labels", "template.labels must not have cluster.x-k8s.io/cluster-name, set-name"},
		},
		"other labels there": {
			change: `spec: {template: {labels: {cluster.x-k8s.io/any: x, set-name: x}}, machines: {kwok: null, clusterAPI: {namespace: capi, clusterName: c, infrastructureTemplateRef: {apiGroup: g, kind: XMachineTemplate, name: x}, bootstrap: {dataSecretName: s}}}}`,
		},
		"a MachineSet's on others": {change: `spec: {template: {labels: {cluster.x-k8s.io/set-name: x}}}`},
		"two ways to boot": {
			change:  `spec: {machines: {kwok: null, clusterAPI: {namespace: capi, clusterName: c, infrastructureTemplateRef: {apiGroup: g, kind: XMachineTemplate, name: x}, bootstrap: {dataSecretName: s, templateRef: {apiGroup: g, kind: ZTemplate, name: z}}}}}`,
			refused: []string{"spec.machines.clusterAPI.bootstrap", "bootstrap must name exactly one of: templateRef, dataSecretName"},
		},
		"the kind of objects": {
			change:  `spec: {machines: {kwok: null, clusterAPI: {namespace: capi, clusterName: c, infrastructureTemplateRef: {apiGroup: g, kind: XMachine, name: x}, bootstrap: {dataSecretName: s}}}}`,
			refused: []string{"spec.machines.clusterAPI.infrastructureTemplateRef.kind", "kind must be that of a template"},
		},
		"two backends": {
			change:  `spec: {machines: {clusterAPI: {namespace: capi, clusterName: c, infrastructureTemplateRef: {apiGroup: g, kind: XMachineTemplate, name: x}, bootstrap: {dataSecretName: s}}}}`,
			refused: []string{"spec.machines", "must name exactly one backend: kwok, karpenter or clusterAPI"},
		},
		"an unknown backend": {
			change: `spec: {machines: {kwok: null, cloud: {}}}`, refused: []string{`unknown field "spec.machines.cloud"`},
		},
		"a negative bootDelay": {
			change:  `spec: {machines: {kwok: {bootDelay: -5s}}}`,
			refused: []string{"spec.machines.kwok.bootDelay", "bootDelay (-5s) must be a duration that is not negative"},
		},
		"a bootDelay in words": {
			change: `spec: {machines: {kwok: {bootDelay: soon}}}`,
			refused: []string{
				"spec.machines.kwok.bootDelay", "bootDelay (soon) must be a duration that is not negative, for example 0s, 500ms or 1m30s",
			},
		},
		"jitter": {change: `spec: {machines: {kwok: {bootJitter: 2s}}}`},
		"a negative jitter": {
			change:  `spec: {machines: {kwok: {bootJitter: -2s}}}`,
			refused: []string{"spec.machines.kwok.bootJitter", "bootJitter (-2s) must be a duration that is not negative"},
		},
		"a stock of 0": {change: `spec: {machines: {kwok: {stock: 0}}}`},
		"a negative stock": {
			change: `spec: {machines: {kwok: {stock: -1}}}`, refused: []string{"spec.machines.kwok.stock", "-1", "greater than or equal to 0"},
		},
		"failures": {change: `spec: {machines: {kwok: {failurePercent: 30, neverReadyPercent: 70, seed: 7}}}`},
		"too many failures": {
			change:  `spec: {machines: {kwok: {failurePercent: 31, neverReadyPercent: 70}}}`,
			refused: []string{"spec.machines.kwok.failurePercent", fates},
		},
		"all fates at 100": {
			change: `spec: {machines: {kwok: {failurePercent: 25, neverReadyPercent: 25, crashPercent: 25, spotPercent: 25, fateWithin: 1h, spotNotice: 2m}}}`,
		},
		"fates above 100": {
			change:  `spec: {machines: {kwok: {failurePercent: 25, neverReadyPercent: 25, crashPercent: 25, spotPercent: 26}}}`,
			refused: []string{fates},
		},
		"crashes above 100": {
			change:  `spec: {machines: {kwok: {crashPercent: 101}}}`,
			refused: []string{"spec.machines.kwok.crashPercent", "101", "less than or equal to 100"},
		},
		"negative crashes": {
			change:  `spec: {machines: {kwok: {crashPercent: -1}}}`,
			refused: []string{"spec.machines.kwok.crashPercent", "-1", "greater than or equal to 0"},
		},
		"spot above 100": {
			change:  `spec: {machines: {kwok: {spotPercent: 101}}}`,
			refused: []string{"spec.machines.kwok.spotPercent", "101", "less than or equal to 100"},
		},
		"more than all fail": {
			change:  `spec: {machines: {kwok: {failurePercent: 101}}}`,
			refused: []string{"spec.machines.kwok.failurePercent", "101", "less than or equal to 100"},
		},

		"all roles of the cloud": {
			change: `spec: {machines: {kwok: {nodeNames: Own, providerIDs: AtRegistration, stockout: Vanish, orders: Atomic, registration: Bare, callDelay: 30s, listingLag: 1m, listingFailurePercent: 100, throttlePercent: 90, lostReplyPercent: 90, terminationDelay: 5m, orphanPercent: 100}}}`,
		},
		"the defaults in words": {
			change: `spec: {machines: {kwok: {nodeNames: Machine, providerIDs: AtLaunch, stockout: Reply, orders: Single, registration: Tainted}}}`,
		},
		"unknown node names": {
			change: `spec: {machines: {kwok: {nodeNames: Any}}}`, refused: []string{"spec.machines.kwok.nodeNames", "Any", `"Machine", "Own"`},
		},
		"unknown provider IDs": {
			change:  `spec: {machines: {kwok: {providerIDs: Never}}}`,
			refused: []string{"spec.machines.kwok.providerIDs", "Never", `"AtLaunch", "AtRegistration"`},
		},
		"an unknown stockout": {
			change:  `spec: {machines: {kwok: {stockout: Silence}}}`,
			refused: []string{"spec.machines.kwok.stockout", "Silence", `"Reply", "Vanish"`},
		},
		"unknown orders": {
			change: `spec: {machines: {kwok: {orders: Double}}}`, refused: []string{"spec.machines.kwok.orders", "Double", `"Single", "Atomic"`},
		},
		"unknown registration": {
			change:  `spec: {machines: {kwok: {registration: None}}}`,
			refused: []string{"spec.machines.kwok.registration", "None", `"Tainted", "Bare"`},
		},
		"a negative call": {
			change:  `spec: {machines: {kwok: {callDelay: -1s}}}`,
			refused: []string{"spec.machines.kwok.callDelay", "callDelay (-1s) must be a duration that is not negative, for example 500ms or 30s"},
		},
		"a negative lag": {
			change:  `spec: {machines: {kwok: {listingLag: -1s}}}`,
			refused: []string{"spec.machines.kwok.listingLag", "listingLag (-1s) must be a duration that is not negative"},
		},
		"a lag in words": {
			change:  `spec: {machines: {kwok: {listingLag: short}}}`,
			refused: []string{"spec.machines.kwok.listingLag", "listingLag (short) must be a duration that is not negative"},
		},
		"a negative termination": {
			change: `spec: {machines: {kwok: {terminationDelay: -1s}}}`,
			refused: []string{
				"spec.machines.kwok.terminationDelay", "terminationDelay (-1s) must be a duration that is not negative, for example 30s or 5m",
			},
		},
		"a negative fateWithin": {
			change:  `spec: {machines: {kwok: {fateWithin: -1s}}}`,
			refused: []string{"spec.machines.kwok.fateWithin", "fateWithin (-1s) must be a duration that is not negative, for example 30s or 1h"},
		},
		"a notice in words": {
			change:  `spec: {machines: {kwok: {spotNotice: soon}}}`,
			refused: []string{"spec.machines.kwok.spotNotice", "spotNotice (soon) must be a duration that is not negative, for example 30s or 2m"},
		},
		"all listings fail": {
			change:  `spec: {machines: {kwok: {listingFailurePercent: 101}}}`,
			refused: []string{"spec.machines.kwok.listingFailurePercent", "101", "less than or equal to 100"},
		},
		"every call throttled": {
			change:  `spec: {machines: {kwok: {throttlePercent: 91}}}`,
			refused: []string{"spec.machines.kwok.throttlePercent", "91", "less than or equal to 90"},
		},
		"every reply lost": {
			change:  `spec: {machines: {kwok: {lostReplyPercent: 91}}}`,
			refused: []string{"spec.machines.kwok.lostReplyPercent", "91", "less than or equal to 90"},
		},
		"negative orphans": {
			change:  `spec: {machines: {kwok: {orphanPercent: -1}}}`,
			refused: []string{"spec.machines.kwok.orphanPercent", "-1", "greater than or equal to 0"},
		},

		"paused":           {change: `spec: {paused: true}`},
		"a misspelt field": {change: `spec: {minsize: 1}`, refused: []string{`unknown field "spec.minsize"`}},
		"no spec":          {change: `spec: null`, refused: []string{"spec", "Required value"}},
	})
}

func TestNodePoolDefaults(t *testing.T) {
	pool := create(t, edit(t, parse(t, validNodePool), `
metadata: {name: defaults}
spec: {minSize: null, machines: {kwok: {bootDelay: null}}}`))
	for path, want := range map[string]any{
		"spec.minSize":                    int64(0),
		"spec.replicas":                   int64(0),
		"spec.provisionTimeout":           "15m",
		"spec.autoscaler":                 "ClusterAutoscaler",
		"spec.machines.kwok.bootDelay":    "0s",
		"spec.machines.kwok.nodeNames":    "Machine",
		"spec.machines.kwok.providerIDs":  "AtLaunch",
		"spec.machines.kwok.stockout":     "Reply",
		"spec.machines.kwok.orders":       "Single",
		"spec.machines.kwok.registration": "Tainted",
		"spec.machines.kwok.callDelay":    nil,
		"spec.pricePerHour":               nil,
	} {
		if got := field(t, pool, path); got != want {
			t.Errorf("%s is %v, want %v", path, got, want)
		}
	}
}

func TestNodePoolWhoseMaxSizeSinksKeepsItsReplicas(t *testing.T) {
	pool := create(t, edit(t, parse(t, validNodePool), `{metadata: {name: sinking}, spec: {replicas: 8, autoscaler: None}}`))
	for _, step := range []struct {
		name, change string
		refused      []string
	}{
		{"maxSize below replicas", `spec: {maxSize: 4}`, nil},
		{"other fields may change", `spec: {pricePerHour: 1}`, nil},
		{"replicas may sink towards it", `spec: {replicas: 6}`, nil},
		{"replicas may not rise", `spec: {replicas: 7}`, []string{"replicas (7) must not be raised above maxSize (4)"}},
		{"replicas may sink below it", `spec: {replicas: 3}`, nil},
		{"and rise up to it again", `spec: {replicas: 4}`, nil},
		{"but not above", `spec: {replicas: 5}`, []string{"replicas (5) must not be raised above maxSize (4)"}},
	} {
		changed := edit(t, pool, step.change)
		err := server.client.Update(t.Context(), changed)
		t.Run(step.name, func(t *testing.T) { judge(t, err, step.refused) })
		if err == nil {
			pool = changed
		}
	}
}
