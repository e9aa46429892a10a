package apitest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
)

const validQueue = `
apiVersion: autoscaling.flux-framework.org/v1alpha1
kind: MemberQueue
metadata: {name: demo, namespace: default}
queue: {at: "2026-01-02T03:04:05.000000Z", by: pod demo-0, jobs: {sched: 4, run: 5}, waiting: {"4": 2}}
`

// table asks for an object the way kubectl does and returns what it prints by default: the columns but
// AGE, and their cells.
func table(t *testing.T, path string) (columns []string, cells []any) {
	t.Helper()
	transport, err := rest.HTTPClientFor(server.config)
	if err != nil {
		t.Fatal(err)
	}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.config.Host+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
	response, err := transport.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(response.Body)
	if closeErr := response.Body.Close(); err != nil || closeErr != nil {
		t.Fatal(err, closeErr)
	}
	var result metav1.Table
	if err := json.Unmarshal(content, &result); err != nil || len(result.Rows) != 1 {
		t.Fatalf("%s answered %s: %s (%v), want a table of one row", path, response.Status, content, err)
	}
	for i, column := range result.ColumnDefinitions {
		if column.Priority != 0 || column.Name == "AGE" {
			continue
		}
		columns = append(columns, column.Name)
		cell := result.Rows[0].Cells[i]
		if number, ok := cell.(float64); ok {
			cell = int(number)
		}
		cells = append(cells, cell)
	}
	return columns, cells
}

// kubectl runs it as the administrator does.
func kubectl(t *testing.T, arguments ...string) (string, error) {
	t.Helper()
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := controlplane.WriteKubeconfig(kubeconfig, server.config); err != nil {
		t.Fatal(err)
	}
	output, err := exec.CommandContext(t.Context(), server.kubectl,
		append([]string{"--kubeconfig=" + kubeconfig}, arguments...)...).CombinedOutput()
	return string(output), err
}

// TestNames: what is asked for often has a short name, and all of it has one name together.
func TestNames(t *testing.T) {
	create(t, edit(t, parse(t, validNodePool), `metadata: {name: named}`))
	create(t, edit(t, parse(t, validMachine), `metadata: {name: named}`))
	create(t, edit(t, parse(t, validInstance), `metadata: {name: named}`))
	create(t, edit(t, parse(t, validMember), `metadata: {name: named}`))
	const group = ".autoscaling.flux-framework.org/named"
	create(t, edit(t, parse(t, validQueue), `metadata: {name: named}`))
	pool, machine, instance, queue, member := "nodepool"+group, "poolmachine"+group, "kwokinstance"+group, "memberqueue"+group,
		"ensemblemember"+group
	for resource, want := range map[string][]string{
		"enp": {pool}, "pm": {machine}, "poolmachines": {machine}, "kwokinstances": {instance}, "mq": {queue},
		"ensemble-autoscaler": {member, instance, queue, pool, machine},
	} {
		output, err := kubectl(t, "get", resource, "--namespace=default", "-o", "name")
		if err != nil {
			t.Errorf("kubectl get %s: %v: %s", resource, err, output)
			continue
		}
		got := strings.Fields(output)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("kubectl get %s prints %v, want %v", resource, got, want)
		}
	}
}

func TestColumnsTellTheStory(t *testing.T) {
	const api = "/apis/autoscaling.flux-framework.org/v1alpha1"
	for name, test := range map[string]struct {
		object, path, status string
		columns              []string
		cells                []any
	}{
		"a NodePool that waits": {
			object: validNodePool, path: api + "/nodepools/columns",
			status: `
status:
  floor: 8
  reserved: 8
  replicas: 8
  ready: 2
  conditions: [{type: Ready, status: "False", reason: Provisioning, message: 6 machines are booting, lastTransitionTime: "2026-01-02T03:04:05Z"}]`,
			columns: []string{"Name", "MIN", "MAX", "TARGET", "FLOOR", "NODES", "RESERVED", "READY", "REASON"},
			cells:   []any{"columns", 1, 10, 0, 8, 2, 8, "False", "Provisioning"},
		},
		"an EnsembleMember that waits": {
			object: validMember, path: api + "/namespaces/default/ensemblemembers/columns",
			status: `
status:
  size: 2
  reserved: 4
  nodes: 2
  running: 1
  reservations: [{nodePool: hpc-b, nodes: 4}]
  pools: hpc-b 4
  conditions: [{type: Ready, status: "False", reason: WaitingForNodes, message: 2 of 4 nodes are Ready, lastTransitionTime: "2026-01-02T03:04:05Z"}]`,
			columns: []string{"Name", "DESIRED", "CURRENT", "NODES", "POOLS", "READY", "REASON"},
			cells:   []any{"columns", 4, 2, 2, "hpc-b 4", "False", "WaitingForNodes"},
		},
		"an EnsembleMember that is new": {
			object: validMember, path: api + "/namespaces/default/ensemblemembers/columns",
			columns: []string{"Name", "DESIRED", "CURRENT", "NODES", "POOLS", "READY", "REASON"},
			cells:   []any{"columns", 4, nil, nil, nil, nil, nil},
		},
		"what a member has told of its queue": {
			// An age that does not change.
			object: strings.Replace(validQueue, "2026-", "2226-", 1), path: api + "/namespaces/default/memberqueues/columns",
			columns: []string{"Name", "WAITING", "RUNNING", "ENDED", "REPORTED"},
			cells:   []any{"columns", 4, 5, nil, "<invalid>"},
		},
		"a PoolMachine that is new": {
			object: validMachine, path: api + "/poolmachines/columns",
			columns: []string{"Name", "POOL", "STATE", "NODE", "PURPOSE", "PROVIDER-ID"},
			cells:   []any{"columns", "hpc-a", nil, nil, "Reservation", nil},
		},
		"a PoolMachine that boots": {
			object: validMachine, path: api + "/poolmachines/columns",
			status: `
status:
  providerID: kwok://hpc-a/i-1
  conditions: [{type: Ready, status: "False", reason: Booting, message: its node does not exist yet, lastTransitionTime: "2026-01-02T03:04:05Z"}]`,
			columns: []string{"Name", "POOL", "STATE", "NODE", "PURPOSE", "PROVIDER-ID"},
			cells:   []any{"columns", "hpc-a", "Booting", nil, "Reservation", "kwok://hpc-a/i-1"},
		},
		"a PoolMachine that is Ready": {
			object: validMachine, path: api + "/poolmachines/columns",
			status: `
status:
  providerID: kwok://hpc-a/i-1
  nodeName: ip-10-0-0-1.internal
  conditions: [{type: Ready, status: "True", reason: Ready, message: its node is Ready, lastTransitionTime: "2026-01-02T03:04:05Z"}]`,
			columns: []string{"Name", "POOL", "STATE", "NODE", "PURPOSE", "PROVIDER-ID"},
			cells:   []any{"columns", "hpc-a", "Ready", "ip-10-0-0-1.internal", "Reservation", "kwok://hpc-a/i-1"},
		},
		"a KwokInstance that boots": {
			object: validInstance, path: api + "/kwokinstances/columns",
			columns: []string{"Name", "POOL", "MACHINE", "BOOT", "FATE", "NODE", "FAILURE", "REGISTERED"},
			cells:   []any{"columns", "hpc-a", "hpc-a-0", "5s", "Ready", "hpc-a-0", nil, nil},
		},
		"a KwokInstance that has failed": {
			object: validInstance, path: api + "/kwokinstances/columns",
			status:  `status: {failure: {machine: hpc-a-0, time: "2026-11-23T10:00:05.000000Z", class: Other, code: Crashed, message: it is no more}}`,
			columns: []string{"Name", "POOL", "MACHINE", "BOOT", "FATE", "NODE", "FAILURE", "REGISTERED"},
			cells:   []any{"columns", "hpc-a", "hpc-a-0", "5s", "Ready", "hpc-a-0", "Crashed", nil},
		},
	} {
		t.Run(name, func(t *testing.T) {
			object := create(t, edit(t, parse(t, test.object), `metadata: {name: columns}`))
			if test.status != "" {
				if err := server.client.Status().Update(t.Context(), edit(t, object, test.status)); err != nil {
					t.Fatalf("writing the status: %v", err)
				}
			}
			columns, cells := table(t, test.path)
			if !slices.Equal(columns, test.columns) {
				t.Errorf("columns %v, want %v", columns, test.columns)
			}
			if fmt.Sprint(cells) != fmt.Sprint(test.cells) {
				t.Errorf("cells %v, want %v", cells, test.cells)
			}
		})
	}
}
