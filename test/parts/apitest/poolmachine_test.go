package apitest

import "testing"

const validMachine = `
apiVersion: autoscaling.flux-framework.org/v1alpha1
kind: PoolMachine
metadata: {name: hpc-a-0}
spec:
  nodePool: hpc-a
  purpose: Reservation
  order: {id: floor, size: 2, first: 0, last: 1}
  orderedAt: "2026-11-23T10:00:00.000000Z"
  templateHash: 4f1c
  template:
    capacity: {cpu: 4, memory: 16Gi, pods: 110}
  machines: {kwok: {bootDelay: 5s}}
`

func TestPoolMachineRules(t *testing.T) {
	check(t, validMachine, map[string]row{
		"as it is":               {change: `{}`},
		"for Cluster Autoscaler": {change: `spec: {purpose: Autoscaler, order: {id: autoscaler}}`},
		"for all or none":        {change: `spec: {order: {atomic: true, domain: topology.kubernetes.io/zone=a}}`},
		"an unknown purpose":     {change: `spec: {purpose: Fun}`, refused: []string{"spec.purpose", "Fun", `"Reservation", "Autoscaler"`}},
		"no purpose":             {change: `spec: {purpose: null}`, refused: []string{"spec.purpose", "Required value"}},
		"no pool":                {change: `spec: {nodePool: ""}`, refused: []string{"spec.nodePool", "at least 1 chars long"}},
		"no order":               {change: `spec: {order: null}`, refused: []string{"spec.order", "Required value"}},
		"an order of nobody":     {change: `spec: {order: {id: ""}}`, refused: []string{"spec.order.id", "at least 1 chars long"}},
		"an order of nothing":    {change: `spec: {order: {size: 0}}`, refused: []string{"spec.order.size", "greater than or equal to 1"}},
		"an order below 0":       {change: `spec: {order: {first: -1}}`, refused: []string{"spec.order.first", "greater than or equal to 0"}},
		"no time":                {change: `spec: {orderedAt: null}`, refused: []string{"spec.orderedAt", "Required value"}},
		"no hash":                {change: `spec: {templateHash: null}`, refused: []string{"spec.templateHash", "Required value"}},
		"no template":            {change: `spec: {template: null}`, refused: []string{"spec.template", "Required value"}},
		"half a template": {
			change: `spec: {template: {capacity: {memory: null}}}`, refused: []string{"spec.template.capacity", "must have cpu, memory and pods"},
		},
		"no machines": {change: `spec: {machines: null}`, refused: []string{"spec.machines", "Required value"}},
		"machines of nobody": {
			change:  `spec: {machines: {kwok: null}}`,
			refused: []string{"spec.machines", "must name exactly one backend: kwok, karpenter or clusterAPI"},
		},
		"a misspelt field":        {change: `spec: {nodepool: x}`, refused: []string{`unknown field "spec.nodepool"`}},
		"the name of a node here": {change: `spec: {nodeName: x}`, refused: []string{`unknown field "spec.nodeName"`}},
	})
}

func TestPoolMachineIsNotChangedAfterItsOrder(t *testing.T) {
	machine := create(t, edit(t, parse(t, validMachine), `metadata: {name: fixed}`))
	for name, row := range map[string]row{
		"its spec is fixed":    {change: `spec: {purpose: Autoscaler}`, refused: []string{"spec", "a machine is not changed after its order"}},
		"its metadata are not": {change: `metadata: {labels: {color: red}}`},
	} {
		t.Run(name, func(t *testing.T) {
			changed := edit(t, machine, row.change)
			judge(t, server.client.Update(t.Context(), changed), row.refused)
			if len(row.refused) == 0 {
				machine = changed
			}
		})
	}
	machine = edit(t, machine, `
status:
  providerID: kwok://hpc-a/i-1
  nodeName: ip-10-0-0-1.internal
  domain: topology.kubernetes.io/zone=a
  launchingAt: "2026-11-23T10:00:01.000000Z"
  leavingAt: "2026-11-23T11:00:00.000000Z"
  failure: {machine: fixed, time: "2026-11-23T11:02:00.000000Z", class: Other, code: SpotReclaimed, message: it is no more}
  conditions: [{type: Ready, status: "False", reason: Failed, message: it is no more, lastTransitionTime: "2026-11-23T11:02:00Z"}]`)
	if err := server.client.Status().Update(t.Context(), machine); err != nil {
		t.Errorf("writing the status: %v", err)
	}
}
