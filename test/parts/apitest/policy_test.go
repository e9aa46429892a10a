package apitest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// applyManifest applies what a file of the manifests has, but for policies that change what they see.
func applyManifest(t *testing.T, directory, file string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "manifests", directory, file))
	if err != nil {
		t.Fatal(err)
	}
	for document := range strings.SplitSeq(string(text), "\n---\n") {
		object := parse(t, document)
		if strings.HasPrefix(object.GetKind(), "Mutating") {
			continue
		}
		if err := server.client.Apply(
			t.Context(), client.ApplyConfigurationFromUnstructured(object), client.FieldOwner("test"), client.ForceOwnership,
		); err != nil {
			t.Fatal(err)
		}
	}
}

// TestWhoMayWriteTheTarget: where Cluster Autoscaler decides on a NodePool's target, the provider alone writes it;
// everybody else is told what to do instead. With autoscaler None the user may, by hand and with kubectl scale.
func TestWhoMayWriteTheTarget(t *testing.T) {
	applyManifest(t, "provider", "admission.yaml")
	decided := create(t, edit(t, parse(t, validNodePool), `{metadata: {name: decided}, spec: {replicas: 2}}`))
	byHand := create(t, edit(t, parse(t, validNodePool), `{metadata: {name: by-hand}, spec: {replicas: 2, autoscaler: None}}`))
	enforced(t, decided)

	const instead = "set spec.minSize or spec.maxSize, or spec.autoscaler to None"
	const provider = "system:serviceaccount:ensemble-autoscaler-system:provider"
	for name, row := range map[string]struct {
		pool    *unstructured.Unstructured
		user    string
		change  string
		refused []string
	}{
		"a user's target": {
			decided, "alice", `spec: {replicas: 3}`, []string{"spec.replicas (2) cannot be changed to 3", instead},
		},
		"a user's bounds":                             {decided, "alice", `spec: {minSize: 0, maxSize: 9}`, nil},
		"a user's target with autoscaler None":        {byHand, "alice", `spec: {replicas: 3}`, nil},
		"a user's target and autoscaler None at once": {decided, "alice", `spec: {replicas: 3, autoscaler: None}`, nil},
		"a user's victims": {
			byHand, "alice", `spec: {machinesToDelete: [by-hand-0]}`, []string{"spec.machinesToDelete is written by the provider alone"},
		},
		"a user's part for members": {
			byHand, "alice", `spec: {replicasForMembers: 1}`, []string{"spec.replicasForMembers is written by the provider alone"},
		},
		"the provider's target": {
			decided, provider, `spec: {replicas: 1, replicasForMembers: 1, machinesToDelete: [decided-0]}`, nil,
		},
		"the ServiceAccount of that name elsewhere": {
			decided, "system:serviceaccount:default:provider", `spec: {replicas: 1}`, []string{"spec.replicas (2) cannot be changed to 1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			judge(t, as(t, row.user).Update(t.Context(), edit(t, row.pool, row.change), client.DryRunAll), row.refused)
		})
	}

	scale := func(ctx context.Context, pool *unstructured.Unstructured, size int) error {
		body := parse(t, fmt.Sprintf("{apiVersion: autoscaling/v1, kind: Scale, spec: {replicas: %d}}", size))
		return server.client.SubResource("scale").Update(ctx, pool, client.WithSubResourceBody(body))
	}
	judge(
		t, scale(t.Context(), decided, 4),
		[]string{"NodePool decided cannot be scaled by hand: Cluster Autoscaler decides on its size", instead},
	)
	judge(t, scale(t.Context(), byHand, 4), nil)
}

// enforced waits until the API server, which learns of policies by watching, refuses to change a pool's target.
func enforced(t *testing.T, pool *unstructured.Unstructured) {
	t.Helper()
	body := parse(t, "{apiVersion: autoscaling/v1, kind: Scale, spec: {replicas: 2}}")
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 5*time.Minute, true, func(ctx context.Context) (bool, error) {
		edited := server.client.Update(ctx, edit(t, pool, `spec: {replicas: 3}`), client.DryRunAll)
		scaled := server.client.SubResource("scale").Update(ctx, pool, client.WithSubResourceBody(body.DeepCopy()), client.DryRunAll)
		return apierrors.IsForbidden(edited) && apierrors.IsForbidden(scaled), nil
	})
	if err != nil {
		t.Fatalf("the policies are not enforced: %v", err)
	}
}
