package apitest

import "testing"

const validInstance = `
apiVersion: autoscaling.flux-framework.org/v1alpha1
kind: KwokInstance
metadata: {name: hpc-a-0}
spec:
  cluster: 0b5c7a2e
  nodePool: hpc-a
  machine: hpc-a-0
  token: 7d1f
  providerID: kwok://hpc-a/hpc-a-0
  nodeName: hpc-a-0
  launchedAt: "2026-11-23T10:00:00.000000Z"
  bootDelay: 5s
  template:
    capacity: {cpu: 4, memory: 16Gi, pods: 110}
  machines: {bootDelay: 5s}
`

func TestKwokInstanceRules(t *testing.T) {
	check(t, validInstance, map[string]row{
		"as it is":              {change: `{}`},
		"one of nobody":         {change: `spec: {cluster: null, machine: null, token: null}`},
		"one that fails":        {change: `spec: {fate: BootFailure}`},
		"one that crashes":      {change: `spec: {fate: Crash, fateDelay: 1m}`},
		"one that is reclaimed": {change: `spec: {fate: SpotReclaim, fateDelay: 1m}`},
		"an unknown fate": {change: `spec: {fate: Doom}`,
			refused: []string{"spec.fate", "Doom", `"Ready", "OutOfStock", "BootFailure", "NeverReady", "Crash", "SpotReclaim"`}},
		"no pool":        {change: `spec: {nodePool: ""}`, refused: []string{"spec.nodePool", "at least 1 chars long"}},
		"no provider ID": {change: `spec: {providerID: ""}`, refused: []string{"spec.providerID", "at least 1 chars long"}},
		"no node name":   {change: `spec: {nodeName: null}`, refused: []string{"spec.nodeName", "Required value"}},
		"no time":        {change: `spec: {launchedAt: null}`, refused: []string{"spec.launchedAt", "Required value"}},
		"no template":    {change: `spec: {template: null}`, refused: []string{"spec.template", "Required value"}},
		"half a template": {
			change: `spec: {template: {capacity: {memory: null}}}`, refused: []string{"spec.template.capacity", "must have cpu, memory and pods"},
		},
		"no machines": {change: `spec: {machines: null}`, refused: []string{"spec.machines", "Required value"}},
	})
}

func TestKwokInstanceIsNotChangedAfterItsLaunch(t *testing.T) {
	instance := create(t, edit(t, parse(t, validInstance), `{metadata: {name: fixed}, spec: {bootDelay: null}}`))
	for path, want := range map[string]any{"spec.bootDelay": "0s", "spec.fate": "Ready"} {
		if got := field(t, instance, path); got != want {
			t.Errorf("%s is %v, want %v", path, got, want)
		}
	}
	judge(
		t, server.client.Update(t.Context(), edit(t, instance, `spec: {fate: Crash}`)),
		[]string{"spec", "an instance is not changed after its launch"},
	)
	instance = edit(
		t, instance,
		`status: {registeredAt: "2026-11-23T10:00:05.000000Z", leavingAt: "2026-11-23T10:00:05.000000Z", terminatingAt: "2026-11-23T10:00:05.000000Z"}`,
	)
	if err := server.client.Status().Update(t.Context(), instance); err != nil {
		t.Errorf("writing the status: %v", err)
	}
}
