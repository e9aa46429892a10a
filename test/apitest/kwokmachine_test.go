package apitest

import "testing"

const validMachine = `
apiVersion: autoscaling.flux-framework.org/v1alpha1
kind: KwokMachine
metadata: {name: hpc-a-0}
spec:
  nodePool: hpc-a
  providerID: kwok://hpc-a/hpc-a-0
  purpose: Reservation
  orderedAt: "2026-11-23T10:00:00.000000Z"
  bootDelay: 5s
  template:
    capacity: {cpu: 4, memory: 16Gi, pods: 110}
`

func TestKwokMachineRules(t *testing.T) {
	check(t, validMachine, map[string]row{
		"as it is":               {change: `{}`},
		"for Cluster Autoscaler": {change: `spec: {purpose: Autoscaler}`},
		"that fails":             {change: `spec: {fate: BootFailure}`},
		"an unknown fate":        {change: `spec: {fate: Doom}`, refused: []string{"spec.fate", "Doom", `"Ready", "OutOfStock", "BootFailure", "NeverReady"`}},
		"an unknown purpose":     {change: `spec: {purpose: Fun}`, refused: []string{"spec.purpose", "Fun", `"Reservation", "Autoscaler"`}},
		"no purpose":             {change: `spec: {purpose: null}`, refused: []string{"spec.purpose", "Required value"}},
		"no pool":                {change: `spec: {nodePool: ""}`, refused: []string{"spec.nodePool", "at least 1 chars long"}},
		"no provider ID":         {change: `spec: {providerID: ""}`, refused: []string{"spec.providerID", "at least 1 chars long"}},
		"no time":                {change: `spec: {orderedAt: null}`, refused: []string{"spec.orderedAt", "Required value"}},
		"no template":            {change: `spec: {template: null}`, refused: []string{"spec.template", "Required value"}},
		"half a template":        {change: `spec: {template: {capacity: {memory: null}}}`, refused: []string{"spec.template.capacity", "must have cpu, memory and pods"}},
	})
}

func TestKwokMachineIsNotChangedAfterItsOrder(t *testing.T) {
	machine := create(t, edit(t, parse(t, validMachine), `{metadata: {name: fixed}, spec: {bootDelay: null}}`))
	if got := field(t, machine, "spec.bootDelay"); got != "0s" {
		t.Errorf("spec.bootDelay is %v, want 0s", got)
	}
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
	machine = edit(t, machine, `status: {registeredAt: "2026-01-02T03:04:05Z"}`)
	if err := server.client.Status().Update(t.Context(), machine); err != nil {
		t.Errorf("writing the status: %v", err)
	}
}
