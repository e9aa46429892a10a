package system_test

import (
	"context"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
)

const barePoolText = `
apiVersion: autoscaling.flux-framework.org/v1alpha1
kind: NodePool
metadata: {name: bare}
spec: {maxSize: 4, replicas: 2, autoscaler: None, template: {capacity: {cpu: "4", memory: 16Gi, pods: "110"}},
  machines: {kwok: {bootDelay: 0s, registration: Bare}}}
`

// TestBareNodes: with the rights and the policies of manifests/ the provider labels nodes that register without the label of their pool,
// and deletes one that never got it: its machine was told to go at once, and its cloud leaves the node.
func TestBareNodes(t *testing.T) {
	t.Parallel()
	s, err := system.Start(t.Context(), system.Options{Progress: os.Stderr, LogDir: t.ArtifactDir(), ProviderOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	if err := s.Client.Create(t.Context(), objectOf(t, barePoolText)); err != nil {
		t.Fatal(err)
	}
	var machines v1alpha1.PoolMachineList
	ofPool := client.MatchingLabels{v1alpha1.LabelNodePool: "bare"}
	until(t, func(ctx context.Context) (bool, error) {
		var nodes corev1.NodeList
		if err := s.Client.List(ctx, &nodes, ofPool); err != nil {
			return false, err
		}
		if err := s.Client.List(ctx, &machines, ofPool); err != nil {
			return false, err
		}
		registered := 0
		for i := range machines.Items {
			if machines.Items[i].Status.NodeName != "" {
				registered++
			}
		}
		return len(nodes.Items) == 2 && registered == 2, nil
	})

	if err := s.Provider.Kill(); err != nil {
		t.Fatal(err)
	}
	going := &machines.Items[0]
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: going.Status.NodeName}}
	if err := patch(
		t.Context(), s.Client, node, `{"metadata":{"ownerReferences":null,"labels":{"`+v1alpha1.LabelNodePool+`":null}}}`,
	); err != nil {
		t.Fatal(err)
	}
	if err := s.Client.Delete(t.Context(), going); err != nil {
		t.Fatal(err)
	}
	if err := s.RestartProvider(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, func(ctx context.Context) (bool, error) {
		var after corev1.Node
		switch err := s.Client.Get(ctx, client.ObjectKeyFromObject(node), &after); {
		case client.IgnoreNotFound(err) != nil:
			return false, err
		case err == nil && after.UID == node.UID:
			return false, nil
		}
		var record v1alpha1.PoolMachine
		err := s.Client.Get(ctx, client.ObjectKeyFromObject(going), &record)
		return (err != nil || record.UID != going.UID), client.IgnoreNotFound(err)
	})
	log, err := os.ReadFile(s.Plane.LogDir() + "/provider.log")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(log)) {
		if strings.Contains(line, "forbidden") {
			t.Errorf("the provider lacks a right: %s", line)
		}
	}
}
